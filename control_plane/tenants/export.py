# SPDX-License-Identifier: Apache-2.0
"""Everything that a tenant owns, as one archive that can be judged offline (G11, G5).

Enters a plane and a tenant; leaves the archive's bytes, piece by piece, so that its size is bounded by nothing but its
reader: the rows of its tables, each job's evidence, every content opened with the tenant's own key, and its whole chain
of entries under one checkpoint. All of it as of one moment. That it was asked for is an entry, written before the first
byte leaves. What is not in it: secrets, and what belongs to nobody or to the plane (`owned`).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative, proving
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.db import snapshot_of
from control_plane.errors import Refused
from control_plane.jobs import evidence
from control_plane.places import Places
from control_plane.tenants import owned, store
from control_plane.tenants.archive import Writer
from ledger import export as proofs
from ledger import proofs as documents
from ledger.canonical import timestamp
from ledger.head_store import StoredCheckpoint

LIMIT_S = 3600.0
PAGE = 500
ENTRIES = 1000
_AT_ONCE = 2  # in one process: each has a connection for as long as it lasts
_places = Places(_AT_ONCE)


async def ask(plane: Plane, who: Principal | None, tenant: str, reason: str) -> None:
    """Tell of an export that begins now; None is the operator. Refused `not_found` where there is no such tenant."""
    async with plane.transaction(tenant) as conn:
        row = await store.standing(conn, tenant)
        if row is None:
            raise Refused("not_found", f"no tenant {tenant[:64]}")
        entry = administrative.entry(who, "tenant:exported", {"tenant": tenant}, reason, plane.now(), tenant=tenant)
        await administrative.append(conn, entry)


async def written(plane: Plane, tenant: str, reason: str, output: str) -> dict[str, Any]:
    """The operator's export of a tenant, open or closed, into a new file of mode 0600."""
    try:
        place = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused("unusable_input", f"{output}: {error.strerror}") from None
    with os.fdopen(place, "wb") as file:
        await ask(plane, None, tenant, reason)
        async for part in stream(plane, tenant):
            file.write(part)
        return {"file": output, "bytes": file.tell()}


async def stream(plane: Plane, tenant: str) -> AsyncIterator[bytes]:
    """The archive; one that breaks off has no manifest."""
    async with _places.turn(tenant), snapshot_of(plane.engine, tenant, limit_s=LIMIT_S) as conn:
        now = plane.now()
        writer = Writer(int(now.timestamp()))
        counts: dict[str, Any] = {}
        head = await proving.checkpoint(conn, 0)
        for table in owned.ROWS:
            counts[table] = 0
            number = 0
            async for rows in store.rows(conn, table, PAGE):
                counts[table] += len(rows)
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                yield writer.add(f"tables/{table}/{number:06}.jsonl", lines.encode())
                number += 1
        async for path, data in _evidence(plane, conn, counts):
            yield writer.add(path, data)
        async for path, data in _contents(plane, conn, tenant, counts):
            yield writer.add(path, data)
        async for path, data in _ledger(conn, tenant, head, counts):
            yield writer.add(path, data)
        about = {"tenant": tenant, "plane": plane.name, "exported_at": timestamp(now), "counts": counts}
        yield writer.end(about)


async def _evidence(plane: Plane, conn: AsyncConnection, counts: dict[str, Any]) -> AsyncIterator[tuple[str, bytes]]:
    """The bundle of each job that has one; others are counted by why not."""
    counts["evidence"] = 0
    async for rows in store.jobs(conn, PAGE):
        for row in rows:
            try:
                data = await evidence.bundle(plane, conn, row)
            except Refused as refused:
                if refused.code not in {"evidence_pending", "content_erased", "not_in_log"}:
                    raise
                counts[refused.code] = counts.get(refused.code, 0) + 1
            else:
                counts["evidence"] += 1
                yield f"evidence/{row['job_id']}.json", data


async def _contents(
    plane: Plane, conn: AsyncConnection, tenant: str, counts: dict[str, Any]
) -> AsyncIterator[tuple[str, bytes]]:
    """Each content as its salt followed by itself: the file's SHA-256 is its name, to which entries commit."""
    await plane.vault.unlock(conn, tenant)
    counts["contents"] = 0
    async for blobs in store.blobs(conn, tenant, PAGE // 10):
        for blob in blobs:
            opened = plane.vault.open(blob)
            counts["contents"] += 1
            yield f"contents/{blob.commitment.removeprefix('sha256:')}", opened.salt + opened.content


async def _ledger(
    conn: AsyncConnection, tenant: str, head: StoredCheckpoint, counts: dict[str, Any]
) -> AsyncIterator[tuple[str, bytes]]:
    """The tenant's entries in the order of its chain, and the proof of the last, which names all before it."""
    start: int | None = 0
    counts["entries"], last = 0, None
    while start is not None:
        found, start = await proving.page(conn, tenant, start, ENTRIES)
        found = [one for one in found if one.index < head.size]
        if not found:
            break
        last = found[-1]
        lines = b"".join(
            json.dumps(
                {
                    "index": one.index,
                    "tenant_index": one.tenant_index,
                    "entry_id": one.entry_id,
                    "kind": one.kind,
                    "leaf": base64.b64encode(one.leaf).decode(),
                    "records": [base64.b64encode(record).decode() for record in one.records],
                }
            ).encode()
            + b"\n"
            for one in found
        )
        yield f"ledger/entries/{found[0].tenant_index:09}.jsonl", lines
        counts["entries"] += len(found)
    yield "ledger/checkpoint", head.note
    if last is not None:
        path = tuple(await proofs.inclusion(conn, last.index, head.size))
        shown = documents.Inclusion(index=last.index, leaf=last.leaf, path=path, checkpoint=head.note.decode())
        yield "ledger/last.json", documents.document(shown)
