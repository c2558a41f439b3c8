# SPDX-License-Identifier: Apache-2.0
"""The rows of those who manage: every function takes the caller's connection, whose transaction names the tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

ADMIN = "quantum-admin"

# Whoever manages a tenant waits for whoever does: of two who take each other's rights away, one comes second.
_ALONE = text("SELECT state FROM auth.tenant WHERE tenant = :tenant FOR NO KEY UPDATE")
_APPOINTED = text("""
    SELECT a.issuer, a.subject FROM auth.assignment a LEFT JOIN auth.person p USING (tenant, issuer, subject)
    WHERE a.tenant = :tenant AND a.project = '' AND a.role = 'quantum-admin'
      AND coalesce(p.state, 'active') = 'active' AND coalesce(p.kind, 'user') = 'user'
    ORDER BY a.created_at, a.issuer, a.subject""")
# One whom this plane itself makes an administrator: by assignment, or by a group that their provider named last.
_ADMINISTERED = text("""
    SELECT EXISTS (
        SELECT FROM auth.assignment a LEFT JOIN auth.person p USING (tenant, issuer, subject)
        WHERE a.tenant = :tenant AND a.project = '' AND a.role = 'quantum-admin'
          AND coalesce(p.state, 'active') = 'active' AND coalesce(p.kind, 'user') = 'user'
    ) OR EXISTS (
        SELECT FROM auth.group_role g JOIN auth.person p ON p.tenant = g.tenant AND p.issuer = g.issuer
        WHERE g.tenant = :tenant AND g.project = '' AND g.role = 'quantum-admin'
          AND g.name = ANY (p.groups) AND p.state = 'active' AND p.kind = 'user'
    )""")


async def alone(conn: AsyncConnection, tenant: str) -> str | None:
    """The tenant's state; until this transaction ends no other manages it. None where there is no such tenant."""
    found: str | None = (await conn.execute(_ALONE, {"tenant": tenant})).scalar_one_or_none()
    return found


async def appointed(conn: AsyncConnection, tenant: str) -> Sequence[RowMapping]:
    """Whom this plane made an administrator of the whole tenant, and who isn't removed, oldest first."""
    return (await conn.execute(_APPOINTED, {"tenant": tenant})).mappings().all()


async def administered(conn: AsyncConnection, tenant: str) -> bool:
    """Whether an active person administers the tenant by what this plane itself was told."""
    return bool((await conn.execute(_ADMINISTERED, {"tenant": tenant})).scalar_one())


_PERSON = """
    SELECT pseudonym, issuer, subject, name, domain, kind, team, department, groups, roles, state, added_at, seen_at
    FROM auth.person"""
_OF_PSEUDONYM = text(f"{_PERSON} WHERE tenant = :tenant AND pseudonym = :pseudonym")
_OF_SUBJECT = text(f"{_PERSON} WHERE tenant = :tenant AND issuer = :issuer AND subject = :subject")
_ADD = text("""
    INSERT INTO auth.person (tenant, issuer, subject, pseudonym, name, domain)
    VALUES (:tenant, :issuer, :subject, :pseudonym, :name, :domain) ON CONFLICT DO NOTHING""")
_STATE = text("""
    UPDATE auth.person SET state = :state WHERE tenant = :tenant AND pseudonym = :pseudonym AND state <> :state""")
_PEOPLE = text(f"""
    {_PERSON} WHERE tenant = :tenant
      AND (CAST(:issuer AS text) IS NULL OR issuer = :issuer) AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:find AS text) IS NULL
           OR :find IN (subject, pseudonym, name, name || '@' || domain, kind || ':' || name || '@' || domain))
      AND (CAST(:name AS text) IS NULL OR (name, pseudonym) > (:name, :pseudonym))
    ORDER BY name, pseudonym LIMIT :limit""")


async def person(conn: AsyncConnection, tenant: str, pseudonym: str) -> RowMapping | None:
    """The person of this pseudonym, removed or not; None where the plane has never heard of them."""
    found = await conn.execute(_OF_PSEUDONYM, {"tenant": tenant, "pseudonym": pseudonym})
    return found.mappings().one_or_none()


async def known(conn: AsyncConnection, tenant: str, issuer: str, subject: str) -> RowMapping | None:
    """The person whom an issuer calls so."""
    found = await conn.execute(_OF_SUBJECT, {"tenant": tenant, "issuer": issuer, "subject": subject})
    return found.mappings().one_or_none()


async def add(conn: AsyncConnection, row: Mapping[str, Any]) -> bool:
    """Know of a person before they come; False where they are known."""
    return (await conn.execute(_ADD, dict(row))).rowcount > 0


async def put(conn: AsyncConnection, tenant: str, pseudonym: str, state: str) -> bool:
    """Remove or restore; False where they are in that state already."""
    done = await conn.execute(_STATE, {"tenant": tenant, "pseudonym": pseudonym, "state": state})
    return done.rowcount > 0


async def people(
    conn: AsyncConnection,
    tenant: str,
    limit: int,
    *,
    after: tuple[str, str] | None = None,
    issuer: str | None = None,
    state: str | None = None,
    find: str | None = None,
) -> Sequence[RowMapping]:
    """A page of the tenant's people by name; `find` is a subject, a pseudonym, or a name as evidence has it."""
    name, pseudonym = after or (None, None)
    values = {"issuer": issuer, "state": state, "find": find, "name": name, "pseudonym": pseudonym}
    return (await conn.execute(_PEOPLE, {**values, "tenant": tenant, "limit": limit})).mappings().all()


