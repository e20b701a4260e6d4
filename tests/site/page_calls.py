"""Requests that a browser would send to pages, without a browser."""

import re

import httpx2 as httpx


class PageClient:
    """A client that is signed in."""

    def __init__(self, base_url, key):
        self.http = httpx.Client(base_url=base_url, timeout=60)
        token = form_token(self.http.get("/sign-in").text)
        signed_in = self.http.post("/sign-in", data={"form_token": token, "api_key": key})
        assert signed_in.status_code == 303, signed_in.text
        self.token = form_token(self.http.get("/docs").text)

    def post(self, path, fields=None, *, token=None, **options):
        """Send a form with its token first, as pages do."""
        return self.http.post(
            path, data={"form_token": self.token if token is None else token, **(fields or {})}, **options
        )

    def upload(self, *files, token=None, **fields):
        """Upload (name, content) as files."""
        return self.post("/upload", fields, token=token, files=[("files", file) for file in files])

    def cookie(self):
        """The value of the Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())


def form_token(html):
    """The token of the first form of a page."""
    return re.search(r'name="form_token" value="([^"]+)"', html)[1]
