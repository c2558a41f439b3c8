# SPDX-License-Identifier: Apache-2.0
"""The plane's own device flow (RFC 8628): a browser that is signed in signs a command in (G13). SQL of `auth.device`.

For providers that have no such flow, SAML among them: whatever login the browser went through, a person confirms there
what a command asked for, and the command gets a secret of the plane's own. Rows belong to no tenant until they are
confirmed; they hold no secret: the device code lies as its SHA-256, and the token is made when the command fetches it.

    begin → waiting ─confirm→ allowed ─fetch→ gone
                    └────────→ refused ─fetch→ gone
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["INTERVAL_S", "LASTS_S", "Asked", "Confirmation", "Fetched", "answer", "begin", "fetch", "normal", "waiting"]

LASTS_S: Final = 600
INTERVAL_S: Final = 5
MOST_WAITING: Final = 10_000
"""Rows that wait in the whole plane: anybody may ask, so asking is bounded here, and by the source's rate."""
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, no digits, nothing to mistake
_GROUP = 4


class Asked(Struct, frozen=True):
    """What a command is told; `device_code` is its alone."""

    device_code: str
    user_code: str

    def __repr__(self) -> str:
        """Without the secret (I10)."""
        return f"Asked({self.user_code})"


class Fetched(Struct, frozen=True):
    """What a command's question found. `tenant` and `session` say who allowed it."""

    state: Literal["waiting", "too_fast", "refused", "expired", "allowed"]
    tenant: str = ""
    session: str = ""


Confirmation: TypeAlias = Literal["allowed", "refused"]


def normal(user_code: str) -> str:
    """A code as a person typed it, as it is kept."""
    letters = "".join(sign for sign in user_code.upper() if sign in _LETTERS)[: 2 * _GROUP + 1]
    return f"{letters[:_GROUP]}-{letters[_GROUP:]}"


async def begin(conn: AsyncConnection, source: str) -> Asked | None:
    """A command asks, from this address; None where too many wait already."""
    await conn.execute(text("DELETE FROM auth.device WHERE expires_at <= clock_timestamp()"))
    asked = Asked(
        device_code=secrets.token_urlsafe(32),
        user_code="-".join("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(2)),
    )
    values = {"digest": _digest(asked.device_code), "user_code": asked.user_code, "source": source}
    done = await conn.execute(_BEGIN, values | {"lasts_s": LASTS_S, "most": MOST_WAITING})
    return asked if done.rowcount else None


async def waiting(conn: AsyncConnection, user_code: str) -> str | None:
    """Where the command was started that shows this code and waits; None where none does."""
    rows = await conn.execute(
        text(
            "SELECT source FROM auth.device WHERE user_code = :user_code AND state = 'waiting'"
            " AND expires_at > clock_timestamp()"
        ),
        {"user_code": user_code},
    )
    row = rows.one_or_none()
    return None if row is None else str(row.source)


async def answer(conn: AsyncConnection, user_code: str, what: Confirmation, *, tenant: str, session: str) -> bool:
    """What a person said, in this session; False where no command waits for it any more. Said once."""
    done = await conn.execute(
        text(
            "UPDATE auth.device SET state = :what, tenant = :tenant, session = :session"
            " WHERE user_code = :user_code AND state = 'waiting' AND expires_at > clock_timestamp()"
        ),
        {"user_code": user_code, "what": what, "tenant": tenant, "session": session},
    )
    return done.rowcount > 0


async def fetch(conn: AsyncConnection, device_code: str) -> Fetched:
    """The command asks whether it may. An answer is given out once: the row is gone then."""
    digest = _digest(device_code)
    row = (await conn.execute(_LOOK, {"digest": digest, "interval_s": INTERVAL_S - 1})).one_or_none()
    if row is None:
        return Fetched("expired")
    if row.state == "waiting":
        return Fetched("too_fast" if row.hasty else "waiting")
    await conn.execute(text("DELETE FROM auth.device WHERE digest = :digest"), {"digest": digest})
    return Fetched(row.state, tenant=row.tenant, session=row.session)


def _digest(device_code: str) -> bytes:
    return hashlib.sha256(device_code.encode("utf-8", "surrogatepass")).digest()


_BEGIN = text("""
INSERT INTO auth.device (digest, user_code, source, expires_at)
SELECT :digest, :user_code, :source, clock_timestamp() + make_interval(secs => :lasts_s)
WHERE (SELECT count(*) FROM auth.device) < :most
ON CONFLICT DO NOTHING
""")

# The row's lock makes two questions at a time follow one another. The first may come at once.
_LOOK = text("""
WITH before AS (SELECT digest, asked_at FROM auth.device WHERE digest = :digest FOR UPDATE)
UPDATE auth.device d SET asked_at = clock_timestamp() FROM before
WHERE d.digest = before.digest AND d.expires_at > clock_timestamp()
RETURNING d.state, d.tenant, d.session,
          coalesce(before.asked_at > clock_timestamp() - make_interval(secs => :interval_s), false) AS hasty
""")
