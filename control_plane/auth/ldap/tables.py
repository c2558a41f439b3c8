# SPDX-License-Identifier: Apache-2.0
"""The `[[ldap]]` tables: which directory, whose people, how they and their groups are found (G13).

Pure but for the files that a table names, which are read anew for each login: a new password or CA needs no restart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from control_plane.auth.principal import is_tenant
from control_plane.auth.providers import Provider
from control_plane.errors import SettingInvalid

__all__ = ["LdapFacts", "address", "check", "of_ldap", "secret"]

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
PORTS: Final = {"ldap": 389, "ldaps": 636}
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}|[0-9]+(\.[0-9]+)+")
_ATTRIBUTES: Final = ("subject_attribute", "name_attribute", "team_attribute", "department_attribute")


class LdapFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """An `[[ldap]]` table. `{}` in a filter or DN stands for what is searched, escaped.

    With `bind_dn` people are searched for below `base` by `user_filter`, then bound as; without it they are bound as
    `user_dn` at once, and searched for as themselves. `subject_attribute` must never change and never be given to
    another. `nested` groups are found by asking again for the groups of groups, or by the one rule that Active
    Directory has for it (`chain`).
    """

    name: str
    url: str
    tenant: str
    base: str
    start_tls: bool = True
    ca: str | None = None
    bind_dn: str | None = None
    bind_password_file: str | None = None
    user_dn: str | None = None
    user_filter: str = "(&(objectClass=person)(uid={}))"
    subject_attribute: str = "entryUUID"
    name_attribute: str = "uid"
    team_attribute: str | None = None
    department_attribute: str | None = None
    group_base: str | None = None
    group_filter: str = "(&(objectClass=groupOfNames)(member={}))"
    group_name: Literal["cn", "dn"] = "cn"
    nested: Literal["none", "recursive", "chain"] = "recursive"
    max_groups: int = 1000
    limit_s: float = 5.0
    listed: bool = True

    @property
    def issuer(self) -> str:
        """How principals name it: the address may move."""
        return f"urn:qcos:ldap:{self.name}"

    @property
    def groups_below(self) -> str:
        """Where groups are searched for."""
        return self.group_base or self.base


def of_ldap(tables: Sequence[LdapFacts]) -> tuple[Provider, ...]:
    """The tables as providers."""
    return tuple(
        Provider(name=one.name, kind="ldap", number=number, tenant=one.tenant, listed=one.listed, browser=True)
        for number, one in enumerate(tables)
    )


def address(url: str) -> tuple[str, str, int]:
    """(scheme, host, port); ValueError for what is no address of a directory."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(url)
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def secret(one: LdapFacts) -> str | None:
    """The password of `bind_dn`, read anew each time. OSError, ValueError."""
    if one.bind_password_file is None:
        return None
    text = Path(one.bind_password_file).read_text(encoding="utf-8").rstrip("\r\n")
    if not text:
        raise ValueError("no password")
    return text


def check(tables: tuple[LdapFacts, ...]) -> None:
    """SettingInvalid, naming the table and the field, for an `[[ldap]]` that can't be used."""
    for number, one in enumerate(tables):

        def refuse(field: str, wanted: str, where: str = f"ldap[{number}]", one: LdapFacts = one) -> Any:
            return SettingInvalid(f"{where}.{field}", getattr(one, field), wanted)

        if not is_tenant(one.tenant):
            raise refuse("tenant", "lower-case letters, digits, - and _")
        _check_way(one, refuse)
        _check_search(one, refuse)


def _check_way(one: LdapFacts, refuse: Any) -> None:
    """How the directory is reached: never without TLS beyond this machine."""
    try:
        scheme, host, _ = address(one.url)
    except ValueError:
        raise refuse("url", "ldaps://HOST[:PORT], or ldap://HOST[:PORT] with StartTLS") from None
    if scheme == "ldap" and not one.start_tls and host not in LOOPBACK:
        raise refuse("start_tls", "true, or an ldaps url: passwords cross no network in the clear")
    if one.ca is not None and not Path(one.ca).is_file():
        raise refuse("ca", "a PEM file with the CA that vouches for the directory")
    if not 0.1 <= one.limit_s <= 60:
        raise refuse("limit_s", "seconds from 0.1 to 60")
    if not 1 <= one.max_groups <= 10_000:
        raise refuse("max_groups", "a whole number from 1 to 10000")


def _check_search(one: LdapFacts, refuse: Any) -> None:
    if (one.bind_dn is None) == (one.user_dn is None):
        raise refuse("bind_dn", "either bind_dn, to search for people, or user_dn, to bind as them at once")
    if (one.bind_dn is None) != (one.bind_password_file is None):
        raise refuse("bind_password_file", "a file with the password of bind_dn, and only beside it")
    for field in ("user_filter", "group_filter"):
        text = getattr(one, field)
        if text.count("{}") != 1 or not (text.startswith("(") and text.endswith(")")):
            raise refuse(field, "a filter in parentheses with one {} in it")
    if one.nested == "chain" and "(member={})" not in one.group_filter:
        raise refuse("group_filter", "a filter with (member={}) in it, since nested is chain")
    if one.user_dn is not None and one.user_dn.count("{}") != 1:
        raise refuse("user_dn", "a DN, or NAME@DOMAIN for Active Directory, with one {} in it")
    for field in _ATTRIBUTES:
        given = getattr(one, field)
        if given is not None and not _ATTRIBUTE.fullmatch(given):
            raise refuse(field, "the name of an attribute")
    try:
        secret(one)
    except (OSError, ValueError) as error:
        raise refuse("bind_password_file", "a file of one line that can be read") from error
