# SPDX-License-Identifier: Apache-2.0
"""G13: people of a real directory sign in with a command and with a browser, and their jobs are governed."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.plane import EXAMPLES
from tests.identity import ldap
from tests.identity.ldap import Directory, group, group_dn, person_dn
from tests.identity.person import Person
from tests.own_plane import LIMIT_S, OwnPlane

ISSUER = "urn:qcos:ldap:directory"


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    """Ann is of a lab that is of the staff; Bea is of nothing."""
    entries = (
        ldap.person("ann", "ann's password"),
        ldap.person("bea", "bea's password"),
        ldap.person("cyn", "cyn's password"),
        ldap.person("dan", "dan's password"),
        group("lab", person_dn("ann"), person_dn("cyn")),
        group("staff", group_dn("lab")),
    )
    with ldap.running(*entries) as made:
        yield made


@pytest.fixture(scope="module")
def plane(directory: Directory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlane]:
    """A plane that asks it."""
    away = directory.table(name="away", url="ldaps://localhost:9")
    table = "\n".join(
        line
        for one in (directory.table(), away)
        for line in ("[[ldap]]", *(f"{key} = {json.dumps(value)}" for key, value in one.items()), "")
    )
    home = tmp_path_factory.mktemp("ldap") / "home"
    with OwnPlane(home, config=table, QCOS_WORKERS="1").running() as made:
        made.ask("login", "--as", "admin")
        mapped = ("groups", "map", "staff", "quantum-engineer", "--issuer", ISSUER, "--project", "demo")
        made.ask(*mapped, "--reason", "the staff runs jobs")
        yield made


def login(plane: OwnPlane, name: str, password: str, provider: str = "directory") -> subprocess.CompletedProcess[str]:
    """As somebody types it."""
    return subprocess.run(
        plane.command("login", "--provider", provider, "--json"),
        env=plane.environment,
        input=f"{name}\n{password}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def code(answer: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """Exit code and code of a refusal."""
    return answer.returncode, json.loads(answer.stderr)["code"]


def test_a_command_signs_in_with_the_directorys_password_and_runs_a_governed_job(plane: OwnPlane) -> None:
    done = login(plane, "ann", "ann's password")
    assert done.returncode == 0, done.stderr
    who = plane.ask("whoami")
    assert (who["actor"], who["project_roles"]) == ("user:ann@demo", {"demo": ["quantum-engineer"]})
    assert (who["via"], who["groups"]) == ("ldap", ["lab", "staff"])
    job = plane.ask("submit", str(EXAMPLES / "bell.json"), "--wait")
    assert job["state"] == "COMPLETED"
    logs = list(plane.home.glob("log/*"))
    assert logs
    for kept in (*logs, plane.home / "credentials.json"):
        assert "ann's password" not in kept.read_text(), kept
    assert "ann's password" not in json.dumps([str(row) for row in plane.query("SELECT * FROM auth.credential")])


def test_who_is_nobody_who_errs_and_who_may_nothing_are_told_so(plane: OwnPlane) -> None:
    assert code(login(plane, "ann", "another")) == (4, "password_refused")
    for more, refusal in (
        ({"user": "nobody"}, (401, "password_refused")),
        ({"provider": "away"}, (503, "identity_unavailable")),
        ({"provider": "elsewhere"}, (404, "not_found")),
        ({"password": ""}, (400, "request_invalid")),
    ):
        assert _tried(plane, _asked("ann", "ann's password") | more) == refusal
    assert login(plane, "bea", "bea's password").returncode == 0
    refused = plane.run("submit", str(EXAMPLES / "bell.json"), "--json")
    assert code(refused) == (1, "policy_denied"), "she is who she is, and no group of hers gives anything"


def test_passwords_are_not_guessed_through_the_plane(plane: OwnPlane) -> None:
    """N13: after some tries of one name, in whatever letters, not even the right password is taken."""
    names = itertools.cycle(("cyn", "CYN", "Cyn "))
    tried = [_tried(plane, _asked(next(names)))]
    while tried[-1] != (429, "rate_limited"):
        assert tried[-1] == (401, "password_refused")
        assert len(tried) <= 100
        tried.append(_tried(plane, _asked(next(names))))
    assert len(tried) > 3, "who errs may try again"
    assert _tried(plane, _asked("cyn", "cyn's password")) == (429, "rate_limited")


def _tried(plane: OwnPlane, asked: dict[str, str]) -> tuple[int, str]:
    status, answer = plane.http("POST", "/api/v1/auth/ldap", asked)
    return status, answer["code"]


def _asked(name: str, password: str = "wrong") -> dict[str, str]:
    return {"provider": "directory", "user": name, "password": password}


def test_a_browser_signs_in_by_the_form_of_this_plane_alone(plane: OwnPlane) -> None:
    person = Person()
    page = person.open(f"{plane.record.url}/auth/login?next=/auth")
    assert "/auth/ldap/directory" in page.text
    form = person.open(f"{plane.record.url}/auth/ldap/directory?next=/auth")
    wrong = person.send(form, user="ann", password="another")
    assert (wrong.status, "wrong" in wrong.text) == (401, True)
    account = person.send(wrong, user="ann", password="ann's password")
    assert (account.status, account.url) == (200, f"{plane.record.url}/auth"), account
    assert "ann@demo" in account.text
    fields = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.example"}
    status, answer = plane.http("POST", "/auth/ldap/directory", None, **fields)
    assert (status, answer["code"]) == (403, "csrf_refused")


def test_who_was_removed_stays_out_with_the_right_password(plane: OwnPlane) -> None:
    assert login(plane, "dan", "dan's password").returncode == 0
    plane.ask("login", "--as", "admin")
    plane.ask("users", "remove", "user:dan@demo", "--reason", "has left")
    refused = login(plane, "dan", "dan's password")
    assert code(refused) == (1, "person_removed"), refused
