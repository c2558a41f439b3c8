# SPDX-License-Identifier: Apache-2.0
"""Replays the register and compares it with the rows: the proof that the rows are a cache of the ledger (S4, I6).

Reads one snapshot as the audit role: sealed entries in their order, then what still waits in the inbox. Lease,
heartbeat and vendor handle are operational and not compared; a row may still say SEALING where its final state is
known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import finops.store
import ledger.store
from control_plane.db import snapshot
from control_plane.errors import QcosError
from control_plane.jobs import store
from control_plane.jobs.state import JobState, fold
from control_plane.network import enrolment
from control_plane.network import store as network
from control_plane.reservations import asked as reservations
from control_plane.reservations import store as windows_store
from control_plane.reservations.asked import Key
from finops import books
from finops.errors import FinopsError
from hal_drivers.p2p.reservation import State
from ledger.canonical import dumps, parse_time, sha256
from ledger.chain import Draft, Leaf, body_of, parse_leaf, parse_pending
from ledger.erasure import ERASED
from ledger.fold import FOLDED

Jobs = dict[tuple[str, str], JobState]
Used = defaultdict[tuple[str, str, str], int]
Kept = dict[tuple[str, str], dict[str, Any]]
_NEW: dict[str, Any] = {"statement_blob": None, "result_blob": None, "erased_at": None}


class Replayed(msgspec.Struct, frozen=True):
    """What the ledger says: `hash` is over the canonical form of all jobs and balances."""

    agrees: bool | None
    differences: list[str]
    entries: int
    jobs: int
    hash: str


async def replay(audit: AsyncEngine, *, compare: bool) -> Replayed:
    """Fold the whole ledger; with `compare`, hold every job row, budget, balance and hold against it."""
    async with snapshot(audit) as conn:
        jobs: Jobs = {}
        ledgers: dict[str, books.Books] = defaultdict(books.Books)
        used: Used = defaultdict(int)
        pushed: dict[str, set[str]] = defaultdict(set)
        kept: Kept = {}
        peers: dict[str, enrolment.Record] = {}
        windows: dict[Key, State] = {}
        faults: list[str] = []
        entries = 0
        async for entry, body, where in _entries(conn):
            entries += 1
            tenant, kind = entry.tenant, entry.kind
            try:
                fold(jobs, tenant, kind, body)
                _keep(kept, entry, body)
                _use(used, tenant, kind, body)
                if kind == "rates:pushed":
                    pushed[tenant].add(body["rate_card"])
                enrolment.fold(peers, kind, body)
                reservations.fold(windows, tenant, kind, body)
                ledgers[tenant] = books.fold(ledgers[tenant], kind, body)
            except (QcosError, FinopsError, KeyError) as error:
                faults.append(f"{where} ({kind}) does not follow: {error}")
        differences = faults
        if compare:
            differences = [
                *faults,
                *await _jobs(conn, jobs, kept),
                *_differ(await store.counted(conn), used),
                *await _books(conn, ledgers),
                *await _cards(conn, pushed),
                *_enrolled(await network.records(conn), peers),
                *_reserved(await windows_store.states(conn), windows),
            ]
        digest = sha256(dumps(_state(jobs, ledgers, peers, windows)))
    return Replayed(not differences if compare else None, differences, entries, len(jobs), digest)


async def _entries(conn: AsyncConnection) -> Any:
    async for entry in ledger.store.stream_entries(conn):
        if entry.entry_id is not None:
            leaf = parse_leaf(entry.leaf)
            yield leaf, leaf.body, f"entry {entry.index}"
            if leaf.kind == FOLDED:
                for position, *_, row in (await ledger.store.folded(conn, (leaf.entry_id,)))[leaf.entry_id]:
                    draft = parse_pending(row)
                    yield draft, body_of(draft), f"entry {entry.index}, record {position}"
    for draft in await ledger.store.waiting(conn):
        yield draft, body_of(draft), f"inbox {draft.entry_id}"
        if draft.kind == FOLDED:
            for position, *_, row in (await ledger.store.folded(conn, (draft.entry_id,)))[draft.entry_id]:
                inner = parse_pending(row)
                yield inner, body_of(inner), f"inbox {draft.entry_id}, record {position}"


async def _jobs(conn: AsyncConnection, jobs: Jobs, kept: Kept) -> list[str]:
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
        found += [
            f"job {key[1]} of {key[0]}: {name} is not what the ledger tells"
            for name, value in kept[key].items()
            if row[name] != value
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


def _keep(kept: Kept, entry: Draft | Leaf, body: dict[str, Any]) -> None:
    """What a job's row holds beside its state: who, how much, by which card, and the contents it points to.

    A row that points to another job's result or spec would be served and run as if it were this one's.
    """
    if entry.kind == ERASED:
        kept[entry.tenant, body["job_id"]]["erased_at"] = parse_time(body["at"])
    if not entry.kind.startswith("job:"):
        return
    row = kept.setdefault((entry.tenant, body["job_id"]), _NEW | {"history": []})
    row["history"] = [*row["history"], *body.get("events", ())]
    if entry.kind.startswith("job:admission:"):
        row |= {name: body[name] for name in ("team", "executions", "rate_card", "allowed")}
        row["retention_days"] = body.get("retention_days")  # before they were kept here no entry told them
        row |= {"pseudonym": entry.actor, "level": body["evidence_level"], "workflow": body.get("workflow")}
        row |= {"spec_blob": entry.commitments["spec"], "input_blob": entry.commitments["decision_input"]}
    for name in ("statement", "result"):
        if name in entry.commitments:
            row[f"{name}_blob"] = entry.commitments[name]


def _use(used: Used, tenant: str, kind: str, body: dict[str, Any]) -> None:
    """What quotas count: the executions of admitted jobs, on the day of their first event."""
    if kind == "job:admission:allowed":
        for scope in store.usage_scopes(body["team"], body["project"]):
            used[tenant, scope, body["events"][0]["at"][:10]] += body["executions"]


def _differ(rows: Mapping[tuple[str, str, str], int], used: Used) -> list[str]:
    return [
        f"usage of {scope} of {tenant} on {day}: {rows.get(key, 0)} where the ledger says {used.get(key, 0)}"
        for key in sorted({*rows, *used})
        if rows.get(key, 0) != used.get(key, 0)
        for tenant, scope, day in (key,)
    ]


async def _books(conn: AsyncConnection, ledgers: dict[str, books.Books]) -> list[str]:
    found: list[str] = []
    for tenant in sorted({*ledgers, *await finops.store.tenants(conn)}):
        rows = await finops.store.books(conn, tenant)
        found += [f"{tenant}: {line}" for line in books.differences(rows, ledgers.get(tenant, books.Books()))]
    return found


async def _cards(conn: AsyncConnection, pushed: dict[str, set[str]]) -> list[str]:
    found: list[str] = []
    for tenant, told in sorted(pushed.items()):
        rows = await finops.store.cards(conn, tenant)
        found += [f"{tenant}: rate card {name} was changed" for name, sound in sorted(rows.items()) if not sound]
        found += [f"{tenant}: rate card {name} is told by entries, no row" for name in sorted(told - rows.keys())]
        found += [f"{tenant}: rate card {name} is a row that no entry tells of" for name in sorted(rows.keys() - told)]
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


def _state(
    jobs: Jobs,
    ledgers: dict[str, books.Books],
    peers: Mapping[str, enrolment.Record],
    windows: Mapping[Key, State],
) -> dict[str, Any]:
    """The canonical state: the same entries give the same bytes on every node (S3)."""
    return {
        "reservations": [[*key, windows[key]] for key in sorted(windows)],
        "peers": [msgspec.to_builtins(peers[peer]) for peer in sorted(peers)],
        "jobs": [msgspec.to_builtins(jobs[key]) for key in sorted(jobs)],
        "books": {
            tenant: {
                "budgets": [msgspec.to_builtins(kept.budgets[name]) for name in sorted(kept.budgets)],
                "balances": [
                    [
                        *key,
                        format(kept.balances[key].held, "f"),
                        format(kept.balances[key].captured, "f"),
                    ]
                    for key in sorted(kept.balances)
                ],
            }
            for tenant, kept in sorted(ledgers.items())
        },
    }
