# SPDX-License-Identifier: Apache-2.0
"""A tenant's first administrator, named on the plane's machine: nobody could ask the API for it (G13).

Refused where somebody is one already, saying who: they can do it. `again` is for a tenant whose administrators are all
gone; the entry says so. The ledger has the person's pseudonym alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane import administrative
from control_plane.accounts import issuers, store
from control_plane.auth import store as rights
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.principal import Assignment, named, pseudonym_of
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.errors import DatabaseUnusable, Refused
from control_plane.sealing import utc_now
from control_plane.settings import Settings

MOST_SHOWN = 10


async def bootstrap(
    settings: Settings, *, issuer: str, subject: str, tenant: str | None, reason: str, again: bool
) -> dict[str, Any]:
    """Give the role; what was given. Durable when it returns."""
    whose = _tenant(settings, issuer, tenant)
    issuers.check(settings, issuer, whose, code="unusable_input")
    if not 0 < len(subject) <= 255 or not subject.isprintable():
        raise Refused("unusable_input", "--subject: 1 to 255 printable characters, as the token's sub has them")
    pool = engine(Database.of_home(settings.home / "db").app, connections=1, name="qcos-bootstrap")
    try:
        return await _appoint(pool, settings, whose, issuer, subject, reason, again=again)
    except FAULTS as fault:
        raise DatabaseUnusable(f"{type(fault).__name__}: in profile dev it answers while qcos up runs") from fault
    finally:
        await pool.dispose()


async def _appoint(
    pool: AsyncEngine, settings: Settings, tenant: str, issuer: str, subject: str, reason: str, *, again: bool
) -> dict[str, Any]:
    user = pseudonym_of(pseudonym_key(settings.home), tenant=tenant, issuer=issuer, subject=subject)
    name, domain = named(subject, tenant=tenant, subject=subject)
    person = {"issuer": issuer, "subject": subject, "pseudonym": user, "name": name, "domain": domain}
    body = {"user": user, "role": store.ADMIN, "project": None, "again": again}
    async with transaction(pool, tenant) as conn:
        if await store.alone(conn, tenant) is None:
            raise Refused("unusable_input", f"no tenant {tenant} here; qcos up makes those of the issuers")
        there = await store.appointed(conn, tenant)
        if there and not again:
            raise Refused("conflict", _who_can(tenant, there))
        await store.add(conn, person | {"tenant": tenant})
        await store.put(conn, tenant, user, "active")
        await rights.assign(conn, tenant, issuer, subject, Assignment(store.ADMIN))
        told = administrative.entry(None, "identity:admin:bootstrapped", body, reason, utc_now(), tenant=tenant)
        await administrative.append(conn, told)
    return {"tenant": tenant, "issuer": issuer, "subject": subject, "user": user, "role": store.ADMIN, "again": again}


def _who_can(tenant: str, there: Sequence[RowMapping]) -> str:
    shown = ", ".join(f"{row['subject']} of {row['issuer']}" for row in there[:MOST_SHOWN])
    more = f" and {len(there) - MOST_SHOWN} more" if len(there) > MOST_SHOWN else ""
    return f"tenant {tenant} has its administrator: {shown}{more}; they can give the role on (qcos roles grant)"


def _tenant(settings: Settings, issuer: str, tenant: str | None) -> str:
    """The tenant meant: the one that the issuer speaks for, where it is one."""
    if tenant is not None:
        return tenant
    speaks = issuers.tenants_of(settings).get(issuer, frozenset())
    if speaks is not None and len(speaks) == 1:
        return next(iter(speaks))
    if speaks == frozenset():
        known = ", ".join(sorted(issuers.tenants_of(settings))) or "none"
        raise Refused("unusable_input", f"--issuer: none that the settings name; they name {known}")
    raise Refused("usage", f"--tenant: this issuer speaks for {', '.join(sorted(speaks or ())) or 'every tenant'}")
