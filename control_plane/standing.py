# SPDX-License-Identifier: Apache-2.0
"""What `qcos status` says: the record that `up` keeps, checked against the processes, and the age of the unsealed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from control_plane import store
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.home import is_alive, is_stopped, running_record
from control_plane.sealing import LOOK_LIMIT_S
from control_plane.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """The document of the contracts; raises Unreachable when no plane runs in this home.

    `sealed_age_ms` is how long the oldest entry waits for its seal, 0 when all is sealed, null when the database
    doesn't answer; `alarm` is what stops sealing, null while nothing does. A process that was stopped isn't ready.
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
    except FAULTS:
        return {"sealed_age_ms": None, "alarm": None, "sandbox": {}, "backends": []}
    finally:
        await pool.dispose()
    walls = {name: word for found in backends.values() for name, word in found.items()}
    aged = {"sealed_age_ms": max(0, round(waited_s * 1000)), "alarm": alarm}
    return aged | {"sandbox": walls, "backends": list(backends)}
