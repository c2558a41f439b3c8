# SPDX-License-Identifier: Apache-2.0
"""G13: people of a real OpenID Provider sign in with a browser and with a command, and their jobs are governed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from control_plane import kept_login
from control_plane.client import Answered, Client
from control_plane.device_login import at_issuer, at_plane, metadata_of, revoked
from control_plane.errors import NotSignedIn
from tests.e2e.plane import EXAMPLES
from tests.identity import oidc
from tests.identity.person import Page, Person, forms
from tests.own_plane import OwnPlane, until

PEOPLE = {
    "ann": {"roles": ["quantum-engineer"], "preferred_username": "ann@example.org", "team": "optics"},
    "bob": {"roles": ["auditor"], "preferred_username": "bob@example.org"},
}
WAYS, NAME = ("GET", "/api/v1/auth/providers"), "company"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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
    away = oidc.Provider(company.process, "http://127.0.0.1:9").table(name="away", client_id="qcos-web")
    with OwnPlane(folder / "home", config=table + away, QCOS_WORKERS="1").running() as plane:
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


def test_a_login_that_this_browser_did_not_begin_is_refused(plane: OwnPlane) -> None:
    """Login CSRF, mix-up, replay: state, provider and code each bind the answer to this browser's own question."""
    base = plane.record.url
    victim, thief = Person(), Person()
    back = at_provider_without_return(thief, f"{base}/auth/login?provider=company")
    refused = [
        victim.open(back),  # no cookie of a login
        thief.open(back.replace("state=", "state=x")),
        thief.open(back.partition("&iss=")[0]),  # this provider always names itself
        thief.open(back.replace("iss=", "iss=http%3A%2F%2Felsewhere%2F&was=")),
        thief.open(f"{base}/auth/callback/company?error=access_denied&state={thief_state(back)}&iss={iss(back)}"),
        thief.open(f"{base}/auth/callback/other?{urlsplit(back).query}"),
    ]
    assert [page.status for page in refused] == [400, 400, 400, 400, 400, 404]
    assert all(SESSION not in jar(plane, person) for person in (victim, thief))
    assert all("Traceback" not in page.text and "text/html" in page.headers["content-type"] for page in refused)
    assert thief.open(back).status == 200  # the code is still good for the browser that it was given to
    assert thief.open(back).status == 400  # once
    begun = thief.open(f"{base}/auth/login?provider=nobody")
    assert begun.status == 404


def at_provider_without_return(person: Person, url: str) -> str:
    """Sign in at the provider; the address that it sends the browser back to, not followed."""
    page = person.open(url)
    while page.status == 200:
        page = person.send(page, login="ann", password="any", follow=False)
        while page.status == 303 and "/auth/callback/" not in page.headers["location"]:
            page = person.open(page.headers["location"], follow=False)
    return page.headers["location"]


def thief_state(back: str) -> str:
    """The state in an address of a callback."""
    return parse_qs(urlsplit(back).query)["state"][0]


def iss(back: str) -> str:
    """The issuer in an address of a callback."""
    return back.partition("iss=")[2]


