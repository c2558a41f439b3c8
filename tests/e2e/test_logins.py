# SPDX-License-Identifier: Apache-2.0
"""G13: people of a real OpenID Provider sign in with a browser and with a command, and their jobs are governed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.identity import oidc
from tests.identity.person import Page, Person
from tests.own_plane import OwnPlane

PEOPLE = {
    "ann": {"roles": ["quantum-engineer"], "preferred_username": "ann@example.org", "team": "optics"},
    "bob": {"roles": ["auditor"], "preferred_username": "bob@example.org"},
}
SESSION, BEGUN = "__Host-qcos", "__Host-qcos-login"


@pytest.fixture(scope="module")
def company() -> Iterator[oidc.Provider]:
    """A provider with one client for browsers and one for commands."""
    logout: dict[str, Any] = {
        "backchannel_logout_uri": "http://127.0.0.1/not/said/yet",
        "backchannel_logout_session_required": True,
    }
    with oidc.running([oidc.web("qcos-web", **logout), oidc.cli()], PEOPLE) as provider:
        yield provider


@pytest.fixture(scope="module")
def plane(company: oidc.Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlane]:
    """A plane that trusts it."""
    folder = tmp_path_factory.mktemp("logins")
    (folder / "secret").write_text(oidc.SECRET + "\n")
    table = company.table(client_id="qcos-web", client_secret_file=str(folder / "secret"), cli_client_id="qcos-cli")
    with OwnPlane(folder / "home", config=table, QCOS_WORKERS="1").running() as plane:
        company.callback(f"{plane.record.url}/auth/callback/company")
        yield plane


def at_provider(person: Person, page: Page, name: str) -> Page:
    """Type a name and a password at the provider's form; where that leads."""
    return person.send(page, login=name, password="any")


def signed_in(plane: OwnPlane, name: str = "ann") -> tuple[Person, Page]:
    """Somebody whose browser has just signed in."""
    person = Person()
    page = at_provider(person, person.open(f"{plane.record.url}/auth/login?provider=company"), name)
    assert page.status == 200, page
    return person, page


def jar(plane: OwnPlane, person: Person) -> dict[str, str]:
    """What the browser keeps for the plane."""
    place = urlsplit(plane.record.url)
    return person.cookies[(str(place.hostname), place.port or 80)]


def test_a_browser_signs_in_and_sees_who_it_is(plane: OwnPlane, company: oidc.Provider) -> None:
    person = Person()
    page = person.open(f"{plane.record.url}/auth")
    assert page.url.startswith(f"{plane.record.url}/auth/login?next=")
    assert "Sign in with company" in page.text
    at = person.open(f"{plane.record.url}/auth/login?provider=company&next=/auth")
    asked = parse_qs(urlsplit(next(url for url in person.seen if url.startswith(f"{company.issuer}/auth?"))).query)
    assert (asked["code_challenge_method"], asked["response_type"]) == (["S256"], ["code"])
    assert asked["state"] != asked["nonce"]
    page = at_provider(person, at, "ann")
    assert page.url == f"{plane.record.url}/auth"
    assert "user:ann@example.org" in page.text
    assert "quantum-engineer" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert SESSION in jar(plane, person)
    assert BEGUN not in jar(plane, person)
