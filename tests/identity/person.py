# SPDX-License-Identifier: Apache-2.0
"""A person at a browser without its scripts: follows redirects, keeps cookies, fills in the one form of a page.

For tests of logins that need no real browser. Cookies are kept by host and name, `Secure` ones on loopback too, as
browsers do.
"""

from __future__ import annotations

from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from msgspec import Struct

MOST_STEPS = 20


class Page(Struct, frozen=True):
    """What came back in the end."""

    url: str
    status: int
    headers: dict[str, str]
    text: str


class Form(Struct):
    """One form of a page: where it goes, and its fields as they stand."""

    action: str
    method: str
    fields: dict[str, str]


class _Forms(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.found.append(Form(given.get("action", ""), given.get("method", "get").upper(), {}))
        elif tag == "input" and given.get("name") and self.found:
            self.found[-1].fields[given["name"]] = given.get("value", "")


def forms(page: Page) -> list[Form]:
    """The forms of a page, in its order."""
    return _Forms(page.text).found


class Person:
    """One browser, with what it remembers."""

    def __init__(self) -> None:
        self.cookies: dict[tuple[str, int], dict[str, str]] = {}
        self.seen: list[str] = []

    def open(self, url: str, *, follow: bool = True, **headers: str) -> Page:
        """GET, and where that leads."""
        return self._walk("GET", url, None, headers, follow=follow)

    def send(self, page: Page, form: Form | None = None, *, follow: bool = True, **fields: str) -> Page:
        """Send a form of the page, the first unless another is given, with these fields filled in."""
        chosen = form or forms(page)[0]
        body = urlencode(chosen.fields | fields)
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        return self._walk(chosen.method, urljoin(page.url, chosen.action), body, headers, follow=follow)

    def _walk(self, method: str, url: str, body: str | None, headers: dict[str, str], *, follow: bool) -> Page:
        for _ in range(MOST_STEPS):
            page = self._once(method, url, body, headers)
            if not (follow and page.status in (301, 302, 303, 307) and "location" in page.headers):
                return page
            method, body, headers = "GET", None, {}
            url = urljoin(url, page.headers["location"])
        raise AssertionError(f"redirected on and on: {self.seen[-3:]}")

    def _once(self, method: str, url: str, body: str | None, headers: dict[str, str]) -> Page:
        self.seen.append(url)
        place = urlsplit(url)
        jar = self.cookies.setdefault((str(place.hostname), place.port or 80), {})
        sent = {"Accept": "text/html", **headers} | (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        )
        connection = HTTPConnection(str(place.hostname), place.port, timeout=30)
        try:
            target = place.path or "/"
            connection.request(method, f"{target}?{place.query}" if place.query else target, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        _remember(jar, answer)
        return Page(url, answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)


def _remember(jar: dict[str, str], answer: HTTPResponse) -> None:
    for name, value in answer.getheaders():
        if name.lower() != "set-cookie":
            continue
        for key, morsel in SimpleCookie(value).items():
            if morsel["max-age"] == "0" or not morsel.value:
                jar.pop(key, None)
            else:
                jar[key] = morsel.value
