# SPDX-License-Identifier: Apache-2.0
"""Tenants, projects and role assignments in PostgreSQL: this package's SQL, rate buckets included.

Every function takes the connection first; its transaction names the tenant (`db.transaction`) and the caller commits.
Row-level security hides other tenants whatever is asked (I7). Adding twice is no error and changes nothing but what the
function says, so that a start can repeat its seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.auth.principal import ROLES, Assignment, is_project, is_tenant
from control_plane.db import Query

__all__ = [
    "Project",
    "Rates",
    "Tenant",
    "add_project",
    "add_tenant",
    "assign",
    "names_of_projects",
    "project",
    "projects",
    "rates_since",
    "revoke",
    "roles_of",
    "take",
    "tenants",
]


class Tenant(Struct, frozen=True):
    """A tenant; a closed one's people are refused."""

    tenant: str
    state: str
    created_at: datetime


class Project(Struct, frozen=True):
    """A project. `limits` is its slice of the policy input."""

    tenant: str
    project: str
    cost_center: str | None
    limits: dict[str, Any]
    created_at: datetime


class Rates(Struct, frozen=True):
    """What a whole tenant may ask for by the second; None is no limit."""

    requests_per_s: float | None
    bytes_per_s: float | None


async def add_tenant(conn: AsyncConnection, tenant: str) -> None:
    """Open a tenant. One that is there, closed or not, stays as it is."""
    if not is_tenant(tenant):
        raise ValueError(f"tenant {tenant!r}: wanted lower-case letters, digits, - and _")
    await conn.execute(
        text("INSERT INTO auth.tenant (tenant) VALUES (:tenant) ON CONFLICT DO NOTHING"), {"tenant": tenant}
    )


async def tenants(conn: AsyncConnection) -> list[Tenant]:
    """The tenants that this connection's role may see: `audit` all, `app` its transaction's."""
    rows = await conn.execute(text("SELECT tenant, state, created_at FROM auth.tenant ORDER BY tenant"))
    return [Tenant(*row) for row in rows]


async def add_project(
    conn: AsyncConnection,
    tenant: str,
    project: str,
    *,
    cost_center: str | None = None,
    limits: dict[str, Any] | None = None,
) -> None:
    """Add a project of an open tenant, or give the one that is there this cost centre and these limits."""
    if not is_project(project):
        raise ValueError(f"project {project!r}: wanted letters, digits, dot, - and _")
    await conn.execute(
        text(
            "INSERT INTO auth.project (tenant, project, cost_center, limits)"
            " VALUES (:tenant, :project, :cost_center, CAST(:limits AS jsonb))"
            " ON CONFLICT (tenant, project) DO UPDATE SET cost_center = excluded.cost_center, limits = excluded.limits"
        ),
        {
            "tenant": tenant,
            "project": project,
            "cost_center": cost_center,
            "limits": json.dumps(limits or {}),
        },
    )


async def project(conn: AsyncConnection, tenant: str, project: str) -> Project | None:
    """One project, or None: not there, or another tenant's, which looks the same."""
    rows = await conn.execute(
        text(f"{_PROJECTS} WHERE tenant = :tenant AND project = :project"),
        {"tenant": tenant, "project": project},
    )
    row = rows.one_or_none()
    return None if row is None else Project(*row)


async def projects(conn: AsyncConnection, tenant: str) -> list[Project]:
    """The tenant's projects by name."""
    rows = await conn.execute(text(f"{_PROJECTS} WHERE tenant = :tenant ORDER BY project"), {"tenant": tenant})
    return [Project(*row) for row in rows]


def names_of_projects(tenant: str) -> Query:
    """The names of the tenant's projects, by name."""
    return "SELECT project FROM auth.project WHERE tenant = %(tenant)s ORDER BY project", {"tenant": tenant}


async def assign(conn: AsyncConnection, tenant: str, issuer: str, subject: str, one: Assignment) -> None:
    """Give a person a role. It holds from their next request on."""
    if one.role not in ROLES or (one.project is not None and not is_project(one.project)):
        raise ValueError(f"role {one.role!r} in project {one.project!r}: unknown")
    await conn.execute(
        text(
            "INSERT INTO auth.assignment (tenant, issuer, subject, project, role)"
            " VALUES (:tenant, :issuer, :subject, :project, :role) ON CONFLICT DO NOTHING"
        ),
        _assignment(tenant, issuer, subject, one),
    )


