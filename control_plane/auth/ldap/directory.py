# SPDX-License-Identifier: Apache-2.0
"""What is asked of a directory: is this their password, who are they, which groups hold them (G13).

Blocking, for a thread. No referral is followed, because it would carry the password to whoever is named; an empty
password is never sent, because a directory takes it for no password at all and says yes (RFC 4513 section 5.1.2); TLS
wants a certificate of the CA, for this very host. Raises PasswordRefused, LoginFailed, and DirectoryAway for all that
keeps the directory from answering.
"""

from __future__ import annotations

import contextlib
import ssl
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

from control_plane.auth.errors import LoginFailed, PasswordRefused
from control_plane.auth.ldap import query
from control_plane.auth.ldap.person import Found
from control_plane.auth.ldap.tables import LdapFacts, address, secret

__all__ = ["DirectoryAway", "look"]

DEEPEST: Final = 16
"""How many groups may lie within one another."""
AT_ONCE: Final = 50
"""DNs that one filter names."""


class DirectoryAway(Exception):
    """The directory can't be reached, isn't who it should be, or refuses the plane itself; the text is for the log."""


def look(facts: LdapFacts, name: str, password: str) -> Found:
    """The person of this name with this password. Nobody and a wrong password look the same."""
    if not query.is_name(name) or not password or "\0" in password:
        raise PasswordRefused
    try:
        return _by_search(facts, name, password) if facts.bind_dn is not None else _at_once(facts, name, password)
    except _library().LDAPException as error:
        raise DirectoryAway(f"{type(error).__name__}: {error}"[:300]) from error
    except (OSError, ValueError) as error:
        raise DirectoryAway(f"{type(error).__name__}: {error}"[:300]) from error


def _by_search(facts: LdapFacts, name: str, password: str) -> Found:
    with _open(facts) as own:
        if not own.rebind(user=facts.bind_dn, password=secret(facts)):
            raise DirectoryAway(f"bind_dn is refused: {own.result['description']}")
        entry = _person(own, facts, name)
        # For nobody, too, a password is tried: else the time of the answer would tell who is there.
        dn = f"cn=nobody,{facts.base}" if entry is None else str(entry["dn"])
        with _open(facts) as theirs:
            right = _binds(theirs, dn, password)
        if entry is None or not right:
            raise PasswordRefused
        return _found(own, facts, entry)


def _at_once(facts: LdapFacts, name: str, password: str) -> Found:
    dn = query.own_dn(facts.user_dn or "", name)
    if dn is None:
        raise PasswordRefused
    with _open(facts) as theirs:
        if not _binds(theirs, dn, password):
            raise PasswordRefused
        entry = _person(theirs, facts, name)
        if entry is None:
            raise LoginFailed("nobody", "the directory took the password, and shows no such person below base")
        return _found(theirs, facts, entry)


def _binds(connection: Any, dn: str, password: str) -> bool:
    """Whether it is their password; DirectoryAway where the directory says neither yes nor no."""
    if connection.rebind(user=dn, password=password):
        return True
    # 49 is what a wrong password is; 19, 50 and 53 are of accounts that are locked or may not sign in.
    if connection.result["result"] in (19, 32, 34, 49, 50, 53):
        return False
    raise DirectoryAway(f"bind: {connection.result['description']}")


def _person(connection: Any, facts: LdapFacts, name: str) -> dict[str, Any] | None:
    wanted = [facts.subject_attribute, facts.name_attribute, facts.team_attribute, facts.department_attribute]
    found = _search(connection, facts.base, query.filled(facts.user_filter, name), [one for one in wanted if one], 2)
    return found[0] if len(found) == 1 else None  # a filter that fits two says of neither who it is


def _found(connection: Any, facts: LdapFacts, entry: dict[str, Any]) -> Found:
    attributes = {name.lower(): tuple(values) for name, values in entry["raw_attributes"].items()}
    return Found(str(entry["dn"]), attributes, _groups(connection, facts, str(entry["dn"])))


