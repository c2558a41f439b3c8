# SPDX-License-Identifier: Apache-2.0
"""The statement of a closed month as a file, and the file of its lines (G7).

The statement is signed as evidence is and handed out once it is sealed and stamped. The lines are streamed from the
rows, which nobody can change any more; whoever has them finds their hash in the statement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

import ledger.store
from control_plane.context import Plane
from control_plane.costs import closing
from control_plane.errors import Refused
from control_plane.jobs import evidence
from finops import charge_store, month_store
from finops.month_store import Stored
from finops.statement import line_bytes, month_span
from ledger import cost_statement

READ_S = 600.0
CHUNK = 256 * 1024
SUMS: Final = ("lines", "totals", "projects", "providers", "cost_centers", "pools", "rate_cards", "allocation")


async def found(plane: Plane, tenant: str, month: str) -> Stored:
    """The closed month; Refused `not_found`, or `evidence_pending` while it is closing."""
    month_span(month)
    async with plane.transaction(tenant) as conn:
        stored = await month_store.month(conn, tenant, month)
    if stored is None:
        raise Refused("not_found", f"{month} is not closed: it has no statement")
    if stored.state != "closed":
        raise Refused("evidence_pending", f"{month} is closing; close it again to go on")
    return stored


async def sums(plane: Plane, tenant: str, month: str) -> dict[str, Any]:
    """What the month comes to: as its statement says, else as one would say now."""
    month_span(month)
    async with plane.transaction(tenant) as conn:
        stored = await month_store.month(conn, tenant, month)
    if stored is None or stored.statement is None:
        state = "open" if stored is None else stored.state
        return {"month": month, "state": state} | await closing.preview(plane, tenant, month)
    said = msgspec.json.decode(stored.statement)["predicate"]
    return {"month": month, "state": stored.state} | {name: said[name] for name in SUMS}


async def file(plane: Plane, tenant: str, month: str) -> bytes:
    """The statement's file; Refused `evidence_pending` until it is sealed and stamped."""
    stored = await found(plane, tenant, month)
    assert stored.statement is not None and stored.salt is not None and stored.closed_entry is not None  # noqa: PT018 - a closed month has all
    record = cost_statement.parse_statement(stored.statement)
    async with plane.transaction(tenant) as conn:
        entry = await ledger.store.entry(conn, stored.closed_entry)
        if entry is None:
            raise Refused("evidence_pending", "the entry is durable and not sealed yet")
        signatures, proof = await evidence.proven(conn, entry, record.bundle_id, "full", stored.salt)
        if signatures.qcos_signature is None:
            raise Refused("document_failed", f"the sealer refused to sign the statement of entry {entry[0]}")
        named = record.allocation
        method = None if named is None else await month_store.method(conn, tenant, named.sha256)
    return cost_statement.assemble(record, signatures=signatures, proof=proof, method=method)


async def lines(plane: Plane, tenant: str, month: str) -> AsyncIterator[bytes]:
    """The lines file, in chunks."""
    async with plane.transaction(tenant, limit_s=READ_S) as conn:
        chunk = bytearray()
        async for row in charge_store.lines(conn, tenant, month=month):
            chunk += line_bytes(row)
            if len(chunk) >= CHUNK:
                yield bytes(chunk)
                chunk.clear()
        yield bytes(chunk)
