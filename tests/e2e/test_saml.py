# SPDX-License-Identifier: Apache-2.0
"""G13: people of a real SAML provider sign in with a browser, their jobs are governed; forged answers end as 401."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lxml import etree
from playwright.sync_api import sync_playwright

from control_plane import kept_login
from tests.identity import saml
from tests.identity.assertions import Provider as Forger
from tests.identity.person import Form, Page, Person, forms
from tests.own_plane import OwnPlane

VECTORS = Path(__file__).parents[1] / "vectors" / "credentials" / "saml"
PEOPLE = {
    "ann:secret": {
        "uid": ["ann"],
        "mail": ["ann@corp.example"],
        "roles": ["quantum-engineer"],
        "groups": ["lab"],
        "team": ["optics"],
    },
    "bob:secret": {"uid": ["bob"], "mail": ["bob@corp.example"], "roles": ["auditor"]},
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SESSION, BEGUN = "__Host-qcos", "__Host-qcos-saml"
ANYBODY = "https://forger.example/metadata"


@pytest.fixture(scope="module")
def corp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[saml.Provider]:
    with saml.running(tmp_path_factory.mktemp("idp"), PEOPLE, time.time(), host="localhost") as provider:
        yield provider


@pytest.fixture(scope="module")
def forger() -> Forger:
    """A provider that the plane trusts as one of the tenant `other`, and that says whatever a test wants said."""
    return Forger(ANYBODY, time.time())


@pytest.fixture(scope="module")
def plane(corp: saml.Provider, forger: Forger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlane]:
    folder = tmp_path_factory.mktemp("saml")
    (folder / "corp.xml").write_bytes(corp.metadata())
    (folder / "forger.xml").write_text(forger.metadata())
    other = {"name": "open", "issuer": ANYBODY, "tenant": "other", "metadata": str(folder / "forger.xml")}
    table = "\n".join(["[[saml]]", *(f"{key} = {json.dumps(value)}" for key, value in other.items()), ""])
    own = OwnPlane(folder / "home", config=corp.table(folder / "corp.xml") + table, QCOS_WORKERS="1")
    own.ask("saml", "keys", "add")
    with own.running() as plane:
        corp.trusts(plane.record.url)
        yield plane


def jar(plane: OwnPlane, person: Person) -> dict[str, str]:
    """What the browser keeps for the plane."""
    place = urlsplit(plane.record.url)
    return person.cookies.setdefault((str(place.hostname), place.port or 80), {})


def answered(plane: OwnPlane, person: Person, name: str = "ann", path: str = "") -> Page:
    """The provider's page with its answer in it, before the browser sends it on."""
    page = person.open(f"{plane.record.url}/auth/saml/corp/login{path}")
    return person.send(page, username=name, password="secret")


def signed_in(plane: OwnPlane, name: str = "ann", path: str = "") -> tuple[Person, Page]:
    person = Person()
    page = person.send(answered(plane, person, name, path))
    assert page.status == 200, page
    return person, page


def refused(page: Page) -> str:
    """The reason that a refusal names."""
    assert page.status == 401, page
    return page.text.partition("is refused. ")[2].partition(":")[0]


def test_a_browser_signs_in_and_sees_who_it_is(plane: OwnPlane, corp: saml.Provider) -> None:
    person, page = signed_in(plane)
    assert page.url == f"{plane.record.url}/auth"
    assert "user:ann@corp.example" in page.text
    assert "quantum-engineer" in page.text
    assert "lab" in page.text
    kept = jar(plane, person)
    assert SESSION in kept
    assert BEGUN not in kept
    asked = next(url for url in person.seen if url.startswith(corp.url))
    assert "Signature=" in asked
    assert "RelayState" not in asked


