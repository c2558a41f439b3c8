# SPDX-License-Identifier: Apache-2.0
"""G13: people of a directory, against a real slapd: who they are, which groups hold them, and all that is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from control_plane.auth.errors import LoginFailed, PasswordRefused
from control_plane.auth.ldap import directory, person, query, tables
from control_plane.auth.ldap.directory import DirectoryAway
from control_plane.auth.ldap.person import Found
from control_plane.auth.ldap.tables import LdapFacts
from control_plane.errors import SettingInvalid
from tests.identity import ldap
from tests.identity.ldap import Directory, group, group_dn, person_dn

KEY = b"k" * 32
REFUSED = json.loads((Path(__file__).parents[2] / "vectors" / "credentials" / "ldap" / "refused.json").read_bytes())
AT = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
BOMB = [group(f"bomb-{number}", person_dn("bea")) for number in range(30)]
DEEP = [group(f"deep-{number}", group_dn(f"deep-{number - 1}")) for number in range(1, 40)]


@pytest.fixture(scope="module")
def running() -> Iterator[Directory]:
    """Ann is in `lab`, which is in `staff`, which is in `lab` again; Bea is in thirty groups; Cyn's lie deep."""
    entries = (
        ldap.person("ann", "ann's password", departmentNumber="physics", ou="blue"),
        ldap.person("bea", "bea's"),
        ldap.person("cyn", "cyn's"),
        ldap.person("dan*", "dan's"),
        group("lab", person_dn("ann"), group_dn("staff")),
        group("staff", group_dn("lab")),
        group("others", person_dn("bea")),
        *BOMB,
        group("deep-0", person_dn("cyn")),
        *DEEP,
    )
    with ldap.running(*entries) as made:
        yield made


def facts(running: Directory, **more: object) -> LdapFacts:
    """Its table, checked."""
    made = msgspec.convert(running.table(**more), LdapFacts)
    tables.check((made,))
    return made


WAYS: dict[str, dict[str, object]] = {
    "LDAPS": {},
    "StartTLS": {"url": "ldap"},
    "as themselves": {"bind_dn": None, "bind_password_file": None, "user_dn": f"uid={{}},ou=people,{ldap.BASE}"},
}


@pytest.mark.parametrize("way", WAYS)
def test_somebody_is_who_the_directory_says_with_all_their_groups(running: Directory, way: str) -> None:
    more = WAYS[way] | ({"url": running.url} if "url" in WAYS[way] else {})
    table = facts(running, **more, team_attribute="ou", department_attribute="departmentNumber")
    who = person.principal(directory.look(table, "ann", "ann's password"), table, KEY, AT)
    assert (who.name, who.tenant, who.issuer, who.via) == ("ann", "demo", "urn:qcos:ldap:directory", "ldap")
    assert (who.team, who.department, who.groups) == ("blue", "physics", ("lab", "staff"))
    assert len(who.subject) == 36, "the entry's own id, which outlives a name"
    assert (who.roles, who.amr) == ((), ("pwd",))


def test_groups_are_those_that_were_asked_for(running: Directory) -> None:
    alone = facts(running, nested="none")
    assert directory.look(alone, "ann", "ann's password").groups == ("lab",)
    by_dn = facts(running, group_name="dn")
    assert directory.look(by_dn, "ann", "ann's password").groups == (group_dn("lab"), group_dn("staff"))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
@pytest.mark.parametrize("way", ["LDAPS", "as themselves"])
def test_a_wrong_password_nobody_and_an_injection_look_the_same(
    running: Directory, way: str, case: dict[str, str]
) -> None:
    """N13: whatever somebody calls themselves, it is a value of the filter or DN and never its grammar."""
    with pytest.raises(PasswordRefused):
        directory.look(facts(running, **WAYS[way]), case["user"], case["password"])


def test_a_name_with_signs_of_the_grammar_is_still_a_name(running: Directory) -> None:
    assert directory.look(facts(running), "dan*", "dan's").dn == person_dn("dan*")


def test_a_group_bomb_gives_nothing_and_half_a_list_neither(running: Directory) -> None:
    table = facts(running, max_groups=20)
    with pytest.raises(LoginFailed, match="more than 20 groups"):
        directory.look(table, "bea", "bea's")
    assert len(directory.look(facts(running), "bea", "bea's").groups) == 31
    with pytest.raises(LoginFailed, match="deep"):
        directory.look(facts(running), "cyn", "cyn's")


