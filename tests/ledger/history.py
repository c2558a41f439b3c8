# SPDX-License-Identifier: Apache-2.0
"""A log in memory with real leaves of several tenants, and every proof of it, as a plane gives them out."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ledger import chain, checkpoint, fold, merkle, proofs
from tests.ledger.plane import T0, Plane


class History:
    """Entries of these tenants in this order, sealed one a batch; each size has a checkpoint."""

    def __init__(
        self,
        plane: Plane,
        tenants: Sequence[str],
        *,
        folds: Sequence[int] = (),
        said: Mapping[int, tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.plane, self.leaves = plane, list[bytes]()
        self._said = said or {}
        self.records: dict[int, list[bytes]] = {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        self._edge, self._last = merkle.Edge(), dict[str, tuple[int, str]]()
        for index, tenant in enumerate(tenants):
            self._seal(index, tenant, folds=index in folds)
        self._notes: dict[int, bytes] = {}

    def _seal(self, index: int, tenant: str, *, folds: bool) -> None:
        body: dict[str, Any] = {"n": index}
        if folds:
            self.records[index] = [self._pending(tenant, f"{index}-{n}", {"n": n}, "tenant:noted") for n in (0, 1)]
            body = fold.body(self.records[index])
        kind = fold.FOLDED if folds else "tenant:noted"
        kind, body = self._said.get(index, (kind, body))
        number, link = self._last.get(tenant, (-1, None))
        leaf = chain.place(
            chain.parse_pending(self._pending(tenant, str(index), body, kind)),
            index=index,
            tenant_index=number + 1,
            tenant_prev=link,
            prev_checkpoint=None,
        )
        self.leaves.append(leaf)
        self._last[tenant] = (number + 1, chain.leaf_hash_text(leaf))
        for level, place, found in self._edge.append(merkle.leaf_hash(leaf)):
            self.nodes[level, place] = found

    @staticmethod
    def _pending(tenant: str, name: str, body: dict[str, Any], kind: str) -> bytes:
        entry_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        made = chain.Pending(entry_id=entry_id, tenant=tenant, kind=kind, actor="a-1", time=T0, body=body)
        return chain.pending_bytes(made)

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries."""
        return merkle.root(map(merkle.leaf_hash, self.leaves[:size]))

    def note(self, size: int) -> bytes:
        """The checkpoint of this size."""
        if size not in self._notes:
            keys = self.plane.keys
            self._notes[size] = checkpoint.sign(
                self.plane.origin, size, self.root(size), ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65
            )
        return self._notes[size]

    def path(self, index: int, size: int) -> tuple[bytes, ...]:
        """The inclusion path of an entry."""
        return tuple(merkle.inclusion_proof(index, size, lambda level, place: self.nodes[level, place]))

    def inclusion(self, index: int, size: int) -> proofs.Inclusion:
        """That an entry is in the log of this size."""
        note = self.note(size).decode()
        return proofs.Inclusion(index=index, leaf=self.leaves[index], path=self.path(index, size), checkpoint=note)

    def consistency(self, old: int, new: int) -> proofs.Consistency:
        """That the log of one size begins with that of another."""
        path = merkle.consistency_proof(old, new, lambda level, place: self.nodes[level, place])
        kept = proofs.Head(size=old, root=self.root(old).hex(), checkpoint=self.note(old).decode())
        return proofs.Consistency(old=kept, path=tuple(path), checkpoint=self.note(new).decode())

    def completeness(self, tenant: str, size: int) -> proofs.Completeness:
        """A tenant's entries among the first `size`; there must be one."""
        own = [index for index, leaf in enumerate(self.leaves[:size]) if chain.scan_leaf(leaf).tenant == tenant]
        records = {index: self.records[index] for index in own if index in self.records}
        leaves = [self.leaves[index] for index in own]
        return proofs.completeness(tenant, leaves, records, self.path(own[-1], size), self.note(size).decode())
