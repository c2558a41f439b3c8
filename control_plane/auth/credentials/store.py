# SPDX-License-Identifier: Apache-2.0
"""The secrets that the plane gave out: made, shown once, found again, used, revoked (G13, S1).

The SQL of `auth.credential`. Every function takes the connection first and the caller commits, with the administrative
entry that the act needs. Whether one stands is judged by `rights` on every request, from the row, so that a revocation
counts at once in every process.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth import tokens
from control_plane.auth.principal import Principal, Scope
from control_plane.auth.tokens import Kind

MOST: Final = 1_000
"""Rows that one answer lists."""


class Issued(Struct, frozen=True):
    """A new secret. `text` is for its holder's eyes, once."""

    id: str
    text: str
    expires_at: dt.datetime

    def __repr__(self) -> str:
        """Without the secret (I10)."""
        return f"Issued({self.id} until {self.expires_at})"


class Credential(Struct, frozen=True):
    """A secret as it may be shown: all but what proves it."""

    id: str
    kind: Kind
    issuer: str
    subject: str
    scope: Scope | None
    networks: tuple[str, ...] | None
    parent: str | None
    about: dict[str, Any]
    created_at: dt.datetime
    expires_at: dt.datetime
    idle_s: float | None
    used_at: dt.datetime | None
    revoked_at: dt.datetime | None
    revoked_by: str | None

    def over(self, now: dt.datetime) -> str | None:
        """Why it no longer stands by itself; None while it does."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at <= now:
            return "expired"
        idle = dt.timedelta(seconds=self.idle_s) if self.idle_s is not None else None
        if idle is not None and (self.used_at or self.created_at) + idle <= now:
            return "idle"
        return None


async def issue(
    conn: AsyncConnection,
    principal: Principal,
    kind: Kind,
    *,
    at: dt.datetime,
    expires_at: dt.datetime,
    scope: Scope | None = None,
    networks: Sequence[str] | None = None,
    idle_s: float | None = None,
    parent: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Issued:
    """Make one that acts as `principal`, narrowed by `scope` and, at each use, by its `parent`."""
    if expires_at <= at:
        raise ValueError("a secret that has expired already")
    id, secret = secrets.token_hex(12), secrets.token_urlsafe(32)  # noqa: A001 - it is called that everywhere
    await conn.execute(
        _ISSUE,
        {
            "tenant": principal.tenant,
            "id": id,
            "kind": kind,
            "digest": tokens.digest(secret),
            "issuer": principal.issuer,
            "subject": principal.subject,
            "principal": msgspec.json.encode(replace(principal, scope=None, chain=(), credential=None)).decode(),
            "scope": None if scope is None else msgspec.json.encode(scope).decode(),
            "networks": None if networks is None else list(networks),
            "parent": parent,
            "about": msgspec.json.encode(dict(about or {})).decode(),
            "created_at": at,
            "expires_at": expires_at,
            "idle_s": idle_s,
        },
    )
    return Issued(id, tokens.text_of(kind, principal.tenant, id, secret), expires_at)


async def find(conn: AsyncConnection, tenant: str, id: str) -> Credential | None:  # noqa: A002 - as above
    """One of the tenant's; None where it isn't there, or is another's."""
    rows = await conn.execute(text(f"{_SHOWN} AND id = :id"), {"tenant": tenant, "id": id})
    row = rows.mappings().one_or_none()
    return None if row is None else _credential(row)


async def principal_of(conn: AsyncConnection, tenant: str, id: str) -> Principal:  # noqa: A002 - as above
    """Who a credential that is there was made for, as their provider described them then."""
    rows = await conn.execute(
        text("SELECT principal FROM auth.credential WHERE tenant = :tenant AND id = :id"), {"tenant": tenant, "id": id}
    )
    return msgspec.convert(rows.scalar_one(), Principal)