async def revoke(conn: AsyncConnection, tenant: str, issuer: str, subject: str, one: Assignment) -> bool:
    """Take a role away; False if it wasn't there. A role that the token itself carries stays."""
    done = await conn.execute(
        text(
            "DELETE FROM auth.assignment WHERE tenant = :tenant AND issuer = :issuer AND subject = :subject"
            " AND project = :project AND role = :role"
        ),
        _assignment(tenant, issuer, subject, one),
    )
    return done.rowcount > 0


async def roles_of(conn: AsyncConnection, tenant: str, issuer: str, subject: str) -> tuple[Assignment, ...]:
    """The roles that this plane has given a person, beside those of their token."""
    rows = await conn.execute(
        text(
            "SELECT role, nullif(project, '') FROM auth.assignment"
            " WHERE tenant = :tenant AND issuer = :issuer AND subject = :subject ORDER BY project, role"
        ),
        {"tenant": tenant, "issuer": issuer, "subject": subject},
    )
    return tuple(Assignment(*row) for row in rows)


async def take(conn: AsyncConnection, tenant: str, subject: str, want: dict[str, float]) -> tuple[bool, float]:
    """(granted, seconds until it would be) of one draw on a bucket; `limits.take` says what `want` holds.

    One statement, under the row's lock: draws at the same time follow one another, in whatever process. The server's
    clock alone counts, so that machines need not agree; one that is set back fills nothing and takes nothing away.
    """
    row = (await conn.execute(_TAKE, {"tenant": tenant, "subject": subject, **want})).one()
    return bool(row.granted), float(row.wait_s)


async def rates_since(conn: AsyncConnection, since: datetime | None) -> tuple[dict[str, Rates | None], datetime]:
    """The rates of every tenant whose limits were changed lately, None where there are none any more; and when it is.

    Of all tenants, and nothing of them but this: for a process that serves them all.
    """
    rows = await conn.execute(_RATES, {"since": since})
    now: datetime | None = None
    found: dict[str, Rates | None] = {}
    for row in rows:
        now = row.now
        if row.tenant is not None:
            limited = row.requests_per_s is not None or row.bytes_per_s is not None
            found[row.tenant] = Rates(row.requests_per_s, row.bytes_per_s) if limited else None
    if now is None:  # the outer join has a row always
        raise AssertionError
    return found, now


_RATES = text("""
SELECT n.now, r.tenant, r.requests_per_s, r.bytes_per_s FROM (SELECT clock_timestamp() AS now) AS n
LEFT JOIN auth.tenant_rates(CAST(:since AS timestamptz)) AS r ON true
""")


def _assignment(tenant: str, issuer: str, subject: str, one: Assignment) -> dict[str, Sequence[str]]:
    return {
        "tenant": tenant,
        "issuer": issuer,
        "subject": subject,
        "project": one.project or "",
        "role": one.role,
    }


_PROJECTS = "SELECT tenant, project, cost_center, limits, created_at FROM auth.project"

# `level` is the bucket after filling, `granted` whether it holds the draw. A draw of bytes beyond the whole bucket is
# let in when the bucket is full and leaves a debt: it would never be let in otherwise.
_TAKE = text("""
INSERT INTO auth.rate AS r (tenant, subject, requests, bytes, filled_at, granted)
VALUES (:tenant, :subject, :requests_burst - :requests, :bytes_burst - :bytes, clock_timestamp(), true)
ON CONFLICT (tenant, subject) DO UPDATE SET (requests, bytes, filled_at, granted) = (
    SELECT level.requests - CASE WHEN ok.granted THEN :requests ELSE 0 END,
           level.bytes - CASE WHEN ok.granted THEN :bytes ELSE 0 END,
           tick.now, ok.granted
    FROM (SELECT greatest(clock_timestamp(), r.filled_at) AS now) AS tick
    CROSS JOIN LATERAL (SELECT extract(epoch FROM tick.now - r.filled_at)::double precision AS s) AS past
    CROSS JOIN LATERAL (
        SELECT least(:requests_burst, r.requests + past.s * :requests_per_s) AS requests,
               least(:bytes_burst, r.bytes + past.s * :bytes_per_s) AS bytes) AS level
    CROSS JOIN LATERAL (
        SELECT level.requests >= :requests AND level.bytes >= least(:bytes, :bytes_burst) AS granted) AS ok)
RETURNING granted, CASE WHEN granted THEN 0 ELSE greatest(
    (:requests - requests) / :requests_per_s, (least(:bytes, :bytes_burst) - bytes) / :bytes_per_s) END AS wait_s
""")