def test_a_command_is_signed_in_by_that_browser_and_its_job_is_governed(plane: OwnPlane) -> None:
    """The whole way: provider, browser, command, job, evidence with the person's name in it."""
    person, _ = signed_in(plane)
    begun = _public(plane, "/api/v1/auth/device", {})
    page = person.open(begun["verification_uri_complete"])
    assert begun["user_code"] in page.text
    allow = next(form for form in forms(page) if form.fields.get("answer") == "allow")
    assert person.send(page, allow).status == 200
    given = _public(plane, "/api/v1/auth/device/token", {"device_code": begun["device_code"]})
    login = {name: given[name] for name in ("subject", "access_token", "expires_at")}
    kept_login.store(plane.home, login)
    who = plane.ask("whoami")
    assert (who["actor"], who["tenant"]) == ("user:ann@corp.example", "demo")
    job = plane.ask("submit", "examples/bell.json", "--wait")
    assert job["state"] == "COMPLETED"
    bundle = plane.home / "bundle.json"
    plane.ask("evidence", "get", job["job_id"], "-o", str(bundle))
    assert "user:ann@corp.example" in bundle.read_text()


def _public(plane: OwnPlane, path: str, body: dict[str, Any]) -> Any:
    import http.client

    place = urlsplit(plane.record.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, said
    return said


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_real_browser_brings_the_answer_from_another_site(plane: OwnPlane) -> None:
    """Cookies of the login and of the session survive the provider's form, which a script of its page sends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{plane.record.url}/auth/login?provider=corp")
        assert page.url.startswith("http://localhost:")
        page.locator("[name=username]").fill("ann")
        page.locator("[name=password]").fill("secret")
        page.locator("[name=password]").press("Enter")
        page.wait_for_url(f"{plane.record.url}/auth")
        assert "user:ann@corp.example" in page.locator("main").inner_text()
        page.get_by_role("button", name="Sign out", exact=True).click()
        page.get_by_role("link", name="Sign out at your provider, too").click()
        page.get_by_text("signed out of this plane and at your provider").wait_for()
        browser.close()


def test_an_answer_is_of_use_once_and_in_the_browser_that_asked(plane: OwnPlane) -> None:
    person, thief = Person(), Person()
    page = answered(plane, person)
    kept = dict(jar(plane, person))
    assert refused(thief.send(page)) == "browser"
    first = person.send(page)
    assert first.status == 200
    jar(plane, person).update(kept)
    assert refused(person.send(page)) == "replayed"
    # With another login's cookie it answers no question of that one, and nobody can ask twice.
    other = Person()
    other.open(f"{plane.record.url}/auth/saml/corp/login")
    assert refused(other.send(page)) == "in_response_to"
    assert refused(other.send(page)) == "replayed"


def test_where_to_go_afterwards_is_said_before_and_only_here(plane: OwnPlane) -> None:
    _, page = signed_in(plane, path="?next=/auth/device")
    assert page.url == f"{plane.record.url}/auth/device"
    for elsewhere in ("https://evil.example", "//evil.example", "/%5cevil.example"):
        _, page = signed_in(plane, path=f"?next={elsewhere}")
        assert page.url == f"{plane.record.url}/auth"
    person = Person()
    page = person.send(answered(plane, person), RelayState="https://evil.example")
    assert page.url == f"{plane.record.url}/auth"


def test_the_provider_ends_its_sessions_here(plane: OwnPlane, corp: saml.Provider) -> None:
    person, _ = signed_in(plane, "bob")
    elsewhere, _ = signed_in(plane, "ann")
    page = person.open(f"{corp.url}/saml2/idp/initSLO.php?RelayState={corp.url}/logout.php")
    assert page.status == 200, page
    assert person.open(f"{plane.record.url}/auth").url.startswith(f"{plane.record.url}/auth/login")
    assert "ann@corp.example" in elsewhere.open(f"{plane.record.url}/auth").text


def test_who_signs_out_here_is_led_to_sign_out_there(plane: OwnPlane, corp: saml.Provider) -> None:
    person, page = signed_in(plane)
    out = person.send(page, next(form for form in forms(page) if form.action == "/auth/logout"))
    link = out.text.partition(f'href="{corp.url}')[2].partition('"')[0].replace("&amp;", "&")
    assert "SAMLRequest=" in link
    assert "Signature=" in link
    page = person.open(f"{corp.url}{link}")
    assert "signed out of this plane and at your provider" in page.text, page
    again = person.open(f"{plane.record.url}/auth/saml/corp/login")
    assert "password" in again.text, "the provider asks for the password anew"


def test_forged_answers_are_refused_and_none_is_a_fault(plane: OwnPlane) -> None:
    """I5, I10: each named bad file, brought by a browser that did begin a login; nothing of them reaches a log."""
    cases = json.loads((VECTORS / "cases.json").read_text())["cases"]
    for name in cases:
        person = Person()
        person.open(f"{plane.record.url}/auth/saml/corp/login", follow=False)
        page = posted(plane, person, "corp", (VECTORS / f"{name}.xml").read_bytes())
        assert page.status == 401, (name, page)
    person = Person()
    assert posted(plane, person, "corp", b"x", field="Another").status == 400
    for text in ("not base64!", "A" * 700_000):
        page = posted(plane, person, "corp", text.encode(), raw=True)
        assert page.status == 401, page
    assert "alice@corp.example" not in "".join(path.read_text() for path in (plane.home / "logs").glob("*"))


def posted(
    plane: OwnPlane, person: Person, name: str, message: bytes, field: str = "SAMLResponse", *, raw: bool = False
) -> Page:
    """The form that a provider's page would send."""
    text = message.decode() if raw else base64.b64encode(message).decode()
    start = Page("https://forger.example/", 200, {}, "")
    return person.send(start, Form(f"{plane.record.url}/auth/saml/{name}/acs", "POST", {field: text}))


def test_a_provider_of_one_tenant_says_nothing_of_another(plane: OwnPlane, forger: Forger) -> None:
    """I7: its people are its tenant's, whatever it calls them; what wasn't asked for isn't taken."""
    base = f"{plane.record.url}/auth/saml/open"
    person = Person()
    person.open(f"{base}/login", follow=False)
    sealed = jar(plane, person)[BEGUN]
    past = time.time() - forger.at
    unasked = forger.sign(
        forger.assertion(
            audience=f"{base}/metadata",
            recipient=f"{base}/acs",
            request=None,
            subject="ann",
            made=past,
            after=past + 300,
            confirmed_until=past + 300,
        )
    )
    whole = forger.response(unasked, destination=f"{base}/acs", request=None)
    assert refused(posted(plane, Person(), "open", etree.tostring(whole))) == "browser"
    assert refused(posted(plane, person, "open", etree.tostring(whole))) == "unsolicited"
    jar(plane, person)[BEGUN] = sealed
    assert refused(posted(plane, person, "corp", etree.tostring(whole))) == "browser", "begun with another provider"


def test_a_rotated_certificate_needs_the_new_file_and_no_restart(plane: OwnPlane, corp: saml.Provider) -> None:
    path = plane.home.parent / "corp.xml"
    before = path.read_bytes()
    corp.rotate(time.time())
    person = Person()
    assert refused(person.send(answered(plane, person))) == "signature"
    path.write_bytes(corp.metadata())
    signed_in(plane)
    path.write_bytes(before.replace(b"<md:IDPSSODescriptor", b"<md:Other"))
    page = Person().open(f"{plane.record.url}/auth/saml/corp/login")
    assert page.status == 503
    path.write_bytes(corp.metadata())


def test_while_the_provider_is_down_its_logins_wait_and_nobody_else(plane: OwnPlane, corp: saml.Provider) -> None:
    person, _ = signed_in(plane)
    corp.stop()
    try:
        _others_go_on(plane, person)
    finally:
        corp.start()
    assert signed_in(plane)


def _others_go_on(plane: OwnPlane, person: Person) -> None:
    with pytest.raises(OSError, match="refused"):
        Person().open(f"{plane.record.url}/auth/saml/corp/login")
    assert "ann@corp.example" in person.open(f"{plane.record.url}/auth").text
    plane.ask("login", "--as", "engineer")
    assert plane.ask("whoami")["actor"].startswith("user:engineer")
