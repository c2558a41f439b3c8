# SPDX-License-Identifier: Apache-2.0
"""The login that commands speak for: `QCOS_HOME/credentials.json`, 0600, and how it stays fresh (G13, S1).

An access token that is about to expire is renewed with the refresh token that came with it, under a lock: of two
commands one renews, and the other finds what it kept. Where the issuer is away, an old token is used while it lasts.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from control_plane.errors import NotSignedIn

__all__ = ["access_token", "forget", "read", "store"]

FILE: Final = "credentials.json"
LOCK: Final = "credentials.lock"
EARLY_S: Final = 30
"""So long before its end a token is renewed: what is sent with it takes a moment to arrive."""


def read(home: Path) -> dict[str, Any] | None:
    """What is kept; None where nothing is. NotSignedIn where others could read it."""
    path = home / FILE
    try:
        mode = path.stat().st_mode
        held = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise NotSignedIn(f"{path} may be read by others; qcos login writes it anew")
    return held if isinstance(held, dict) else None


def store(home: Path, login: Mapping[str, Any]) -> None:
    """Keep a login for later commands."""
    from control_plane.postgres import write_secret

    write_secret(home / FILE, json.dumps(dict(login)))


def forget(home: Path) -> None:
    """Nobody is signed in any more."""
    (home / FILE).unlink(missing_ok=True)


def access_token(home: Path) -> str | None:
    """The token to send, renewed where that is due and possible."""
    held = read(home)
    if held is not None and _due(held):
        held = _renewed(home, held)
    token = held.get("access_token") if held is not None else None
    return token if isinstance(token, str) else None


def _due(held: Mapping[str, Any]) -> bool:
    return bool(held.get("refresh_token")) and _left_s(held) < EARLY_S


def _left_s(held: Mapping[str, Any]) -> float:
    try:
        until = dt.datetime.fromisoformat(str(held["expires_at"]))
    except (KeyError, ValueError):
        return float("-inf")
    return (until - dt.datetime.now(dt.UTC)).total_seconds() if until.tzinfo else float("-inf")


def _renewed(home: Path, held: dict[str, Any]) -> dict[str, Any]:
    from control_plane.auth.errors import IdentityUnavailable
    from control_plane.device_login import renewed

    with _locked(home):
        now = read(home) or held
        if not _due(now):
            return now
        try:
            fresh = renewed(now)
        except IdentityUnavailable:
            if _left_s(now) > 0:
                return now
            raise
        if fresh is None:
            raise NotSignedIn("the login has ended, and its provider wants to see you again; qcos login")
        store(home, fresh)
        return fresh


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / LOCK).open("w", encoding="ascii") as file:
        (home / LOCK).chmod(0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
