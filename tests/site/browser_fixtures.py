"""Fixtures of a real browser; a file loads them with
`pytest_plugins = ["tests.api_fixtures", "tests.site.browser_fixtures"]`.
"""

import pytest

from tests.site.browser import Visitor, find_chromium


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; skips the test where none is installed.

    It ends with the module, because its driver has an event loop in this thread, beside which no other can run.
    """
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium found: install it (apt-get install chromium) or set PROMPTREEL_TEST_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def visit(browser, world):
    """Open windows that are signed in to the account of `world`: `visit(width=375)`."""
    opened = []

    def open_window(width=1440, key=None):
        visitor = Visitor(browser, world.service.base_url, width)
        opened.append(visitor)
        return visitor.sign_in(key or world.caller.key)

    yield open_window
    for visitor in opened:
        visitor.close()
