# SPDX-License-Identifier: Apache-2.0
"""What is shown of an ended job's artefacts: its result's parts, and what became of a network job's fragments (N6)."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import divided, evidence, view
from control_plane.jobs.admit import shown_state

_WITHOUT_RESULT = frozenset({"FAILED", "CANCELED", "UNCERTAIN"})


async def read(plane: Plane, row: evidence.Row, names: tuple[str, ...]) -> list[Any]:
    """Artefacts of an ended job that are JSON; None for one that it doesn't have. One circuit's needs no second."""
    kept = [name for name in names if name in row["artefacts"]]
    if "compiled.json" not in row["artefacts"]:
        kept = [name for name in kept if name != "execution"]
    async with plane.transaction(row["tenant"]) as conn:
        opened = await plane.vault.read_all(conn, row["tenant"], [row["artefacts"][name] for name in kept])
    found = {name: msgspec.json.decode(one.content) for name, one in zip(kept, opened, strict=True)}
    return [found.get(name) for name in names]


async def job(plane: Plane, row: evidence.Row) -> dict[str, Any]:
    """The job; one of the network that ended without a result says what happened to each fragment.

    A completed one's stand in its result, and what was erased is shown no more.
    """
    shown = view.shown(row)
    if shown_state(row) in _WITHOUT_RESULT and "network" in row["artefacts"]:
        try:
            plan, network = await read(plane, row, ("plan", "network"))
        except Refused as error:
            if error.code != "content_erased":
                raise
        else:
            shown["fragments"] = divided.fragment_results(plan, network)
    return shown
