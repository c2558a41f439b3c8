# SPDX-License-Identifier: Apache-2.0
"""What `qcos status` says: the record that `up` keeps, checked against the processes, and the age of the unsealed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from control_plane import store, witnesses
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.home import is_alive, is_stopped, running_record
from control_plane.sealing import LOOK_LIMIT_S
from control_plane.settings import Settings
from ledger import outside
from ledger.canonical import timestamp


def status(settings: Settings) -> dict[str, Any]:
    """The document of the contracts; raises Unreachable when no plane runs in this home.

    `sealed_age_ms` is how long the oldest entry waits for its seal, 0 when all is sealed, null when the database
    doesn't answer; `alarm` is what stops sealing, null while nothing does. A process that was stopped isn't ready.
    `outside` says how each witness and anchor stands; one that holds another history than the database is an alarm.
    `sandbox` says of each wall around untrusted circuits whether it `holds`; what is `missing` is let
    pass in profile dev alone.
    """
    record = running_record(settings.home)
    document: dict[str, Any] = msgspec.to_builtins(record)
    processes = []
    for process in record.processes:
        ready = process.ready and is_alive(process.pid, process.started) and not is_stopped(process.pid)
        processes.append({"name": process.name, "pid": process.pid, "ready": ready, "restarts": process.restarts})
    document["processes"] = processes
    document |= asyncio.run(_from_database(settings))
    sealing = document["sealed_age_ms"] is not None and document["alarm"] is None
    sealing = sealing and not any(one["asked"] and one["code"] in outside.CONFLICT for one in document["outside"])
    document["ready"] = record.ready and all(p["ready"] for p in processes) and sealing
    for internal in ("pid", "started"):
        del document[internal]
    return document


async def _from_database(settings: Settings) -> dict[str, Any]:
    pool = engine(Database.of_home(settings.home / "db").audit, connections=1, limit_s=LOOK_LIMIT_S)
    try:
        async with transaction(pool, None) as conn:
            alarm = await store.alarm(conn)
            waited_s = await store.waited_s(conn)
            backends = await store.backends(conn)
            others = await outside.standings(conn)
    except FAULTS:
        return {"sealed_age_ms": None, "alarm": None, "sandbox": {}, "backends": [], "outside": []}
    finally:
        await pool.dispose()
    walls = {name: word for found in backends.values() for name, word in found.items()}
    aged = {"sealed_age_ms": max(0, round(waited_s * 1000)), "alarm": alarm}
    return aged | {"sandbox": walls, "backends": list(backends), "outside": [_other(one, settings) for one in others]}


def _other(one: outside.Standing, settings: Settings) -> dict[str, Any]:
    """How a witness or an anchor stands; `asked` is false for one that this plane no longer goes to."""
    told: dict[str, Any] = msgspec.to_builtins(one)
    return told | {"asked": one.name in witnesses.names(settings), "since": timestamp(one.since)}
