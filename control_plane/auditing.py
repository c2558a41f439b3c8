# SPDX-License-Identifier: Apache-2.0
"""`ledger verify` and `ledger replay` wired: they read the database as `audit`, on the plane's machine, and no API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane import anchors, snapshots
from control_plane.db import Database, conninfo, engine, snapshot
from control_plane.errors import Refused, Unreachable
from control_plane.jobs import refold
from control_plane.jobs.register import Register
from control_plane.settings import AnchorFacts, Settings, located
from ledger.anchoring import compare
from ledger.audit import verify_log
from ledger.errors import LedgerError
from ledger.head import read_head
from ledger.head_store import StoredCheckpoint


async def verify() -> dict[str, Any]:
    """{ok, size, root, checked, failures [{index, reason}]} of the whole log; with anchors, [{name, ok, detail}] too.

    An anchor that holds another history fails the log; one that can't be read is said, and fails nothing.
    """
    settings = located()
    async with _audit(settings) as audit, snapshot(audit) as conn:
        report = await verify_log(conn, head=read_head(settings.home / "head"))
    document: dict[str, Any] = msgspec.to_builtins(report)
    held = [await _held(settings, facts) for facts in settings.anchor]
    wrong = [{"index": None, "reason": f"anchor {one['name']}: {one['detail']}"} for one in held if one["ok"] is False]
    document["failures"] = [*document["failures"], *wrong]
    return document | {"ok": document["ok"] and not wrong} | ({"anchors": held} if held else {})


async def _held(settings: Settings, facts: AnchorFacts) -> dict[str, Any]:
    """What an anchor holds against the database; `ok` null where it can't be read."""
    import psycopg

    try:
        notes = await asyncio.to_thread(anchors.build(facts, settings.home).heads)
        told = conninfo(_database(settings).audit)
        async with await psycopg.AsyncConnection.connect(told, autocommit=True, connect_timeout=10) as conn:
            found = await compare(conn, notes)
    except LedgerError as error:
        return {"name": facts.name, "ok": None, "detail": str(error)}
    detail = f"{found.code}: {found.detail}" if found else f"{len(notes)} heads agree"
    return {"name": facts.name, "ok": found is None, "detail": detail}


async def replay(
    *, compare: bool, start: Path | None = None, size: int | None = None, state: Path | None = None
) -> dict[str, Any]:
    """{agrees, differences, entries, jobs, hash, size, snapshot} of the fold, from a snapshot on if one is given.

    With `state` the canonical state at the checkpoint is written there.
    """

    def keep(register: Register, _: StoredCheckpoint) -> None:
        if state is not None:
            try:
                state.write_bytes(register.bytes())
            except OSError as error:
                raise Refused("unusable_input", f"{state}: {error.strerror}") from None

    async with _audit(located()) as audit:
        begun = None if start is None else await snapshots.opened(start, audit)
        report = await refold.replay(audit, compare=compare, start=begun, size=size, keep=keep)
    document: dict[str, Any] = msgspec.to_builtins(report)
    return document


async def snapshot_made() -> dict[str, Any]:
    """{file, size, root, state_sha256, entry_id} of a snapshot made now."""
    settings = located()
    _database(settings)
    document: dict[str, Any] = msgspec.to_builtins(await snapshots.make(settings))
    return document


@asynccontextmanager
async def _audit(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The database as `audit` sees it; Unreachable where it doesn't answer."""
    audit = engine(_database(settings).audit, connections=2, name="qcos-audit")
    try:
        yield audit
    except OperationalError as error:
        raise Unreachable(f"the database of {settings.home} does not answer; qcos up starts it") from error
    finally:
        await audit.dispose()


def _database(settings: Settings) -> Database:
    try:
        return Database.of_home(settings.home / "db")
    except FileNotFoundError:
        raise Unreachable(f"{settings.home} holds no plane; QCOS_HOME names another, qcos up makes one") from None
