# SPDX-License-Identifier: Apache-2.0
"""What `qcos status` says: the record that `up` keeps, checked against the processes, and the age of the unsealed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from control_plane import store
from control_plane.db import FAULTS, Database, engine, transaction
from control_plane.home import is_alive, running_record
from control_plane.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """The document of the contracts; raises Unreachable when no plane runs in this home.

    `sealed_age_ms` is how long the oldest entry waits for its seal, 0 when all is sealed, null when the database
    doesn't answer. `sandbox` says of each wall around untrusted circuits whether it `holds`; what is `missing` is let
    pass in profile dev alone.
    """
    record = running_record(settings.home)
    document: dict[str, Any] = msgspec.to_builtins(record)
    processes = []
    for process in record.processes:
        ready = process.ready and is_alive(process.pid, process.started)
        processes.append({"name": process.name, "pid": process.pid, "ready": ready, "restarts": process.restarts})
    document["processes"] = processes
    document |= asyncio.run(_from_database(settings))
    document["ready"] = record.ready and all(p["ready"] for p in processes) and document["sealed_age_ms"] is not None
    for internal in ("pid", "started"):
        del document[internal]
    return document


async def _from_database(settings: Settings) -> dict[str, Any]:
    pool = engine(Database.of_home(settings.home / "db").audit, connections=1)
    try:
        async with transaction(pool, None) as conn:
            waiting = await store.oldest_unsealed(conn)
            backends = await store.backends(conn)
    except FAULTS:
        return {"sealed_age_ms": None, "sandbox": {}, "backends": []}
    finally:
        await pool.dispose()
    walls = {name: word for found in backends.values() for name, word in found.items()}
    return {"sealed_age_ms": _age_ms(waiting), "sandbox": walls, "backends": list(backends)}


def _age_ms(waiting: bytes | None) -> int:
    return round(store.age_s(waiting) * 1000)
