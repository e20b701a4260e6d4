"""A real Chromium for tests of pages.

The fixtures are in tests/site/browser_fixtures.py.
"""

import os
import shutil
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (375, 1440)
SERIOUS = {"serious", "critical"}


def find_chromium():
    """Path of the Chromium of this machine, or of `PROMPTREEL_TEST_CHROMIUM`; None without one."""
    return os.environ.get("PROMPTREEL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Visitor:
    """One browser window at a service, which notes what a page must never do.

    Attributes:
        problems: console errors, uncaught exceptions, dialogs, and requests to other hosts.
    """

    def __init__(self, browser, base_url, width=1440, height=900, **options):
        self.base_url = base_url
        self.context = browser.new_context(viewport={"width": width, "height": height}, base_url=base_url, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems = []
        self.page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", self._note)

    def _dismiss(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note(self, request):
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(self.base_url).netloc:
            self.problems.append(f"request to another host: {request.url}")

    def sign_in(self, key):
        self.page.goto("/sign-in")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/runs")
        return self

    def open(self, path):
        """Open a page of the service and check its status."""
        response = self.page.goto(path)
        assert response.status == 200, f"{path}: {response.status}"
        return self.page

    def close(self):
        self.context.close()


def check_accessible(page):
    """Check a page with axe-core: no serious violation of its rules."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = [
        (rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found if rule["impact"] in SERIOUS
    ]
    assert not serious, serious


def check_fits(page):
    """Check that a page does not scroll sideways."""
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, f"{page.url} is {width} px too wide"


def check_page(visitor, path):
    """Open a page and check what holds for every page: see `Visitor.problems`, `check_accessible`, `check_fits`."""
    page = visitor.open(path)
    check_accessible(page)
    check_fits(page)
    assert not visitor.problems, visitor.problems
    return page
