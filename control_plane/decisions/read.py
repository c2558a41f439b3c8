# SPDX-License-Identifier: Apache-2.0
"""Reads recorded decisions with the documents that were judged: a page, or one by its id or its job's (G2, I7).

Leaves bytes: JSON whose `input` is the recorded document as it was judged, spliced in and never parsed on the way. An
input whose key was erased is null, and `gone` says so.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct

import ledger.blob_store
from control_plane.context import Plane
from control_plane.decisions import store
from control_plane.jobs import store as jobs
from control_plane.jobs.view import plain
from ledger.blob import SealedBlob
from ledger.canonical import timestamp

EVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Page(Struct, frozen=True):
    """Documents of one page, and the place (time, job id) of its last row where more may follow."""

    document: bytes
    last: tuple[dt.datetime, str] | None


async def page(
    plane: Plane,
    tenant: str,
    *,
    after: tuple[dt.datetime, str],
    until: dt.datetime = EVER,
    projects: Collection[str] | None,
    limit: int,
) -> Page:
    """Decisions of admissions of these projects (None: all), oldest first."""
    asked = store.page(
        after=after, until=until, projects=None if projects is None else sorted(projects), limit=limit + 1
    )
    (rows,) = await plane.read(tenant, asked)
    more, rows = len(rows) > limit, rows[:limit]
    shown = await _shown(plane, tenant, rows)
    return Page(msgspec.json.encode(shown), (rows[-1]["submitted_at"], rows[-1]["job_id"]) if more else None)


async def one(plane: Plane, tenant: str, name: str) -> tuple[str, bytes] | None:
    """(project, document) of a decision by its id, or of the job of this id; None where there is none."""
    try:
        asked = store.one(str(uuid.UUID(name)))
    except ValueError:
        asked = jobs.find(name)
    (rows,) = await plane.read(tenant, asked) if "\x00" not in name else ([],)
    if not rows:
        return None
    (shown,) = await _shown(plane, tenant, rows)
    return rows[0]["project"], msgspec.json.encode(shown | {"checks": rows[0]["decision"]["checks"]})


async def _shown(plane: Plane, tenant: str, rows: Sequence[Any]) -> list[dict[str, Any]]:
    await plane.vault.ready(plane.engine, tenant)
    async with plane.transaction(tenant) as conn:
        blobs = await ledger.blob_store.blobs(conn, tenant, [row["input_blob"] for row in rows])
    # Deciphering a page takes some ten milliseconds: on a thread, so that others are answered meanwhile (N13).
    return await asyncio.to_thread(lambda: [_one(plane, row, blobs.get(row["input_blob"])) for row in rows])


def _one(plane: Plane, row: Any, blob: SealedBlob | None) -> dict[str, Any]:
    decision = row["decision"]
    return {
        "decision_id": row["decision_id"],
        "job_id": row["job_id"],
        "action": "job:submit",
        "at": timestamp(row["submitted_at"]),
        "project": row["project"],
        "allow": decision["allow"],
        "reasons": decision["reasons"],
        "backends": list(row["allowed"]),
        "nodes": decision.get("allowed_nodes", []),
        "policy_revision": decision["policy_revision"],
        "engine": decision["engine"],
        "state": row["final"] or row["state"],
        "backend": row["backend"],
        "held": plain(row["hold_amount"]),
        "charged": plain(row["cost_amount"]),
        "currency": row["currency"],
        "gone": "erased" if blob is None else None,
        "input": None if blob is None else msgspec.Raw(plane.vault.open(blob).content),
    }