def test_what_changes_something_comes_from_a_page_of_the_plane(plane: OwnPlane) -> None:
    """S1, CSRF: by Origin and by the session's word, for the pages' forms and for the API alike."""
    person, page = signed_in(plane)
    base = plane.record.url
    spec = json.loads((EXAMPLES / "bell.json").read_bytes())
    word, cookies = forms(page)[0].fields["csrf"], "; ".join(f"{k}={v}" for k, v in jar(plane, person).items())

    def submit(**headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return plane.raw("POST", "/api/v1/jobs?wait=60", spec, {"Cookie": cookies, **named})

    for given in ({}, {"Origin": base}, {"X_QCOS_CSRF": word}, {"Origin": "https://evil.example", "X_QCOS_CSRF": word}):
        status, problem = submit(**given)
        assert (status, problem["code"]) == (403, "csrf_refused"), given
    status, job = submit(Origin=base, X_QCOS_CSRF=word)
    assert (status, job["state"]) == (200, "COMPLETED"), job
    assert job["decision"]["allow"]
    out = forms(page)[0]
    for wrong in ("", "x" * 43):
        refused = person.send(page, out, csrf=wrong)
        assert refused.status == 403
    assert person.open(f"{base}/auth").status == 200
    handshake = {"Cookie": cookies, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "https://evil.example"}  # fmt: skip
    assert plane.raw("GET", f"/api/v1/jobs/{job['job_id']}/events", None, handshake)[0] == 403
    assert (
        plane.raw("GET", "/api/v1/whoami", None, {"Authorization": f"Bearer {jar(plane, person)[SESSION]}"})[0] == 401
    )


def test_a_session_ends_here_everywhere_and_by_its_provider(plane: OwnPlane, company: oidc.Provider) -> None:
    base = plane.record.url
    one, _ = signed_in(plane, "bob")
    two, second = signed_in(plane, "bob")
    three, _ = signed_in(plane, "bob")
    before = jar(plane, one)[SESSION]
    assert second.text.count("<td>this one</td>") == 1
    (oldest,) = [form for form in forms(second) if "session" in form.fields]
    assert two.send(second, oldest).status == 200
    assert one.open(f"{base}/auth", follow=False).status == 303
    again, _ = signed_in(plane, "bob")
    assert jar(plane, again)[SESSION] != before
    here = again.open(f"{base}/auth")
    gone = again.send(here, forms(here)[-1])
    assert "everywhere" in gone.text
    assert company.issuer in gone.text  # where one signs out at the provider, too
    for person in (two, three, again):
        assert person.open(f"{base}/auth", follow=False).status == 303
    last, _ = signed_in(plane, "bob")
    leaving = last.open(f"{company.issuer}/session/end?client_id=qcos-web")
    last.send(leaving, logout="yes")  # at the provider, which tells the plane
    until(lambda: last.open(f"{base}/auth", follow=False).status == 303, "the plane heard of it")
    kinds = [kind for (kind,) in plane.query("SELECT kind FROM ledger.entry WHERE kind LIKE 'identity:session:%'")]
    assert {"identity:session:opened", "identity:session:ended"} <= set(kinds)


def test_a_rotated_key_is_learned_at_once_and_a_provider_that_is_away_keeps_out_its_own_people(
    plane: OwnPlane, company: oidc.Provider
) -> None:
    """N13: the key of a login under way may be another than the one before; who is away is 503, for whom it is."""
    fresh = Person()
    back = at_provider_without_return(fresh, f"{plane.record.url}/auth/login?provider=company")
    company.rotate()
    page = fresh.open(back)
    assert page.status == 200, page.text
    away = Person().open(f"{plane.record.url}/auth/login?provider=away")
    assert (away.status, "identity" in away.text) == (503, True)
    assert fresh.open(f"{plane.record.url}/auth").status == 200


@pytest.mark.faults
def test_a_provider_that_is_slow_costs_its_own_people_five_seconds(plane: OwnPlane, company: oidc.Provider) -> None:
    """N13: the login that waits is 503; nobody else waits."""
    person, _ = signed_in(plane)
    fresh = Person()
    back = at_provider_without_return(fresh, f"{plane.record.url}/auth/login?provider=company")
    company.slow(7_000)
    try:
        assert fresh.open(back).status == 503
        assert person.open(f"{plane.record.url}/auth").status == 200
    finally:
        company.slow(0)


class Shown:
    """What a command showed its person, who acts on it while the command waits."""

    def __init__(self, act: Callable[[str, str], None]) -> None:
        self.act, self.seen, self.pauses = act, ("", ""), 0

    def told(self, address: str, code: str) -> None:
        """The command says where to go."""
        self.seen = (address, code)

    def pause(self, _seconds: float) -> None:
        """The command waits; the person acts the first time."""
        self.pauses += 1
        if self.pauses == 1:
            self.act(*self.seen)


def test_a_command_signs_in_at_the_issuer_and_renews_its_token(plane: OwnPlane, company: oidc.Provider) -> None:
    """RFC 8628 and refresh tokens: two commands at once spend one refresh token, and its theft would show."""

    def confirm(address: str, _code: str) -> None:
        person = Person()
        page = person.open(address)
        page = person.send(person.send(page))  # the code in the address, and yes, that is it
        page = person.send(person.send(page, login="ann", password="any"))  # and consent, which commands are asked for
        assert "Sign-in Success" in page.text, page.text

    (offered,) = [
        one for one in Client(plane.home, plane.record.url).ask(*WAYS, signed_in=False) if one["name"] == NAME
    ]
    shown = Shown(confirm)
    login = at_issuer(offered["device"], metadata_of(company.issuer), shown.told, shown.pause)
    who = Client(plane.home, plane.record.url, login["access_token"]).ask("GET", "/api/v1/whoami")
    assert (who["actor"], who["roles"]) == ("user:ann@example.org", ["quantum-engineer"])
    home = plane.home.parent / "ann"
    home.mkdir()
    kept_login.store(home, login | {"expires_at": "2026-01-01T00:00:00Z"})
    with ThreadPoolExecutor(2) as commands:
        one, two = commands.map(lambda _: kept_login.access_token(home), range(2))
    assert one == two != login["access_token"]
    kept = kept_login.read(home)
    assert kept is not None
    assert revoked(kept)
    kept_login.store(home, kept | {"expires_at": "2026-01-01T00:00:00Z"})
    with pytest.raises(NotSignedIn):
        kept_login.access_token(home)


def test_a_browser_signs_a_command_in(plane: OwnPlane) -> None:
    """For providers without a device flow: the person sees who asks from where, and says yes or no."""
    person, _ = signed_in(plane)

    def answer(which: int) -> Shown:
        def act(address: str, code: str) -> None:
            page = person.open(address)
            assert code in page.text
            assert "started from 127.0.0.1" in page.text
            assert person.send(page, forms(page)[which]).status == 200
            assert person.send(page, forms(page)[0]).status == 404  # said once

        return Shown(act)

    stranger = Client(plane.home, plane.record.url)
    yes, no = answer(0), answer(1)
    login = at_plane(stranger, yes.told, yes.pause)
    assert login["access_token"].startswith("qcos_token_demo.")
    mine = Client(plane.home, plane.record.url, login["access_token"])
    assert mine.ask("GET", "/api/v1/whoami")["actor"] == "user:ann@example.org"
    (current,) = [one for one in mine.ask("GET", "/api/v1/account/sessions") if one["current"]]
    assert (current["kind"], current["agent"]) == ("token", "command line")
    mine.ask("DELETE", f"/api/v1/account/sessions/{current['id']}")
    with pytest.raises(Answered, match="revoked"):
        mine.ask("GET", "/api/v1/whoami")
    with pytest.raises(NotSignedIn, match="said no"):
        at_plane(stranger, no.told, no.pause)
    begun = stranger.ask("POST", "/api/v1/auth/device", signed_in=False)

    def refused() -> str:
        with pytest.raises(Answered) as caught:
            stranger.ask("POST", "/api/v1/auth/device/token", {"device_code": begun["device_code"]}, signed_in=False)
        return caught.value.code

    assert refused() == "authorization_pending"
    until(lambda: refused() == "slow_down", "two questions follow one another within four seconds", every_s=0)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: nobody signed in with a real browser (apt install chromium)")
def test_a_person_signs_in_with_a_real_browser_and_their_command_runs_a_governed_job(
    plane: OwnPlane, company: oidc.Provider
) -> None:
    """G13, S1: a browser keeps the cookie on loopback, sends its Origin, and finds nothing that the pages' CSP bars."""
    base, refused = plane.record.url, list[str]()
    stranger = Client(plane.home, base)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        # The provider's pages want a font from afar; no socket leaves this machine.
        page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
        page.on("console", lambda told: refused.append(told.text) if page.url.startswith(base) else None)
        page.goto(f"{base}/auth")
        page.get_by_role("link", name="Sign in with company").click()
        page.locator("input[name=login]").fill("ann")
        page.locator("input[name=password]").fill("any")
        page.get_by_role("button", name="Sign-in").click()
        page.get_by_role("heading", name="Your account").wait_for()
        (kept,) = [one for one in page.context.cookies() if one.get("name") == SESSION]
        assert (kept.get("httpOnly"), kept.get("secure"), kept.get("sameSite")) == (True, True, "Lax")
        begun = stranger.ask("POST", "/api/v1/auth/device", signed_in=False)
        page.goto(begun["verification_uri_complete"])
        page.get_by_role("button", name="Allow").click()
        page.get_by_role("heading", name="Done").wait_for()
        told = {"device_code": begun["device_code"]}
        login = stranger.ask("POST", "/api/v1/auth/device/token", told, signed_in=False)
        page.goto(f"{base}/auth")
        page.get_by_role("button", name="Sign out", exact=True).click()
        page.get_by_role("heading", name="Signed out").wait_for()
        page.goto(f"{base}/auth")
        assert "/auth/login" in page.url
        browser.close()
    assert refused == []
    mine = Client(plane.home, base, login["access_token"])
    job = mine.ask("POST", "/api/v1/jobs?wait=60", json.loads((EXAMPLES / "bell.json").read_bytes()))
    assert (job["state"], job["decision"]["allow"]) == ("COMPLETED", True)
    assert company.process.poll() is None