async def held(conn: AsyncConnection, tenant: str, issuer: str, subject: str, kind: Kind) -> list[Credential]:
    """Those of one holder, the newest first, ended ones too."""
    values = {"tenant": tenant, "issuer": issuer, "subject": subject, "kind": kind, "most": MOST}
    asked = (
        f"{_SHOWN} AND issuer = :issuer AND subject = :subject AND kind = :kind ORDER BY created_at DESC LIMIT :most"
    )
    return [_credential(row) for row in (await conn.execute(text(asked), values)).mappings()]


async def listed(conn: AsyncConnection, tenant: str, kind: Kind) -> list[Credential]:
    """The tenant's of one kind, the newest first, ended ones too."""
    asked = f"{_SHOWN} AND kind = :kind ORDER BY created_at DESC LIMIT :most"
    rows = await conn.execute(text(asked), {"tenant": tenant, "kind": kind, "most": MOST})
    return [_credential(row) for row in rows.mappings()]


async def revoke(conn: AsyncConnection, tenant: str, id: str, *, by: str, at: dt.datetime) -> bool:  # noqa: A002
    """End one from now on, with all that hangs on it; False where it had ended or isn't there. `by` is a pseudonym."""
    done = await conn.execute(
        text("UPDATE auth.credential SET revoked_at = :at, revoked_by = :by" + _ONE),
        {"tenant": tenant, "id": id, "by": by, "at": at},
    )
    return done.rowcount > 0


async def revoke_of(
    conn: AsyncConnection,
    tenant: str,
    issuer: str,
    subject: str,
    *,
    by: str,
    at: dt.datetime,
    kinds: Sequence[Kind] = ("key", "token", "session", "delegation"),
    but: str | None = None,
) -> list[str]:
    """End all of one holder's, `but` one perhaps; their ids."""
    rows = await conn.execute(
        _REVOKE_OF,
        {
            "tenant": tenant,
            "issuer": issuer,
            "subject": subject,
            "kinds": list(kinds),
            "but": but or "",
            "by": by,
            "at": at,
        },
    )
    return sorted(row.id for row in rows)


async def shorten(conn: AsyncConnection, tenant: str, id: str, expires_at: dt.datetime) -> None:  # noqa: A002
    """Let one end then, if it doesn't end sooner."""
    await conn.execute(
        text("UPDATE auth.credential SET expires_at = least(expires_at, :expires_at)" + _ONE),
        {"tenant": tenant, "id": id, "expires_at": expires_at},
    )


async def used(conn: AsyncConnection, tenant: str, id: str, at: dt.datetime) -> None:  # noqa: A002 - as above
    """Note that it was used; never set back."""
    await conn.execute(
        text(
            "UPDATE auth.credential SET used_at = :at WHERE tenant = :tenant AND id = :id"
            " AND (used_at IS NULL OR used_at < :at)"
        ),
        {"tenant": tenant, "id": id, "at": at},
    )


def _credential(row: Mapping[Any, Any]) -> Credential:
    return msgspec.convert(dict(row), Credential)


_ONE = " WHERE tenant = :tenant AND id = :id AND revoked_at IS NULL"

_SHOWN = """
SELECT id, kind, issuer, subject, scope, networks, parent, about, created_at, expires_at, idle_s, used_at, revoked_at,
       revoked_by
FROM auth.credential WHERE tenant = :tenant"""

_ISSUE = text("""
INSERT INTO auth.credential (tenant, id, kind, digest, issuer, subject, principal, scope, networks, parent, about,
                             created_at, expires_at, idle_s)
VALUES (:tenant, :id, :kind, :digest, :issuer, :subject, CAST(:principal AS jsonb), CAST(:scope AS jsonb), :networks,
        :parent, CAST(:about AS jsonb), :created_at, :expires_at, :idle_s)
""")

_REVOKE_OF = text("""
UPDATE auth.credential SET revoked_at = :at, revoked_by = :by
WHERE tenant = :tenant AND issuer = :issuer AND subject = :subject AND kind = ANY(:kinds) AND id <> :but
  AND revoked_at IS NULL
RETURNING id
""")
