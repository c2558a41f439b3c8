# SPDX-License-Identifier: Apache-2.0
"""The `[[notify]]` tables: who may be told, where, and how a notice shows that it comes from this plane.

An obligation names a table; no policy and no caller ever gives a URL, so the plane posts nowhere but where its
administrator said. `check` and `signature` are pure but for the file of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from control_plane.errors import SettingInvalid
from control_plane.fields import LOOPBACK
from control_plane.policy.decision import Notify, Obligation
from control_plane.policy.duties import unknown

SHORTEST = 16
"""Octets of a secret."""

MOST_TRIES = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class NotifyFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[notify]]` table: the name that policies use, where its notices are posted, and the file of the secret."""

    name: str
    url: str
    secret: str
    tries: int = 12
    budgets: bool = False
    """Whether budgets that name nobody alert it."""


def check(tables: tuple[NotifyFacts, ...]) -> None:
    """SettingInvalid, naming the table and the field; a secret is never shown."""
    names: set[str] = set()
    for number, facts in enumerate(tables):
        where = f"notify[{number}]"
        if not _NAME.fullmatch(facts.name) or facts.name in names:
            raise SettingInvalid(f"{where}.name", facts.name, "a name of its own: lower-case letters, digits, -")
        names.add(facts.name)
        if not _usable(facts.url):
            raise SettingInvalid(
                f"{where}.url",
                facts.url,
                "https://HOST[:PORT][/PATH], or http:// on loopback, without user or fragment",
            )
        if not 1 <= facts.tries <= MOST_TRIES:
            raise SettingInvalid(f"{where}.tries", facts.tries, f"1 to {MOST_TRIES}")
        try:
            long_enough = len(secret(facts)) >= SHORTEST
        except OSError as error:
            raise SettingInvalid(
                f"{where}.secret", facts.secret, f"a file that can be read ({error.strerror})"
            ) from error
        if not long_enough:
            raise SettingInvalid(f"{where}.secret", facts.secret, f"a file with at least {SHORTEST} octets")


def secret(facts: NotifyFacts) -> bytes:
    """The shared secret, read anew each time, so that a new one needs no restart; raises OSError."""
    return Path(facts.secret).read_bytes().strip()


def signature(key: bytes, at: int, body: bytes) -> str:
    """The header's value: when, and HMAC-SHA-256 over that moment, a dot and the body."""
    mac = hmac.new(key, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


class Named(Protocol):
    """A table, by whichever way it tells."""

    @property
    def name(self) -> str:
        """What policies call it."""
        ...


def demand(tables: Iterable[Named], obligations: Iterable[Obligation]) -> None:
    """Raise PolicyUnavailable, naming it, where somebody is to be told whom no table names (I5)."""
    known = {facts.name for facts in tables}
    for one in obligations:
        if isinstance(one, Notify) and one.value not in known:
            raise unknown("notify", one.value, one.because)


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and parts.hostname and parts.username is None and parts.password is None
    except ValueError:
        return False
    if not plain or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
