# SPDX-License-Identifier: Apache-2.0
"""Closing a month: nothing is charged to it any more, its statement is made, and the sealer signs it (G7, I6).

(1) freeze: under the tenant's lock of months, alone, a row and its entry; from that commit on a charge counts in the
next month. Only a month that is over (UTC), and only in their order. (2) wait until that entry is sealed: its
checkpoint is what the statement rests on. (3) sum the lines, which nobody can change now, outside any lock. (4) keep
the statement, with the entry that commits to it, in one transaction; the sealer signs and stamps it as evidence.
Whoever comes between, or again, goes on where the month stands: a month has one statement.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import time
import uuid
from typing import Any, cast

import msgspec

import ledger.head_store
import ledger.store
from control_plane import administrative
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from finops import charge_store, month_store
from finops.allocation import Allocation
from finops.errors import MonthInvalid
from finops.month_store import Stored
from finops.statement import Month, month_span
from ledger import cost_statement
from ledger.canonical import parse_time, sha256, timestamp
from ledger.chain import SALT_BYTES, Evidence
from ledger.cost_statement import CostStatement, Method, Position, Previous
from ledger.predicate import Profile, Scope

SEAL_S = 10.0  # for the sealer to take an entry
LOOK_S = 0.02
READ_S = 600.0  # for a month of many lines


async def close(plane: Plane, who: Principal, month: str, reason: str) -> Stored:
    """Freeze and close it; the month as it stands then: `closing` where the sealer is away, to be asked for again.

    Raises MonthInvalid for what isn't a month, isn't over, or comes before another that is open.
    """
    _, over = month_span(month)
    if plane.now() < over:
        raise MonthInvalid(f"{month} isn't over before {over:%Y-%m-%d} 00:00 UTC", field="month")
    stored = await _frozen(plane, who, month, reason)
    if stored.state == "closing" and (position := await _position(plane, who.tenant, stored)) is not None:
        return await _closed(plane, who, stored, position, reason)
    return stored


async def preview(plane: Plane, tenant: str, month: str) -> dict[str, Any]:
    """What a statement of the month would say now: its sums, by the method in force."""
    month_span(month)
    async with plane.transaction(tenant, limit_s=READ_S) as conn:
        allocation = await month_store.allocation(conn, tenant)
        summed = Month(allocation)
        async for row in charge_store.lines(conn, tenant, month=month):
            summed.add(row)
    named = _method(allocation)
    return summed.content() | {"allocation": None if named is None else msgspec.to_builtins(named)}


async def _frozen(plane: Plane, who: Principal, month: str, reason: str) -> Stored:
    tenant = who.tenant
    async with plane.transaction(tenant) as conn:
        await month_store.lock(conn, tenant)
        months = {one.month: one for one in await month_store.months(conn, tenant)}
        if (found := months.get(month)) is not None:
            return found
        if (later := max(months, default="")) > month:
            raise MonthInvalid(f"{later} is closed already, and months close in their order", field="month")
        if (earlier := await month_store.open_before(conn, tenant, month)) is not None:
            raise MonthInvalid(f"{earlier} has charges and is open; close it first", field="month")
        now = _moment(plane)
        entry = administrative.entry(who, "costs:month_frozen", {"freeze": {"month": month}}, reason, now)
        await month_store.freeze(conn, tenant, month, entry.entry_id, now)
        await administrative.append(conn, entry)
    async with plane.transaction(tenant) as conn:
        stored = await month_store.month(conn, tenant, month)
    assert stored is not None  # it was committed, and no row of a month goes
    return stored


async def _position(plane: Plane, tenant: str, stored: Stored) -> Position | None:
    """The checkpoint over the entry that froze the month; None where it isn't sealed in time."""
    until = time.monotonic() + SEAL_S
    while time.monotonic() < until:
        async with plane.transaction(tenant) as conn:
            entry = await ledger.store.entry(conn, stored.frozen_entry)
            head = await ledger.head_store.checkpoint_over(conn, entry[0]) if entry is not None else None
        if head is not None:
            return Position(size=head.size, root=head.root.hex())
        await asyncio.sleep(LOOK_S)
    return None


async def _closed(plane: Plane, who: Principal, stored: Stored, position: Position, reason: str) -> Stored:
    tenant, month = who.tenant, stored.month
    async with plane.transaction(tenant, limit_s=READ_S) as conn:
        allocation = await month_store.allocation(conn, tenant)
        summed = Month(allocation)
        async for row in charge_store.lines(conn, tenant, month=month):
            summed.add(row)
        before = [one for one in await month_store.months(conn, tenant) if one.month < month]
    previous = _previous(before[-1]) if before else None
    now = _moment(plane)
    record = msgspec.convert(
        summed.content()
        | {
            "type": cost_statement.PREDICATE_TYPE,
            "version": 1,
            "bundle_id": str(uuid.uuid4()),
            "scope": Scope(profile=cast("Profile", plane.settings.profile), plane=plane.name, tenant=tenant),
            "evidence_level": "full",
            "month": month,
            "frozen_at": timestamp(stored.frozen_at),
            "closed_at": timestamp(now),
            "allocation": _method(allocation),
            "ledger": position,
            "previous": previous,
        },
        CostStatement,
    )
    await _keep(plane, who, stored, record, (now, reason))
    async with plane.transaction(tenant) as conn:
        kept = await month_store.month(conn, tenant, month)
    assert kept is not None  # it was frozen before
    return kept


async def _keep(
    plane: Plane, who: Principal, stored: Stored, record: CostStatement, when: tuple[dt.datetime, str]
) -> None:
    statement = cost_statement.statement_bytes(record)
    salt = secrets.token_bytes(SALT_BYTES)
    told = {
        "month": record.month,
        "frozen": stored.frozen_entry,
        "bundle_id": record.bundle_id,
        "lines": record.lines.sha256,
        "count": record.lines.count,
        "statement": sha256(statement),
        "previous": None if record.previous is None else record.previous.sha256,
        "allocation": None if record.allocation is None else record.allocation.sha256,
    }
    now, reason = when
    entry = administrative.entry(who, "costs:month_closed", {"close": told}, reason, now)
    proof = Evidence(bundle_id=record.bundle_id, level="full", statement=statement, salt=salt)
    async with plane.transaction(who.tenant) as conn:
        evidence = (record.bundle_id, statement, salt)
        if not await month_store.close(
            conn, who.tenant, record.month, entry_id=entry.entry_id, at=now, evidence=evidence
        ):
            return  # somebody was first: the month has that statement
        await ledger.store.append(conn, [(entry, proof)])


def _previous(stored: Stored) -> Previous:
    if stored.statement is None:
        raise Refused("conflict", f"{stored.month} is still closing; close it first")
    return Previous(month=stored.month, sha256=sha256(stored.statement))


def _method(allocation: Allocation | None) -> Method | None:
    if allocation is None:
        return None
    return Method(name=allocation.method.name, revision=allocation.method.revision, sha256=allocation.hash)


def _moment(plane: Plane) -> dt.datetime:
    """Now, to the millisecond, as the ledger writes it."""
    return parse_time(timestamp(plane.now()))
