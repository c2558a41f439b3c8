# SPDX-License-Identifier: Apache-2.0
"""What makes the evidence of an ended job in each form that `control_plane.formats` names, and as which media type.

Enters a job's row that the caller may see; leaves the file. Each opens its own transactions, in the row's tenant, and
raises Refused where the job has no such evidence, or not yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from msgspec import Struct

import ledger.head_store
from control_plane.context import Plane
from control_plane.documents import make
from control_plane.errors import Refused
from control_plane.formats import Format
from control_plane.jobs import evidence, sigstore
from control_plane.jobs.evidence import Row
from ledger import export, tlogproof
from ledger.bundle import MAX_COSIGNATURES
from ledger.rekor import ML_DSA_65, P256
from ledger.sigstore import BUNDLE
from ledger.tlogproof import TlogProof


class Form(Struct, frozen=True):
    """A form: its media type, and what makes it."""

    media_type: str
    make: Callable[[Plane, Row], Awaitable[bytes]]


async def _bundle(plane: Plane, row: Row) -> bytes:
    async with plane.transaction(row["tenant"]) as conn:
        return await evidence.bundle(plane, conn, row)


async def _tlog_proof(plane: Plane, row: Row) -> bytes:
    """The job's entry in the log, which the file carries as its extra data: nothing else of the evidence is in it."""
    async with plane.transaction(row["tenant"]) as conn:
        (index, leaf), _ = await evidence.resting(conn, row)
        cosigned = await ledger.head_store.cosigned_over(conn, index)
        head = cosigned or await ledger.head_store.checkpoint_over(conn, index)
        if head is None:  # entry and checkpoint are one commit; a missing one is a broken ledger
            raise Refused("not_in_log", f"no checkpoint covers entry {index}")
        path = await export.inclusion(conn, index, head.size)
        lines = await ledger.head_store.cosignatures(conn, head.size) if cosigned is not None else []
    note = tlogproof.cosigned(head.note, lines[:MAX_COSIGNATURES])
    return tlogproof.written(TlogProof(index, tuple(path), note, leaf))


FORMS: dict[Format, Form] = {
    "bundle": Form("application/json", _bundle),
    "sigstore": Form(BUNDLE, partial(sigstore.bundle, details=P256)),
    "sigstore-mldsa": Form(BUNDLE, partial(sigstore.bundle, details=ML_DSA_65)),
    "tlog-proof": Form("text/plain", _tlog_proof),
    "pdf": Form("application/pdf", make.pdf),
}
