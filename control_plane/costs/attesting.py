# SPDX-License-Identifier: Apache-2.0
"""What charges rest on, for whoever may see them: extracts of bundles, and proofs of entries, many at once (G7, I7).

An extract has the signed record, its proofs, facts and rate card; of circuit and result it has the hashes. An entry is
given where it tells of a charge, to those who may read all costs of the tenant. What the caller may not see is answered
like what isn't there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from control_plane import proving
from control_plane.auth.access import may
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs.recomputing import NEEDED
from control_plane.errors import Refused
from control_plane.jobs import evidence, store
from finops import charge_store

MOST = 64
JobId = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
EntryId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class ChargesAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs, and which entries of the ledger, at most 64 of each."""

    jobs: Annotated[tuple[JobId, ...], Meta(max_length=MOST)] = ()
    entries: Annotated[tuple[EntryId, ...], Meta(max_length=MOST)] = ()


class Attested(Struct, frozen=True):
    """One of them: `document` is the extract or the proof, byte by byte; without one `detail` says why."""

    id: str
    document: str | None = None
    detail: str | None = None


class ChargesAttested(Struct, frozen=True):
    """What was asked for, in that order."""

    jobs: tuple[Attested, ...]
    entries: tuple[Attested, ...]


asking = msgspec.json.Decoder(ChargesAsked)


async def attest(plane: Plane, who: Principal, asked: ChargesAsked) -> ChargesAttested:
    """The extract of each job and the proof of each entry."""
    return ChargesAttested(await _jobs(plane, who, asked.jobs), await _entries(plane, who, asked.entries))


async def _jobs(plane: Plane, who: Principal, jobs: Sequence[str]) -> tuple[Attested, ...]:
    if not jobs:
        return ()
    found: list[Attested] = []
    looked_up = await plane.read(who.tenant, *map(store.find, jobs))
    async with plane.transaction(who.tenant) as conn:
        for job_id, rows in zip(jobs, looked_up, strict=True):
            if not rows or not may(who, "cost:read", rows[0]["project"]):
                found.append(Attested(job_id, detail="no such job"))
                continue
            try:
                data = await evidence.bundle(plane, conn, rows[0], NEEDED)
            except Refused as refused:
                found.append(Attested(job_id, detail=str(refused)))
            else:
                found.append(Attested(job_id, document=data.decode()))
    return tuple(found)


async def _entries(plane: Plane, who: Principal, entries: Sequence[str]) -> tuple[Attested, ...]:
    if not entries:
        return ()
    proofs: dict[str, bytes] = {}
    if may(who, "cost:read", None):
        async with plane.transaction(who.tenant) as conn:
            charged = await charge_store.telling(conn, who.tenant, entries)
            proofs = await proving.inclusions(plane, conn, who, sorted(charged))
    return tuple(
        Attested(name, document=data.decode())
        if (data := proofs.get(name)) is not None
        else Attested(name, detail="no sealed entry that tells of a charge, or none that you may see")
        for name in entries
    )
