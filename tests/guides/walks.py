# SPDX-License-Identifier: Apache-2.0
"""The walks of `make test-guides`: a page, a heading, and what stands around while its commands are typed.

A walk that needs a program says what the machine lacks, and is skipped by that name. `around` starts the outside world
(an identity provider, say) and says which words of the page stand for something of this machine, and who acts while a
command waits for a person.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from tests.focus import judge
from tests.guides.typed import Act
from tests.identity import ldap, oidc, saml
from tests.identity.person import Person

ROOT = Path(__file__).parents[2]
FINOPS = ROOT / "docs" / "guide-finops.md"
ADMIN = ROOT / "docs" / "guide-admin.md"
POLICY = ROOT / "docs" / "guide-policy.md"
_ADDRESS = re.compile(r"Open (\S+)")


class Stage(Struct, frozen=True):
    """Words that are typed otherwise, and who acts at commands that begin so."""

    replaced: Mapping[str, str] = {}
    acts: Mapping[str, Act] = {}


class Walk(Struct, frozen=True):
    """One walk, by the name that `--only` takes."""

    name: str
    page: Path
    heading: str
    around: Callable[[Path], AbstractContextManager[Stage]]
    lacking: Callable[[], str] = str


@contextlib.contextmanager
def nothing(_folder: Path) -> Iterator[Stage]:
    """The page needs nobody else."""
    yield Stage()


@contextlib.contextmanager
def openid(_folder: Path) -> Iterator[Stage]:
    """A certified OpenID Provider, and Ann, who confirms what her command shows her."""
    people = {"248289761001": {"preferred_username": "ann@example.org"}}
    with oidc.running([oidc.web(), oidc.cli()], people) as company:
        yield Stage(
            replaced={
                "cp examples/identity/oidc.toml": f"sed 's|https://login[.]example[.]org|{company.issuer}|'"
                " examples/identity/oidc.toml >",
                "https://login.example.org": company.issuer,
                "THE-SECRET": oidc.SECRET,
            },
            acts={"qcos login --provider company": confirms},
        )


@contextlib.contextmanager
def assertions(folder: Path) -> Iterator[Stage]:
    """SimpleSAMLphp, told of the plane once that is up; Ann signs in there."""
    people = {"ann:secret": {"uid": ["ann"], "mail": ["ann@corp.example"]}}
    (folder / "idp").mkdir()
    with saml.running(folder / "idp", people, time.time()) as corp:
        (folder / "theirs.xml").write_bytes(corp.metadata())

        def asserts(command: subprocess.Popen[str]) -> list[str]:
            assert command.stderr is not None
            seen = [command.stderr.readline().rstrip("\n") for _ in range(2)]
            found = _ADDRESS.match(seen[0])
            assert found is not None, seen
            base, _, after = found.group(1).partition("/auth/")
            corp.trusts(base)
            person = Person()
            page = person.open(f"{base}/auth/saml/corp/login?next=/auth/{quote(after)}")
            person.send(person.send(person.send(page, username="ann", password="secret")))
            return seen

        yield Stage(
            replaced={
                "cp examples/identity/saml.toml": f"sed 's|https://idp[.]corp[.]example/metadata|{corp.entity_id}|'"
                " examples/identity/saml.toml >",
                "/etc/qcos/corp-metadata.xml": "theirs.xml",
                "https://idp.corp.example/metadata": corp.entity_id,
            },
            acts={"qcos login --provider corp": asserts},
        )


def confirms(command: subprocess.Popen[str]) -> list[str]:
    """Ann opens the address that the command shows, signs in, and says yes."""
    assert command.stderr is not None
    seen = [command.stderr.readline().rstrip("\n") for _ in range(2)]
    found = _ADDRESS.match(seen[0])
    assert found is not None, seen
    person = Person()
    page = person.send(person.send(person.open(found.group(1))))
    person.send(person.send(page, login="248289761001", password="any"))
    return seen


@contextlib.contextmanager
def directory(_folder: Path) -> Iterator[Stage]:
    """A slapd with Ann, who is of a lab that is of the staff, and who types her password."""
    entries = (
        ldap.person("ann", "ann's password", entryUUID="8f14e45f-ceea-467f-9d3b-1b2a3c4d5e6f"),
        ldap.group("lab", ldap.person_dn("ann")),
        ldap.group("staff", ldap.group_dn("lab")),
    )
    with ldap.running(*entries) as running:
        copied = f"sed 's|ldaps://ldap[.]example[.]org|{running.tls_url}|' examples/identity/ldap.toml >"
        yield Stage(
            replaced={
                "cp examples/identity/ldap.toml": copied,
                "/etc/qcos/ldap-ca.pem": str(running.ca),
                "THE-PASSWORD": ldap.READERS_PASSWORD,
            },
            acts={"qcos login --provider directory": _types_password},
        )


def _types_password(command: subprocess.Popen[str]) -> list[str]:
    assert command.stdin is not None
    command.stdin.write("ann's password\n")
    command.stdin.flush()
    return []


@contextlib.contextmanager
def last_month(_folder: Path) -> Iterator[Stage]:
    """The page's October is the last whole month; make is called where its Makefile is."""
    first = dt.datetime.now(dt.UTC).replace(day=1) - dt.timedelta(days=1)
    yield Stage(
        replaced={"2026-10": f"{first:%Y-%m}", "make focus-check FILE=": f"make -s -C {ROOT} focus-check FILE=$PWD/"}
    )


def no_validator() -> str:
    """Why FOCUS files can't be judged here."""
    return "" if judge.PROGRAM.exists() else "focus-validator is not installed (make focus-tools)"


WALKS = (
    Walk("finops", FINOPS, "## A month in ten minutes", last_month, no_validator),
    Walk("policy", POLICY, "## A change in five minutes", nothing),
    Walk("saml", ADMIN, "### With SAML", assertions, saml.lacking),
    Walk("oidc", ADMIN, "### With an OIDC provider", openid, oidc.lacking),
    Walk("ldap", ADMIN, "## With LDAP", directory, ldap.lacking),
)
