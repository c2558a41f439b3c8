# SPDX-License-Identifier: Apache-2.0
"""What of SAML must outlive a request: which messages were used, and what a provider calls the sessions it began.

The SQL of `auth.saml_used` and `auth.saml_session`. Every function takes the connection first, the caller commits. What
is over is removed as the next comes, so that the tables hold no more than a time's logins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth.saml.assertion import NameId

__all__ = ["Begun", "began", "begun", "forget", "named", "sid_of", "take"]


class Begun(Struct, frozen=True):
    """A session that a provider's login began; `sid` is what the plane's session keeps of it."""

    sid: str
    issuer: str
    subject: str
    name: NameId
    session: str | None


def sid_of(provider: str, name: NameId, session: str | None) -> str:
    """One name for what the provider calls by two."""
    return hashlib.sha256(json.dumps([provider, name.text, name.qualifier, session]).encode()).hexdigest()[:32]


async def take(
    conn: AsyncConnection, tenant: str, provider: str, identifier: str, *, until: dt.datetime, now: dt.datetime
) -> bool:
    """Use a message up; False where it was before. Of many at once, exactly one gets True."""
    await conn.execute(
        text("DELETE FROM auth.saml_used WHERE tenant = :tenant AND until < :now"), {"tenant": tenant, "now": now}
    )
    done = await conn.execute(
        text(
            "INSERT INTO auth.saml_used (tenant, provider, identifier, until)"
            " VALUES (:tenant, :provider, :identifier, :until) ON CONFLICT DO NOTHING"
        ),
        {"tenant": tenant, "provider": provider, "identifier": identifier, "until": until},
    )
    return done.rowcount > 0


async def began(
    conn: AsyncConnection, tenant: str, provider: str, one: Begun, *, until: dt.datetime, now: dt.datetime
) -> None:
    """Keep what the provider calls the session that has just begun."""
    await conn.execute(
        text("DELETE FROM auth.saml_session WHERE tenant = :tenant AND until < :now"), {"tenant": tenant, "now": now}
    )
    await conn.execute(
        text(
            "INSERT INTO auth.saml_session (tenant, provider, sid, issuer, subject, name, name_id, session, until)"
            " VALUES (:tenant, :provider, :sid, :issuer, :subject, :name, CAST(:name_id AS jsonb), :session, :until)"
            " ON CONFLICT (tenant, provider, sid) DO UPDATE SET until = excluded.until"
        ),
        {
            "tenant": tenant,
            "provider": provider,
            "sid": one.sid,
            "issuer": one.issuer,
            "subject": one.subject,
            "name": one.name.text,
            "name_id": msgspec.json.encode(one.name).decode(),
            "session": one.session,
            "until": until,
        },
    )


async def begun(conn: AsyncConnection, tenant: str, provider: str, sid: str) -> Begun | None:
    """What the provider calls the session of this `sid`."""
    rows = await conn.execute(text(f"{_BEGUN} AND sid = :sid"), {"tenant": tenant, "provider": provider, "sid": sid})
    row = rows.mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), Begun)


async def named(conn: AsyncConnection, tenant: str, provider: str, name: str) -> list[Begun]:
    """Every session that the provider began for this name."""
    rows = await conn.execute(
        text(f"{_BEGUN} AND name = :name"), {"tenant": tenant, "provider": provider, "name": name}
    )
    return [msgspec.convert(dict(row), Begun) for row in rows.mappings()]


async def forget(conn: AsyncConnection, tenant: str, provider: str, sid: str) -> None:
    """It has ended."""
    await conn.execute(
        text("DELETE FROM auth.saml_session WHERE tenant = :tenant AND provider = :provider AND sid = :sid"),
        {"tenant": tenant, "provider": provider, "sid": sid},
    )


_BEGUN = (
    "SELECT sid, issuer, subject, name_id AS name, session FROM auth.saml_session"
    " WHERE tenant = :tenant AND provider = :provider"
)
