# SPDX-License-Identifier: Apache-2.0
"""What a tenant's own last jobs say of each backend: how many succeeded, and how long the backend let them wait (I7).

Enters: rows of ended jobs. Leaves: a `Past` a backend. A job counts once for each backend that it was handed to or
that failed it; what was the circuit's, the policy's or the owner's doing speaks neither for nor against a backend.
Pure: no clock, randomness or I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from msgspec import Struct

# Ends that are the backend's doing.
FAULTS = frozenset(
    {
        "backend_failed",
        "backend_unavailable",
        "deadline_exceeded",
        "driver_error",
        "handle_unknown",
        "not_finished",
        "outcome_unknown",
    }
)
RECENT = 25  # so many last waits make the queue that is expected where a backend tells of none


class Past(Struct, frozen=True):
    """`succeeded` of `ended` jobs; `queue_s` is the median of the last waits at the backend itself."""

    succeeded: int = 0
    ended: int = 0
    queue_s: float = 0.0


NO_PAST = Past()


def fold(rows: Iterable[Mapping[str, Any]]) -> dict[str, Past]:
    """Backend → its past; `rows`, newest first, are those of `store.past`."""
    succeeded: defaultdict[str, int] = defaultdict(int)
    ended: defaultdict[str, int] = defaultdict(int)
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        backend = row["backend"]
        for line in row["route"] or ():
            if line.get("failed") and line["failed"]["code"] in FAULTS:
                ended[line["backend"]] += 1
        if backend is None or (row["final"] != "COMPLETED" and row["code"] not in FAULTS):
            continue
        ended[backend] += 1
        if row["final"] == "COMPLETED":
            succeeded[backend] += 1
            if row["recent"] and row["wait_s"] is not None and len(waits[backend]) < RECENT:
                waits[backend].append(row["wait_s"])
    return {
        name: Past(succeeded[name], count, median(waits[name]) if waits[name] else 0.0) for name, count in ended.items()
    }
