# SPDX-License-Identifier: Apache-2.0
"""Proofs of the log for whoever may have them: an entry of one's own, and that the log only grew (G5, I7).

Enters a principal and what is asked; leaves a proof document (`ledger.proofs`). Bytes of an entry go to those alone who
may read the tenant's register, or the evidence of the job that the entry tells of: what the caller may not see is
answered like what isn't there. Proofs are computed from tiles, in O(log n) reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.folded_store
import ledger.head_store
import ledger.store
from control_plane.auth.access import may
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import store
from ledger import export, proofs
from ledger.bundle import Fold
from ledger.chain import Draft, body_of, parse_pending, scan_leaf
from ledger.errors import LedgerError
from ledger.fold import FOLDED
from ledger.head_store import StoredCheckpoint

PAGE_BYTES = 4 * 1024 * 1024
_INDEX = re.compile(r"0|[1-9][0-9]{0,14}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Shown(Struct, frozen=True):
    """An entry of the tenant's own, with the records that it folds."""

    index: int
    tenant_index: int
    entry_id: str
    kind: str
    leaf: bytes
    records: tuple[bytes, ...]


class _Found(Struct, frozen=True):
    index: int
    leaf: bytes
    said: Draft
    fold: Fold | UnsetType


async def inclusion(plane: Plane, principal: Principal, which: str, size: int) -> bytes:
    """That an entry is in the log of `size` entries (0: of the newest checkpoint)."""
    async with plane.transaction(principal.tenant) as conn:
        found = await _found(plane, conn, principal, which)
        head = await checkpoint(conn, size)
        if found.index >= head.size:
            raise Refused("not_in_log", f"the log of {head.size} entries does not have that entry yet")
        return await _document(conn, found, head)


async def inclusions(
    plane: Plane, conn: AsyncConnection, principal: Principal, names: Sequence[str]
) -> dict[str, bytes]:
    """The same of several entries by their ids, where the caller has seen to it that they may be shown.

    What isn't sealed is left out.
    """
    head = await checkpoint(conn, 0)
    documents: dict[str, bytes] = {}
    for name in names:
        found = await _looked_up(plane, conn, principal, name)
        if found is not None and found.index < head.size:
            documents[name] = await _document(conn, found, head)
    return documents


async def consistency(conn: AsyncConnection, old: int, new: int) -> bytes:
    """That the log of `new` entries (0: of the newest checkpoint) begins with that of `old`."""
    head = await checkpoint(conn, new)
    if not 0 < old <= head.size:
        raise Refused("not_in_log", f"from {old} to {head.size} entries nothing is to be proven")
    path = await export.consistency(conn, old, head.size)
    before = await ledger.head_store.checkpoint(conn, old)
    root = before.root if before is not None else await export.root(conn, old)
    note = before.note.decode() if before is not None else None
    kept = proofs.Head(size=old, root=root.hex(), checkpoint=note)
    return proofs.document(proofs.Consistency(old=kept, path=tuple(path), checkpoint=head.note.decode()))


async def checkpoint(conn: AsyncConnection, size: int) -> StoredCheckpoint:
    """The checkpoint of this size, or of 0 the newest; raises Refused `not_in_log`, naming the next that there is."""
    newest = await ledger.head_store.latest_checkpoint(conn)
    if newest is None:
        raise Refused("not_in_log", "the log has no checkpoint yet")
    if size in (0, newest.size):
        return newest
    found = await ledger.head_store.checkpoint(conn, size)
    if found is None:
        later = await ledger.head_store.checkpoint_over(conn, size)
        near = f"the next one has {later.size}" if later is not None else f"the newest has {newest.size}"
        raise Refused("not_in_log", f"no checkpoint has {size} entries; {near}")
    return found


async def page(conn: AsyncConnection, tenant: str, start: int, limit: int) -> tuple[list[Shown], int | None]:
    """The tenant's entries from its `start`-th on, as many as fit a page, and where the next page begins."""
    rows = await ledger.store.of_tenant(conn, tenant, start, limit + 1)
    found: list[Shown] = []
    room = PAGE_BYTES
    for row in rows:
        if len(found) == limit or (found and room < 0):
            return found, row.tenant_index
        records: tuple[bytes, ...] = ()
        if row.kind == FOLDED:
            kept = (await ledger.folded_store.folded(conn, (str(row.entry_id),)))[str(row.entry_id)]
            records = tuple(record for *_, record in kept)
        room -= len(row.leaf) + sum(map(len, records))
        place = row.tenant_index or 0
        found.append(Shown(row.index, place, str(row.entry_id), row.kind, bytes(row.leaf), records))
    return found, None


async def _document(conn: AsyncConnection, found: _Found, head: StoredCheckpoint) -> bytes:
    path = await export.inclusion(conn, found.index, head.size)
    return proofs.document(
        proofs.Inclusion(
            index=found.index, leaf=found.leaf, path=tuple(path), checkpoint=head.note.decode(), fold=found.fold
        )
    )


async def _found(plane: Plane, conn: AsyncConnection, principal: Principal, which: str) -> _Found:
    """The entry by its place, its id, or the job whose last one it is; not found where the caller may not see it."""
    found = await _looked_up(plane, conn, principal, which)
    if found is None or not await _visible(plane, principal, body_of(found.said)):
        raise Refused("not_found", f"no entry {which[:128]}")
    return found


async def _looked_up(plane: Plane, conn: AsyncConnection, principal: Principal, which: str) -> _Found | None:
    if _INDEX.fullmatch(which):
        leaf = await ledger.store.leaf_at(conn, int(which))
        return None if leaf is None else _alone(int(which), leaf)
    name: str | None = which
    if not _UUID.fullmatch(which):
        (rows,) = await plane.read(principal.tenant, store.find(which)) if "\x00" not in which else ([],)
        name = str(rows[0]["outcome_entry"] or rows[0]["admission_entry"]) if rows else None
    if name is None:
        return None
    entry = await ledger.store.entry(conn, name)
    if entry is not None:
        return _alone(*entry)
    place = await ledger.folded_store.fold_of(conn, name)
    over = await ledger.store.entry(conn, place[0]) if place is not None else None
    if place is None or over is None:
        return None
    inner = await export.folded(conn, *place)
    return _Found(over[0], over[1], parse_pending(inner.record), inner)


def _alone(index: int, leaf: bytes) -> _Found | None:
    try:
        return _Found(index, leaf, scan_leaf(leaf), UNSET)
    except LedgerError:
        return None  # a leaf without a tenant, which nobody's transaction sees


async def _visible(plane: Plane, principal: Principal, body: dict[str, Any]) -> bool:
    """Whether the caller may read the register, or the evidence of the job that the entry tells of."""
    if may(principal, "ledger:read", None):
        return True
    job_id = body.get("job_id")
    if not isinstance(job_id, str):
        return False
    (rows,) = await plane.read(principal.tenant, store.find(job_id))
    return bool(rows) and may(principal, "evidence:read", rows[0]["project"])
