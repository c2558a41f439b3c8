# SPDX-License-Identifier: Apache-2.0
"""Replays the register and compares it with the rows: the proof that the rows are a cache of the ledger (S4, I6).

Reads one snapshot as the audit role: sealed entries in their order, then what still waits in the inbox. Lease,
heartbeat and vendor handle are operational and not compared; a row may still say SEALING where its final state is
known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import finops.store
import ledger.folded_store
import ledger.head_store
import ledger.store
from control_plane.costs import invoice_store, reconciling
from control_plane.db import snapshot
from control_plane.errors import Refused
from control_plane.jobs import store
from control_plane.jobs.register import Register
from control_plane.jobs.state import JobState
from control_plane.network import enrolment
from control_plane.network import store as network
from control_plane.notices import alerts
from control_plane.reservations import store as windows_store
from control_plane.reservations.asked import Key
from finops import alert_store, books, card_store
from hal_drivers.p2p.reservation import State
from ledger.canonical import parse_time, sha256
from ledger.chain import Draft, Leaf, body_of, parse_leaf, parse_pending
from ledger.fold import FOLDED
from ledger.head_store import StoredCheckpoint


class Replayed(msgspec.Struct, frozen=True):
    """What the ledger says: `hash` is over the canonical state of the first `size` entries, of which `entries` (and the
    records under them, and with `compare` what still waits) were folded here.
    """

    agrees: bool | None
    differences: list[str]
    entries: int
    jobs: int
    hash: str
    size: int = 0
    snapshot: int | None = None


class Start(msgspec.Struct, frozen=True):
    """A state that was kept, and how many entries are folded in it."""

    size: int
    register: Register


async def replay(
    audit: AsyncEngine,
    *,
    compare: bool,
    start: Start | None = None,
    size: int | None = None,
    keep: Callable[[Register, StoredCheckpoint], None] | None = None,
) -> Replayed:
    """Fold the ledger, from `start` on, up to a checkpoint (`size`, or the newest).

    With `compare` what waits is folded too, and every job row, budget, balance and hold held against it. `keep` is
    given the state at the checkpoint, and must not keep the register itself. Refused `not_in_log` where the log has no
    checkpoint of that size; a `start` beyond it is left aside.
    """
    async with snapshot(audit) as conn:
        head = await _head(conn, size)
        end = head.size if head is not None else 0
        begun = start if start is not None and start.size <= end else Start(0, Register())
        register, entries = begun.register, 0
        async for entry, body, where in sealed(conn, begun.size, end):
            entries += 1
            register.fold(entry, body, where)
        digest = sha256(register.bytes())
        if keep is not None and head is not None:
            keep(register, head)
        differences = register.faults
        if compare:
            async for entry, body, where in _waiting(conn):
                entries += 1
                register.fold(entry, body, where)
            differences = [
                *register.faults,
                *await _jobs(conn, register.jobs, register.kept),
                *_differ(await store.counted(conn), register.used),
                *await _books(conn, register.books),
                *await _cards(conn, register.pushed, register.accepted),
                *alerts.differences(await alert_store.every(conn), register.alerts),
                *_enrolled(await network.records(conn), register.peers),
                *_reserved(await windows_store.states(conn), register.windows),
                *reconciling.differences(await invoice_store.every(conn), register.reconciled),
            ]
    agrees = not differences if compare else None
    return Replayed(agrees, differences, entries, len(register.jobs), digest, end, begun.size or None)


async def _head(conn: AsyncConnection, size: int | None) -> StoredCheckpoint | None:
    if size is None:
        return await ledger.head_store.latest_checkpoint(conn)
    found = await ledger.head_store.checkpoint(conn, size)
    if found is None:
        raise Refused("not_in_log", f"no checkpoint has {size} entries")
    return found


async def sealed(
    conn: AsyncConnection, start: int, end: int
) -> AsyncIterator[tuple[Leaf | Draft, dict[str, Any], str]]:
    """Sealed entries in [start, end), each with the records that it folds: entry, body, and where it stands."""
    async for entry in ledger.store.stream_entries(conn, start, end):
        if entry.entry_id is not None:
            leaf = parse_leaf(entry.leaf)
            yield leaf, leaf.body, f"entry {entry.index}"
            if leaf.kind == FOLDED:
                for position, *_, row in (await ledger.folded_store.folded(conn, (leaf.entry_id,)))[leaf.entry_id]:
                    draft = parse_pending(row)
                    yield draft, body_of(draft), f"entry {entry.index}, record {position}"


async def _waiting(conn: AsyncConnection) -> AsyncIterator[tuple[Draft, dict[str, Any], str]]:
    for draft in await ledger.store.waiting(conn):
        yield draft, body_of(draft), f"inbox {draft.entry_id}"
        if draft.kind == FOLDED:
            for position, *_, row in (await ledger.folded_store.folded(conn, (draft.entry_id,)))[draft.entry_id]:
                inner = parse_pending(row)
                yield inner, body_of(inner), f"inbox {draft.entry_id}, record {position}"


_ABSENT = dict.fromkeys(("approval", "envelope", "estimate", "rate_cards", "accounting", "ran_as"))
"""What a row has of what no entry tells."""
_LET_GO = frozenset({"estimate", "accounting", "ran_as"})
"""What a way down to an earlier schema drops: a row without it is no lie."""


async def _jobs(
    conn: AsyncConnection, jobs: Mapping[tuple[str, str], JobState], kept: Mapping[tuple[str, str], dict[str, Any]]
) -> list[str]:
    found: list[str] = []
    seen: set[tuple[str, str]] = set()
    for row in await store.rows(conn):
        key = (row["tenant"], row["job_id"])
        seen.add(key)
        told = jobs.get(key)
        if told is None:
            found.append(f"job {key[1]} of {key[0]}: a row that no entry tells of")
            continue
        found += [f"job {key[1]} of {key[0]}: {difference}" for difference in _compare(row, told)]
        # Until its end is told the names are as operational as the handle.
        absent = _ABSENT if told.final is None else _ABSENT | {"vendor_tasks": None}
        found += [
            f"job {key[1]} of {key[0]}: {name} is not what the ledger tells"
            for name, value in (absent | kept[key]).items()
            if row[name] != (parse_time(value) if name == "erased_at" and value else value)
            and not (name in _LET_GO and row[name] is None)
        ]
    found += [f"job {job} of {tenant}: told by entries, no row" for tenant, job in sorted(jobs.keys() - seen)]
    return found


def _compare(row: Any, told: JobState) -> list[str]:
    found = []
    states = {told.state, told.final} if told.state == "SEALING" else {told.state}
    if row["state"] not in states:
        found.append(f"state {row['state']} where the ledger says {told.state}")
    names = ("final", "seq", "attempt", "project", "decision_id", "backend", "error", "bundle_id")
    found += [
        f"{name} {row[name]} where the ledger says {getattr(told, name)}"
        for name in names
        if row[name] != getattr(told, name)
    ]
    if told.cost is not None and (row["cost"], row["currency"]) != (
        told.cost,
        told.currency,
    ):
        found.append(f"cost {row['cost']} {row['currency']} where the ledger says {told.cost} {told.currency}")
    if told.cost is None and row["cost"] is not None:
        found.append(f"cost {row['cost']} where the ledger says none")
    return found


def _differ(rows: Mapping[tuple[str, str, str], int], used: Mapping[tuple[str, str, str], int]) -> list[str]:
    return [
        f"usage of {scope} of {tenant} on {day}: {rows.get(key, 0)} where the ledger says {used.get(key, 0)}"
        for key in sorted({*rows, *used})
        if rows.get(key, 0) != used.get(key, 0)
        for tenant, scope, day in (key,)
    ]


async def _books(conn: AsyncConnection, ledgers: Mapping[str, books.Books]) -> list[str]:
    found: list[str] = []
    for tenant in sorted({*ledgers, *await finops.store.tenants(conn)}):
        rows = await finops.store.books(conn, tenant)
        found += [f"{tenant}: {line}" for line in books.differences(rows, ledgers.get(tenant, books.Books()))]
    return found


async def _cards(
    conn: AsyncConnection, pushed: Mapping[str, Mapping[str, bool]], accepted: Mapping[str, set[str]]
) -> list[str]:
    found: list[str] = []
    for tenant, told in sorted(pushed.items()):
        rows = await card_store.sound(conn, tenant)
        found += [f"{tenant}: rate card {name} was changed" for name, (sound, _) in sorted(rows.items()) if not sound]
        found += [
            f"{tenant}: rate card {name} is told by entries, no row" for name in sorted(told.keys() - rows.keys())
        ]
        found += [
            f"{tenant}: rate card {name} is a row that no entry tells of" for name in sorted(rows.keys() - told.keys())
        ]
        if [name for name in rows if told.get(name)] != [
            name for name, known in told.items() if known and name in rows
        ]:
            found.append(f"{tenant}: the order in which its rate cards were pushed is not what the ledger tells")
        taken = {name for name, (_, accepted_) in rows.items() if accepted_}
        differ = sorted(taken ^ accepted.get(tenant, set()))
        found += [f"{tenant}: whether rate card {name} was accepted is not what the ledger tells" for name in differ]
    return found


def _enrolled(rows: Mapping[str, enrolment.Record], told: Mapping[str, enrolment.Record]) -> list[str]:
    """A row that says more of a peer than its entries is a node that nobody let in (N14)."""
    return [
        f"peer {peer}: {rows.get(peer)} where the ledger says {told.get(peer)}"
        for peer in sorted({*rows, *told})
        if rows.get(peer) != told.get(peer)
    ]


def _reserved(rows: Mapping[Key, State], told: Mapping[Key, State]) -> list[str]:
    return [
        f"reservation {key[1]} of {key[0]}: {rows.get(key)} where the ledger says {told.get(key)}"
        for key in sorted({*rows, *told})
        if rows.get(key) != told.get(key)
    ]
