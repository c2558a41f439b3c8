# SPDX-License-Identifier: Apache-2.0
"""Whether what was erased is what the log says was erased (I4, G12).

An entry of kind `evidence:content:erased` names in `body.commitments` the blobs whose keys went, and in `body.keys`
how many of them had one. A blob without a key of which no entry tells was erased in silence; one that an entry names
and that still has its key was not erased. Proofs don't need the content: this judges the blobs beside the log, never
the tree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import blob_store, store
from ledger.chain import Skimmed, body_of

ERASED = "evidence:content:erased"


class Erasures:
    """What the entries of a log say was erased, held against the blobs page by page."""

    def __init__(self) -> None:
        self._told = 0

    async def check(self, conn: AsyncConnection, told: Mapping[int, Skimmed]) -> AsyncIterator[tuple[int, str]]:
        """(entry, what is wrong) of each of these entries whose word was not kept."""
        for index, record in told.items():
            body = body_of(record)
            if not isinstance(body.get("keys"), int) or not isinstance(body.get("commitments"), list):
                yield index, "the entry doesn't say what it erased"
                continue
            self._told += body["keys"]
            if left := await blob_store.with_keys(conn, record.tenant, body["commitments"]):
                yield index, f"{len(left)} contents that this entry erased still have their keys: {left[0]}"

    async def silent(self, conn: AsyncConnection) -> str | None:
        """What is wrong with all blobs together, once every entry was seen."""
        lost = await blob_store.keyless(conn) - self._told
        if lost > 0:  # what is durable and not sealed yet was told as well
            lost -= sum(body_of(draft)["keys"] for draft in await store.waiting(conn) if draft.kind == ERASED)
        return f"{lost} contents have lost their keys, and no entry tells of it" if lost > 0 else None