def test_a_directory_that_proves_another_host_or_ca_gets_no_password(running: Directory, tmp_path: Path) -> None:
    other = tmp_path / "ca.pem"
    with ldap.running() as stranger:
        other.write_bytes(stranger.ca.read_bytes())
    for more in (
        {"ca": str(other)},
        {"ca": None},
        {"url": running.tls_url.replace("localhost", "127.0.0.1")},
        {"url": running.url, "ca": str(other)},
    ):
        with pytest.raises(DirectoryAway):
            directory.look(facts(running, **more), "ann", "ann's password")


def test_a_directory_that_refuses_the_plane_itself_is_away_and_no_wrong_password(
    running: Directory, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("another one")
    for more in (
        {"bind_password_file": str(tmp_path / "password")},
        {"user_filter": "(&(uid={})"},
        {"base": "dc=elsewhere"},
    ):
        with pytest.raises(DirectoryAway):
            directory.look(facts(running, **more), "ann", "ann's password")


def test_a_directory_that_is_slow_or_down_is_away() -> None:
    with ldap.running(ldap.person("ann", "ann's password")) as mine:
        table = facts(mine, limit_s=0.3)
        mine.hang()
        with pytest.raises(DirectoryAway):
            directory.look(table, "ann", "ann's password")
        mine.go_on()
        assert directory.look(facts(mine), "ann", "ann's password").groups == ()
        mine.stop()
        with pytest.raises(DirectoryAway):
            directory.look(table, "ann", "ann's password")


def test_active_directory_is_asked_by_its_own_rule_for_nested_groups() -> None:
    """What is sent: no such directory runs here."""
    asked = query.member_of("(&(objectClass=group)(member={}))", ["CN=Ann (x),DC=example"], chain=True)
    assert asked == r"(&(objectClass=group)(member:1.2.840.113556.1.4.1941:=CN\3dAnn \28x\29,DC\3dexample))"
    assert query.own_dn("{}@example.org", "ann") == "ann@example.org"
    assert query.own_dn("{}@example.org", "ann@evil.org") is None
    guid = bytes.fromhex("33221100554477668899aabbccddeeff")
    table = LdapFacts(name="ad", url="ldaps://ad.example", tenant="demo", base="dc=example", bind_dn="cn=x")
    table = msgspec.structs.replace(table, subject_attribute="objectGUID", name_attribute="sAMAccountName")
    found = Found("cn=ann", {"objectguid": (guid,), "samaccountname": (b"ann",)}, ("lab",))
    assert person.principal(found, table, KEY, AT).subject == "00112233-4455-6677-8899-aabbccddeeff"


@pytest.mark.parametrize("values", [(), (b"one", b"two"), (b"",), (b"\xff\xfe",), (b"a\nb",), (b"x" * 256,)])
def test_an_entry_that_does_not_say_who_it_is_is_nobody(values: tuple[bytes, ...]) -> None:
    table = LdapFacts(name="d", url="ldaps://d", tenant="demo", base="dc=d", bind_dn="cn=x")
    with pytest.raises(LoginFailed):
        person.principal(Found("cn=a", {"entryuuid": values}, ()), table, KEY, AT)


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("url", {"url": "http://directory.example"}),
        ("url", {"url": "ldaps://user@directory.example"}),
        ("url", {"url": "ldaps://directory.example:no"}),
        ("start_tls", {"url": "ldap://directory.example", "start_tls": False}),
        ("tenant", {"tenant": "No Tenant"}),
        ("ca", {"ca": "/nowhere/ca.pem"}),
        ("bind_dn", {"bind_dn": None, "bind_password_file": None}),
        ("bind_dn", {"user_dn": "uid={}"}),
        ("bind_password_file", {"bind_password_file": None}),
        ("bind_password_file", {"bind_password_file": "/nowhere/password"}),
        ("user_filter", {"user_filter": "(uid=ann)"}),
        ("user_filter", {"user_filter": "uid={}"}),
        ("group_filter", {"group_filter": "(memberUid={})", "nested": "chain"}),
        ("subject_attribute", {"subject_attribute": "uid)(x=*"}),
        ("max_groups", {"max_groups": 0}),
        ("limit_s", {"limit_s": 0.0}),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_field(
    tmp_path: Path, field: str, more: dict[str, object]
) -> None:
    (tmp_path / "password").write_text("x")
    said = {"name": "d", "url": "ldaps://directory.example", "tenant": "demo", "base": "dc=d", "bind_dn": "cn=x"}
    said |= {"bind_password_file": str(tmp_path / "password")}
    given = {name: value for name, value in (said | more).items() if value is not None}
    with pytest.raises(SettingInvalid, match=rf"^ldap\[0\]\.{field} "):
        tables.check((msgspec.convert(given, LdapFacts),))
