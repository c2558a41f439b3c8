# SPDX-License-Identifier: Apache-2.0
"""Alike entries under one entry (G5): many durable records become one leaf, and each can still be proven.

Enters: pending records (canonical bytes, as their writers left them) of one tenant. Leaves: the body of the entry of
kind `ledger:entries:folded`, which states their number and the RFC 6962 root over their bytes; for one record its inner
path; and back: the record that an entry proves. The records' bytes are kept beside the log (`ledger.folded`): without
them nothing under the entry can be shown, and `ledger verify` finds one that is missing or changed. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ledger import merkle
from ledger.canonical import dumps
from ledger.chain import Draft, parse_pending
from ledger.errors import EvidenceInvalid, LedgerError

__all__ = ["FOLDED", "MAX_ROWS", "body", "differences", "expanded", "path"]

FOLDED = "ledger:entries:folded"
MAX_ROWS = 1024

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def body(rows: Sequence[bytes]) -> dict[str, Any]:
    """What the entry over these records says of them."""
    kinds = Counter(parse_pending(row).kind for row in rows)
    times = sorted(parse_pending(row).time for row in rows)
    return {
        "count": len(rows),
        "root": _text(merkle.root(map(merkle.leaf_hash, rows))),
        "kinds": dict(sorted(kinds.items())),
        "first": times[0],
        "last": times[-1],
    }


def path(rows: Sequence[bytes], position: int) -> list[bytes]:
    """The inclusion path of one record in the tree over all of them, lowest hash first."""
    hashes = [merkle.leaf_hash(row) for row in rows]

    def read(level: int, index: int) -> bytes:
        return merkle.root(hashes[index << level : (index + 1) << level])

    return merkle.inclusion_proof(position, len(rows), read)


def expanded(
    *, tenant: str, kind: str, told: dict[str, Any], row: bytes, position: int, proof: Sequence[bytes]
) -> Draft:
    """The record that an entry proves by this inner path; EvidenceInvalid or ProofInvalid where it doesn't."""
    if kind != FOLDED:
        raise EvidenceInvalid(f"an entry of kind {kind} folds nothing")
    count, root = told.get("count"), told.get("root")
    if not isinstance(count, int) or not isinstance(root, str) or not _HASH.fullmatch(root):
        raise EvidenceInvalid("the entry names no count and root of what it folds")
    draft = parse_pending(row)
    if draft.tenant != tenant:
        raise EvidenceInvalid("the folded record belongs to another tenant")
    merkle.verify_inclusion(
        index=position,
        size=count,
        leaf=merkle.leaf_hash(row),
        path=proof,
        root=bytes.fromhex(root.removeprefix("sha256:")),
    )
    return draft


def differences(told: dict[str, Any], tenant: str, kept: Sequence[tuple[int, str, str, bytes]]) -> str | None:
    """What is wrong with the records kept under an entry, as (position, tenant, entry id, bytes); None if nothing."""
    if [position for position, *_ in kept] != list(range(len(kept))) or len(kept) != told.get("count"):
        return f"{len(kept)} of the {told.get('count')} records that it folds are kept"
    rows = [row for *_, row in kept]
    try:
        drafts = [parse_pending(row) for row in rows]
        if dumps(body(rows)) != dumps(told):
            return "the records kept are not those that it folds"
    except LedgerError as error:
        return f"a folded record: {error}"
    if any(
        (draft.tenant, draft.entry_id) != (of, name) or of != tenant
        for draft, (_, of, name, _) in zip(drafts, kept, strict=True)
    ):
        return "a folded record lies under another id or tenant than its own"
    return None


def _text(found: bytes) -> str:
    return f"sha256:{found.hex()}"