def _groups(connection: Any, facts: LdapFacts, dn: str) -> tuple[str, ...]:
    """The names of the groups that hold them: all, or LoginFailed. Half of them would give rights by chance."""
    held: dict[str, str] = {}
    asked, until = [dn], time.monotonic() + facts.limit_s
    for _ in range(DEEPEST):
        new: dict[str, str] = {}
        for start in range(0, len(asked), AT_ONCE):
            wanted = query.member_of(facts.group_filter, asked[start : start + AT_ONCE], chain=facts.nested == "chain")
            for entry in _search(connection, facts.groups_below, wanted, ["cn"], facts.max_groups + 1):
                new |= {str(entry["dn"]).lower(): _name(entry, facts)}
            if len(held | new) > facts.max_groups:
                raise LoginFailed("groups", f"the directory names more than {facts.max_groups} groups of this person")
            if time.monotonic() > until:
                raise DirectoryAway("the groups took too long")
        asked = [one for one in new if one not in held]
        held |= new
        if not asked or facts.nested != "recursive":
            return tuple(sorted(set(held.values())))
    raise LoginFailed("groups", f"groups of this person lie more than {DEEPEST} deep within one another")


def _name(entry: dict[str, Any], facts: LdapFacts) -> str:
    if facts.group_name == "dn":
        return str(entry["dn"]).lower()
    values: Sequence[bytes] = entry["raw_attributes"].get("cn", ())
    text = values[0].decode("utf-8", "replace") if values else ""
    if not 0 < len(text) <= 1024 or not text.isprintable():
        raise LoginFailed("groups", "a group of this person has no plain name")
    return text


def _search(connection: Any, base: str, wanted: str, attributes: Sequence[str], most: int) -> list[dict[str, Any]]:
    connection.search(base, wanted, attributes=list(attributes), size_limit=most)
    if connection.result["result"] not in (0, 4):  # 4: there are more than were asked for
        raise DirectoryAway(f"search: {connection.result['description']}")
    return [entry for entry in connection.response or () if entry["type"] == "searchResEntry"]


@contextlib.contextmanager
def _open(facts: LdapFacts) -> Iterator[Any]:
    """A connection that nobody is bound on yet, under TLS unless it never leaves this machine."""
    ldap3 = _library()
    scheme, host, port = address(facts.url)
    server = ldap3.Server(
        host,
        port=port,
        use_ssl=scheme == "ldaps",
        tls=_tls(facts, host),
        get_info=ldap3.NONE,
        connect_timeout=facts.limit_s,  # of each later wait as well: the library sets no other
    )
    connection = ldap3.Connection(
        server,
        auto_bind=ldap3.AUTO_BIND_NONE,
        auto_referrals=False,
        check_names=False,
        raise_exceptions=False,
        read_only=True,
    )
    try:
        connection.open(read_server_info=False)
        if scheme == "ldap" and facts.start_tls and not connection.start_tls(read_server_info=False):
            raise DirectoryAway(f"StartTLS: {connection.last_error}")
        yield connection
    finally:
        with contextlib.suppress(ldap3.LDAPException, OSError):
            connection.unbind()
        if connection.socket is not None:  # of an opening that failed half-way
            connection.socket.close()


def _tls(facts: LdapFacts, host: str) -> Any:
    ldap3 = _library()
    context = ssl.create_default_context(cafile=facts.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def wrap_socket(connection: Any, do_handshake: bool = False) -> None:
        connection.socket = context.wrap_socket(
            connection.socket, do_handshake_on_connect=do_handshake, server_hostname=host
        )

    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED)
    tls.wrap_socket = wrap_socket  # the standard library's check of chain and host, in place of the library's own
    return tls


class _Loaded:
    """The library, once it was needed."""

    module: Any = None


def _library() -> Any:
    if _Loaded.module is None:
        with warnings.catch_warnings():  # it asks pyasn1 for names that are to go
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            import ldap3
            from ldap3.core.exceptions import LDAPException

            ldap3.LDAPException = LDAPException
            _Loaded.module = ldap3
    return _Loaded.module
