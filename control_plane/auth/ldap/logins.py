# SPDX-License-Identifier: Apache-2.0
"""Logins at `[[ldap]]` directories in one process of the API (G13, N13): few at once, each in time, and not often.

A directory that is down or slow keeps its own people out, and nobody else: its logins have threads of their own. Tries
of one name are drawn from a bucket that all processes share, before the directory hears of them, so that passwords
aren't guessed through the plane, and accounts hardly locked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.auth import limits
from control_plane.auth.errors import IdentityUnavailable
from control_plane.auth.ldap import person
from control_plane.auth.ldap.directory import DirectoryAway, look
from control_plane.auth.ldap.tables import LdapFacts
from control_plane.auth.principal import Principal
from control_plane.auth.providers import Provider
from control_plane.db import transaction
from control_plane.errors import Refused

if TYPE_CHECKING:
    from control_plane.settings import Settings

__all__ = ["TRIES", "LdapLogins"]

log = logging.getLogger("qcos.ldap")
AT_ONCE: Final = 8
TRIES: Final = limits.Limits(requests_per_s=1 / 20, requests_burst=8, bytes_per_s=1, bytes_burst=1)
"""Of one name at one directory: eight in a row, then one in 20 s."""


class LdapLogins:
    """The directories as one process sees them; `close` it."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, pseudonym_key: bytes, clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._engine, self._pseudonym_key, self._clock = settings, engine, pseudonym_key, clock
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="qcos-ldap")

    def table(self, name: str) -> tuple[Provider, LdapFacts]:
        """The directory of this name; Refused `not_found`."""
        for one in self._settings.providers:
            if one.name == name and one.kind == "ldap":
                return one, self._settings.ldap[one.number]
        raise Refused("not_found", "no such identity provider")

    async def sign_in(self, name: str, user: str, password: str) -> Principal:
        """Who has this password. PasswordRefused, LoginFailed, RateLimited, IdentityUnavailable."""
        _, facts = self.table(name)
        await self._draw(name, user)
        asked = asyncio.get_running_loop().run_in_executor(self._threads, look, facts, user, password)
        try:
            async with asyncio.timeout(3 * facts.limit_s):
                found = await asked
        except TimeoutError:
            log.warning("directory %s: no answer in time", name)
            raise IdentityUnavailable from None
        except DirectoryAway as error:
            log.warning("directory %s: %s", name, error)
            raise IdentityUnavailable from None
        return person.principal(found, facts, self._pseudonym_key, self._clock())

    async def _draw(self, name: str, user: str) -> None:
        """Directories tell no capitals from small letters, so neither do tries."""
        digest = hashlib.sha256(f"{name}\0{user.strip().casefold()}".encode("utf-8", "replace")).hexdigest()[:32]
        tried = replace(limits.stranger(""), subject=digest, pseudonym=f"ldap:{digest}")
        async with transaction(self._engine, tried.tenant) as conn:
            refused = await limits.take(conn, tried, TRIES)
        if refused is not None:
            raise refused

    async def close(self) -> None:
        """Nobody signs in any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
