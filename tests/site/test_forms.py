"""Every form is protected against requests of other sites."""

import importlib
import pkgutil
import re

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from promptreel.api import site
from promptreel.api.web.paths import is_page
from tests.site.page_calls import PageClient

pytest_plugins = ["tests.api_fixtures"]


def form_paths():
    """The paths of all forms but the one that signs in, which has its own tests."""
    modules = [
        importlib.import_module(f"{site.__name__}.{module.name}") for module in pkgutil.iter_modules(site.__path__)
    ]
    routers = [value for module in modules for value in vars(module).values() if isinstance(value, APIRouter)]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    paths = {re.sub(r"{\w+}", "x", route.path) for route in routes if "POST" in route.methods}
    return sorted(paths - {"/sign-in"})


@pytest.fixture(scope="module")
def client(service):
    return PageClient(service.base_url, service.caller().key)


def test_all_forms_are_known():
    assert len(form_paths()) >= 10
    assert all(map(is_page, form_paths()))


@pytest.mark.parametrize("path", form_paths())
def test_form_needs_its_token(client, path):
    options = {"files": {"files": ("a.png", b"x")}} if path == "/upload" else {}
    for token in ("", "x"):
        response = client.post(path, token=token, **options)
        assert response.status_code == 403
        assert "form_rejected" in response.text


@pytest.mark.parametrize("path", form_paths())
@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}])
def test_form_of_another_site_is_rejected(client, path, headers):
    response = client.post(path, headers=headers)
    assert response.status_code == 403
    assert "form_rejected" in response.text