_ROLES = text("""
    SELECT a.issuer, a.subject, a.project, a.role, a.created_at, p.pseudonym, p.kind, p.name, p.domain, p.state
    FROM auth.assignment a LEFT JOIN auth.person p USING (tenant, issuer, subject)
    WHERE a.tenant = :tenant
      AND (CAST(:issuer AS text) IS NULL OR (a.issuer, a.subject) = (:issuer, :subject))
      AND (CAST(:role AS text) IS NULL OR a.role = :role)
      AND (CAST(:projects AS text[]) IS NULL OR a.project = ANY (:projects))
      AND (CAST(:i AS text) IS NULL OR (a.issuer, a.subject, a.project, a.role) > (:i, :s, :p, :r))
    ORDER BY a.issuer, a.subject, a.project, a.role LIMIT :limit""")


async def roles(
    conn: AsyncConnection,
    tenant: str,
    limit: int,
    *,
    after: Sequence[str] | None = None,
    whose: tuple[str, str] | None = None,
    role: str | None = None,
    projects: Sequence[str] | None = None,
) -> Sequence[RowMapping]:
    """A page of assignments: of one (issuer, subject), of a role, in some projects ('' is the whole tenant)."""
    issuer, subject = whose or (None, None)
    values = dict(zip(("i", "s", "p", "r"), after or (None,) * 4, strict=True))
    values |= {"issuer": issuer, "subject": subject, "role": role}
    chosen = None if projects is None else list(projects)
    rows = await conn.execute(_ROLES, {**values, "projects": chosen, "tenant": tenant, "limit": limit})
    return rows.mappings().all()


_GROUPS = text("""
    SELECT issuer, name, project, role, created_at FROM auth.group_role
    WHERE tenant = :tenant
      AND (CAST(:issuer AS text) IS NULL OR issuer = :issuer)
      AND (CAST(:names AS text[]) IS NULL OR name = ANY (:names))
      AND (CAST(:projects AS text[]) IS NULL OR project = ANY (:projects))
      AND (CAST(:i AS text) IS NULL OR (issuer, name, project, role) > (:i, :n, :p, :r))
    ORDER BY issuer, name, project, role LIMIT :limit""")
_MAP = text("""
    INSERT INTO auth.group_role (tenant, issuer, name, project, role)
    VALUES (:tenant, :issuer, :name, :project, :role) ON CONFLICT DO NOTHING""")
_UNMAP = text("""
    DELETE FROM auth.group_role WHERE tenant = :tenant AND issuer = :issuer AND name = :name
    AND project = :project AND role = :role""")


async def mappings(
    conn: AsyncConnection,
    tenant: str,
    limit: int,
    *,
    after: Sequence[str] | None = None,
    issuer: str | None = None,
    names: Sequence[str] | None = None,
    projects: Sequence[str] | None = None,
) -> Sequence[RowMapping]:
    """A page of what groups give: of an issuer's, of these groups, in these projects ('' is the whole tenant)."""
    values = dict(zip(("i", "n", "p", "r"), after or (None,) * 4, strict=True))
    chosen = {
        "names": None if names is None else list(names),
        "projects": None if projects is None else list(projects),
    }
    rows = await conn.execute(_GROUPS, {**values, **chosen, "issuer": issuer, "tenant": tenant, "limit": limit})
    return rows.mappings().all()


async def map_group(conn: AsyncConnection, row: Mapping[str, str]) -> bool:
    """Let a group give a role; False where it does."""
    return (await conn.execute(_MAP, dict(row))).rowcount > 0


async def unmap_group(conn: AsyncConnection, row: Mapping[str, str]) -> bool:
    """Let it give the role no more; False where it didn't."""
    return (await conn.execute(_UNMAP, dict(row))).rowcount > 0


_PROJECTS = text("""
    SELECT project, cost_center, state, created_at FROM auth.project
    WHERE tenant = :tenant
      AND (CAST(:named AS text[]) IS NULL OR project = ANY (:named))
      AND (CAST(:after AS text) IS NULL OR project > :after)
    ORDER BY project LIMIT :limit""")
_CREATE = text("""
    INSERT INTO auth.project (tenant, project, cost_center)
    VALUES (:tenant, :project, :cost_center) ON CONFLICT DO NOTHING""")
_CHANGE = text("""
    UPDATE auth.project SET cost_center = :cost_center, state = :state
    WHERE tenant = :tenant AND project = :project""")
_LOCKED = text("""
    SELECT project, cost_center, state, created_at FROM auth.project
    WHERE tenant = :tenant AND project = :project FOR NO KEY UPDATE""")


async def projects(
    conn: AsyncConnection, tenant: str, limit: int, *, after: str | None = None, named: Sequence[str] | None = None
) -> Sequence[RowMapping]:
    """A page of the tenant's projects by name: of these alone where they are named."""
    chosen = None if named is None else list(named)
    rows = await conn.execute(_PROJECTS, {"tenant": tenant, "limit": limit, "after": after, "named": chosen})
    return rows.mappings().all()


async def project(conn: AsyncConnection, tenant: str, name: str) -> RowMapping | None:
    """One project, kept from changing until this transaction ends."""
    return (await conn.execute(_LOCKED, {"tenant": tenant, "project": name})).mappings().one_or_none()


async def create_project(conn: AsyncConnection, tenant: str, name: str, cost_center: str | None) -> bool:
    """Open a project; False where there is one of this name, closed or not."""
    values = {"tenant": tenant, "project": name, "cost_center": cost_center}
    return (await conn.execute(_CREATE, values)).rowcount > 0


async def change_project(conn: AsyncConnection, tenant: str, name: str, *, cost_center: str | None, state: str) -> None:
    """What a project is from now on."""
    values = {"tenant": tenant, "project": name, "cost_center": cost_center, "state": state}
    await conn.execute(_CHANGE, values)
