# SPDX-License-Identifier: Apache-2.0
"""SQL of service accounts, workload rules and used tokens. Every function takes the connection; the caller commits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth.principal import Scope
from control_plane.services.account import ISSUER

__all__ = [
    "Account",
    "Rule",
    "account",
    "accounts",
    "add",
    "add_rule",
    "remove",
    "remove_rule",
    "rule",
    "rules",
    "spend",
]

MOST: Final = 1_000
"""Rows that one answer lists."""
_SWEPT = 100


class Account(Struct, frozen=True):
    """A service account."""

    account: str
    description: str
    created_at: dt.datetime
    created_by: str
    removed_at: dt.datetime | None


class Rule(Struct, frozen=True):
    """Tokens of `issuer` that claim this are `account`'s, for `lasts_s` and narrowed to `scope`."""

    rule_id: str
    issuer: str
    account: str
    claims: dict[str, str]
    scope: Scope | None
    lasts_s: int
    created_at: dt.datetime
    created_by: str


async def add(conn: AsyncConnection, tenant: str, account: str, description: str, *, by: str, at: dt.datetime) -> bool:
    """Make an account; False where one has or had the name."""
    done = await conn.execute(
        text(
            "INSERT INTO auth.service_account (tenant, account, description, created_at, created_by)"
            " VALUES (:tenant, :account, :description, :at, :by) ON CONFLICT DO NOTHING"
        ),
        {"tenant": tenant, "account": account, "description": description, "at": at, "by": by},
    )
    return done.rowcount > 0


async def account(conn: AsyncConnection, tenant: str, account: str, *, lock: bool = False) -> Account | None:
    """One account, removed or not; `lock` keeps others from changing it until the commit."""
    asked = f"{_ACCOUNTS} AND account = :account{' FOR UPDATE' if lock else ''}"
    row = (await conn.execute(text(asked), {"tenant": tenant, "account": account})).mappings().one_or_none()
    return None if row is None else _account(row)


async def accounts(conn: AsyncConnection, tenant: str) -> list[Account]:
    """The tenant's, by name; removed ones, too."""
    rows = await conn.execute(text(f"{_ACCOUNTS} ORDER BY account LIMIT :most"), {"tenant": tenant, "most": MOST})
    return [_account(row) for row in rows.mappings()]


async def remove(conn: AsyncConnection, tenant: str, account: str, at: dt.datetime) -> bool:
    """Shut an account for good; False where none of this name is open. `auth.person` shuts it out of everything."""
    await conn.execute(
        text(
            "UPDATE auth.person SET state = 'removed'"
            " WHERE tenant = :tenant AND issuer = :issuer AND subject = :account"
        ),
        {"tenant": tenant, "issuer": ISSUER, "account": account},
    )
    done = await conn.execute(
        text(
            "UPDATE auth.service_account SET removed_at = :at"
            " WHERE tenant = :tenant AND account = :account AND removed_at IS NULL"
        ),
        {"tenant": tenant, "account": account, "at": at},
    )
    return done.rowcount > 0


async def add_rule(conn: AsyncConnection, tenant: str, rule: Rule) -> None:
    """Add a rule; its account must be there."""
    await conn.execute(
        text(
            "INSERT INTO auth.workload_rule"
            " (tenant, rule_id, issuer, account, claims, scope, lasts_s, created_at, created_by)"
            " VALUES (:tenant, :rule_id, :issuer, :account, CAST(:claims AS jsonb), CAST(:scope AS jsonb), :lasts_s,"
            " :created_at, :created_by)"
        ),
        {
            "tenant": tenant,
            **msgspec.structs.asdict(rule),
            "claims": msgspec.json.encode(rule.claims).decode(),
            "scope": None if rule.scope is None else msgspec.json.encode(rule.scope).decode(),
        },
    )


async def rule(conn: AsyncConnection, tenant: str, rule_id: str) -> Rule | None:
    """One rule, or None."""
    rows = await conn.execute(text(f"{_RULES} AND rule_id = :rule_id"), {"tenant": tenant, "rule_id": rule_id})
    row = rows.mappings().one_or_none()
    return None if row is None else _rule(row)


async def rules(conn: AsyncConnection, tenant: str, *, issuer: str | None = None) -> list[Rule]:
    """The tenant's rules, the oldest first; of one issuer, or all."""
    asked = f"{_RULES} {'AND issuer = :issuer ' if issuer is not None else ''}ORDER BY created_at, rule_id LIMIT :most"
    values: dict[str, Any] = {"tenant": tenant, "most": MOST} | ({} if issuer is None else {"issuer": issuer})
    return [_rule(row) for row in (await conn.execute(text(asked), values)).mappings()]


async def remove_rule(conn: AsyncConnection, tenant: str, rule_id: str) -> bool:
    """Take a rule away; False where there is none of this id."""
    done = await conn.execute(
        text("DELETE FROM auth.workload_rule WHERE tenant = :tenant AND rule_id = :rule_id"),
        {"tenant": tenant, "rule_id": rule_id},
    )
    return done.rowcount > 0


async def spend(conn: AsyncConnection, tenant: str, digest: bytes, expires_at: dt.datetime, now: dt.datetime) -> bool:
    """Use a token up; False where it was used already, in whatever process. Durable with the caller's commit.

    Two at the same time follow one another: the second waits for the first one's commit, and then finds its row.
    """
    await conn.execute(_SWEEP, {"tenant": tenant, "now": now, "most": _SWEPT})
    done = await conn.execute(
        text(
            "INSERT INTO auth.used_token (tenant, digest, expires_at) VALUES (:tenant, :digest, :expires_at)"
            " ON CONFLICT DO NOTHING"
        ),
        {"tenant": tenant, "digest": digest, "expires_at": expires_at},
    )
    return done.rowcount > 0


def _account(row: Mapping[Any, Any]) -> Account:
    return msgspec.convert(dict(row), Account)


def _rule(row: Mapping[Any, Any]) -> Rule:
    return msgspec.convert(dict(row), Rule)


_ACCOUNTS = (
    "SELECT account, description, created_at, created_by, removed_at FROM auth.service_account WHERE tenant = :tenant"
)
_RULES = (
    "SELECT rule_id, issuer, account, claims, scope, lasts_s, created_at, created_by FROM auth.workload_rule"
    " WHERE tenant = :tenant"
)
_SWEEP = text("""
DELETE FROM auth.used_token WHERE (tenant, digest) IN (
    SELECT tenant, digest FROM auth.used_token WHERE tenant = :tenant AND expires_at < :now
    LIMIT :most FOR UPDATE SKIP LOCKED)
""")
