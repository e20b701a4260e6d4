"""The methods of both clients, and what importing them loads."""

import asyncio
import functools
import inspect
import subprocess
import sys
import typing
from typing import Any

from promptreel import AsyncPromptReel, PromptReel
from tests.sdk.bodies import KEY
from tests.sdk.client_methods import public_methods


def test_both_clients_have_the_same_documented_methods():
    with PromptReel(KEY) as client:
        async_client = AsyncPromptReel(KEY)
        methods = public_methods(client)
        assert methods == public_methods(async_client)
        assert len(methods) > 60
        for path in methods:
            method, async_method = client, async_client
            for name in path.split("."):
                method, async_method = getattr(method, name), getattr(async_method, name)
            assert method.__doc__, path
            assert inspect.iscoroutinefunction(async_method) or path == "events.stream", path
        asyncio.run(async_client.close())


def test_every_method_is_plain_and_fully_typed():
    with PromptReel(KEY) as client:
        async_client = AsyncPromptReel(KEY)
        for root in (client, async_client):
            for path in public_methods(root):
                method = functools.reduce(getattr, path.split("."), root)
                assert method.__code__.co_name == method.__name__ == path.rsplit(".", 1)[-1], path
                assert inspect.getsourcefile(method) == inspect.getsourcefile(type(method.__self__)), path
                types = typing.get_type_hints(method)
                assert {"return", *inspect.signature(method).parameters} == set(types), path
                assert Any not in types.values() or path == "prompts.test_schema", path
                assert not inspect.signature(method).parameters.keys() & {"args", "kwargs"}, path
        asyncio.run(async_client.close())


def test_command_line_does_not_import_the_client():
    code = (
        "import sys, promptreel, promptreel.cli.main; print('httpx2' in sys.modules, 'promptreel.sdk' in sys.modules)"
    )
    code += "; print(promptreel.PromptReel.__module__, hasattr(promptreel, 'Nothing'))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "False", "promptreel.sdk.client", "False"]


def test_client_imports_no_slow_modules():
    code = "import sys; from promptreel import PromptReel; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("promptreel.").split(".")[0] for name in process.stdout.split()}
    assert {"promptreel", "schemas", "pydantic"} <= loaded
    heavy = {
        "api",
        "tables",
        "media",
        "providers",
        "pyarrow",
        "duckdb",
        "numpy",
        "torch",
        "apache_beam",
        "google",
        "av",
    }
    assert not heavy & loaded
