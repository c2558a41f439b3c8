# SPDX-License-Identifier: Apache-2.0
"""One batch of the log, computed: inbox rows in, everything that the sealer writes for them out.

`LogState` is what the next batch needs to know of the log. `arrange` judges each row (its tenant is that of
the row, it is canonical, its evidence is closed, of this plane, and bound to it) and turns the bad ones into
alarm entries: a bad row never stops the log, and its bytes are not lost. `lay` places the drafts and grows a
copy of the state, which becomes the state only once the batch has committed. Signing is apart
(`ledger.signed`), since it is nearly all of the cost, and comes between the two: right after an entry with evidence
stand the signatures' own leaves (`ledger.rekor`), and an entry that names them. Pure but for the random ids of the
sealer's own entries, which enter as a function. No database, no clock.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast, get_args

from msgspec import Struct

from ledger import cost_statement, merkle
from ledger.canonical import dumps, sha256
from ledger.chain import (
    PLANE,
    Draft,
    Evidence,
    Level,
    check_bound,
    claims_evidence,
    is_leaf_of,
    leaf_hash_text,
    parse_pending,
    place,
)
from ledger.checkpoint import note_hash
from ledger.cost_statement import CostStatement
from ledger.documents import REFUSED
from ledger.errors import EvidenceUnbound, LeafInvalid, LedgerError
from ledger.policies import NOT_SIGNED
from ledger.predicate import Predicate, Profile, Scope, parse_statement
from ledger.rekor import leaf_of
from ledger.signed import Signed

RECORD = "hashedrekord"  # the kind of a leaf that is a signature's record
LOGGED = "evidence:hashedrekord:logged"  # of the entry that names those of a bundle
SEALER = "sealer"  # the actor of the sealer's own entries
# NOTIFY once a batch, with the kinds in it, and once a round of tokens. A kind ends so where evidence awaits tokens.
SEALED_CHANNEL = "qcos_sealed"
UNSTAMPED = "?"
KEPT_BYTES = 4096  # how much of an unreadable row its alarm entry keeps; the rest is under its hash


class Row(NamedTuple):
    """An inbox row as it was taken."""

    id: int
    tenant: str
    pending: bytes
    bundle_id: str | None
    level: str | None
    statement: bytes | None
    salt: bytes | None
    traceparent: str | None = None


class Plane(Struct, frozen=True):
    """The plane that this sealer speaks for; evidence of another is not signed."""

    profile: Profile
    name: str


class Item(Struct, frozen=True):
    """An entry to be placed, the evidence that rests on it, and its signatures once they are made."""

    draft: Draft
    evidence: Evidence | None = None
    signed: Signed | None = None


class Placed(Struct, frozen=True):
    """An entry in its place."""

    index: int
    tenant_index: int
    item: Item
    leaf: bytes


class LogState:
    """The log's right edge, its newest checkpoint, its name, and where each tenant's chain stands."""

    def __init__(self, edge: merkle.Edge, hash_of_note: str | None) -> None:
        self.edge = edge
        self.note_hash = hash_of_note
        self.note: bytes | None = None
        self.origin: str | None = None  # the log's name; None before the first checkpoint
        self.sealed_at: datetime | None = None  # the clock that sealed it; None for what older versions sealed
        self.tenants: dict[str, tuple[int, str | None]] = {}  # tenant -> next tenant_index, tenant_prev

    def follow(self, note: bytes, sealed_at: datetime | None) -> None:
        """Another checkpoint is the newest now."""
        self.note, self.note_hash, self.sealed_at = note, note_hash(note), sealed_at

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.edge.size


class Laid(Struct, frozen=True):
    """A batch with everything but its signatures, and the state after it."""

    placed: tuple[Placed, ...]
    records: tuple[tuple[int, bytes], ...]  # (index, leaf) of each signature's record, which is no entry
    tiles: tuple[tuple[int, int, int, bytes], ...]  # level, index, start, hashes
    size: int
    root: bytes
    edge: merkle.Edge
    tenants: dict[str, tuple[int, str | None]]


class Alarms:
    """Makes the sealer's own entries: `new_id` gives a fresh uuid4, `now` the time of the batch."""

    def __init__(self, new_id: Callable[[], str], now: str) -> None:
        self._new_id = new_id
        self._now = now

    def entry(self, tenant: str, kind: str, body: dict[str, Any]) -> Item:
        """An entry of the sealer's own."""
        fields = {
            "entry_id": self._new_id(),
            "tenant": tenant,
            "kind": kind,
            "actor": SEALER,
            "time": self._now,
            "body": body,
            "commitments": {},
            "schema": 1,
        }
        return Item(parse_pending(dumps(fields)))

    def row_refused(self, row: Row, reason: LedgerError) -> Item:
        """The record of a row that is no entry: its bytes, or their beginning, and why."""
        kept = base64.b64encode(row.pending[:KEPT_BYTES]).decode()
        body = {"row": row.id, "sha256": sha256(row.pending), "bytes": kept, "reason": reason.code}
        return self.entry(PLANE, "ledger:row:refused", body | {"detail": _plain(reason)})

    def logged(self, item: Item, leaves: Sequence[tuple[int, bytes]]) -> Item:
        """The entry that binds the records of a bundle's signatures to its tenant."""
        assert item.evidence is not None
        assert item.signed is not None
        named = [
            {"index": index, "key_details": record.key_details, "leaf_hash": leaf_hash_text(leaf)}
            for record, (index, leaf) in zip(item.signed.records, leaves, strict=True)
        ]
        return self.entry(item.draft.tenant, LOGGED, {"bundle_id": item.evidence.bundle_id, "leaves": named})

    def evidence_refused(self, draft: Draft, reason: LedgerError) -> Item:
        """The record of a statement that is not signed; its entry is sealed all the same."""
        body = {"entry_id": draft.entry_id, "reason": reason.code, "detail": _plain(reason)}
        return self.entry(draft.tenant, "evidence:refused", body)

    def document_refused(self, draft: Draft, reason: LedgerError) -> Item:
        """The record of a document that is not signed; what asked for it is sealed all the same."""
        body = {"entry_id": draft.entry_id, "reason": reason.code, "detail": _plain(reason)}
        return self.entry(draft.tenant, REFUSED, body)

    def policy_refused(self, draft: Draft, reason: LedgerError) -> Item:
        """The record of a policy push that is not signed; what told of it is sealed all the same."""
        body = {"entry_id": draft.entry_id, "reason": reason.code, "detail": _plain(reason)}
        return self.entry(draft.tenant, NOT_SIGNED, body)


class Known(Struct, frozen=True):
    """What the log already has of a batch's ids: so that a repeated id never fails a batch."""

    leaves: dict[str, bytes] = {}  # by entry id
    bundles: frozenset[str] = frozenset()


NOTHING = Known()


def arrange(rows: Iterable[Row], plane: Plane, alarms: Alarms, known: Known = NOTHING) -> list[Item]:
    """The entries that the rows become, in order, an alarm right after the entry that it is about.

    A second, equal copy of an entry is dropped: its writer retried after an unclear answer.
    """
    items: list[Item] = []
    seen: dict[str, bytes] = {}
    bundles = set(known.bundles)
    for row in rows:
        try:
            draft = parse_pending(row.pending)
            if draft.tenant != row.tenant:
                raise LeafInvalid(f"the row belongs to another tenant than {draft.tenant}")
            if _repeated(row, draft, seen, known):
                continue
        except LedgerError as error:
            items.append(alarms.row_refused(row, error))
            continue
        try:
            evidence = _evidence(row, draft, plane)
            if evidence is not None and evidence.bundle_id in bundles:
                raise EvidenceUnbound(f"a second entry with bundle {evidence.bundle_id}")
        except LedgerError as error:
            items += (Item(draft), alarms.evidence_refused(draft, error))
            continue
        if evidence is not None:
            bundles.add(evidence.bundle_id)
        items.append(Item(draft, evidence))
    return items


def lay(items: Sequence[Item], state: LogState, own: Alarms) -> Laid:
    """Give each item the next index and its tenant the next link, and log its signatures; `state` is left as it is.

    `state.tenants` MUST know every tenant of the items.
    """
    laying = Laying(state, own)
    laying.add(items)
    return laying.laid()


class Laying:
    """A batch while it grows; the state that it begins from is left as it is."""

    def __init__(self, state: LogState, own: Alarms) -> None:
        self._edge, self._tenants = state.edge.copy(), dict(state.tenants)
        self._note_hash = state.note_hash
        self._own = own
        self._placed: list[Placed] = []
        self._records: list[tuple[int, bytes]] = []
        self._tiles: dict[tuple[int, int], tuple[int, list[bytes]]] = {}

    def unknown(self, items: Iterable[Item]) -> set[str]:
        """Tenants of these items whose chains have to be told by `learn` before."""
        return {item.draft.tenant for item in items} - self._tenants.keys()

    def learn(self, tenants: dict[str, tuple[int, str | None]]) -> None:
        """Where more chains stand."""
        self._tenants |= tenants

    def add(self, items: Iterable[Item]) -> tuple[Sequence[Placed], Sequence[tuple[int, bytes]]]:
        """Place these too, and log their signatures: the entries and the records that were made of them."""
        placed, records = len(self._placed), len(self._records)
        for item in items:
            self._entry(item)
            if item.signed is not None and item.signed.records:
                leaves = [self._record(leaf_of(record)) for record in item.signed.records]
                self._entry(self._own.logged(item, leaves))
        return self._placed[placed:], self._records[records:]

    def _entry(self, item: Item) -> None:
        draft = item.draft
        tenant_index, tenant_prev = self._tenants[draft.tenant]
        index = self._edge.size
        leaf = place(
            draft,
            index=index,
            tenant_index=tenant_index,
            tenant_prev=tenant_prev,
            prev_checkpoint=None if self._placed else self._note_hash,
        )
        found = merkle.leaf_hash(leaf)
        self._tenants[draft.tenant] = (tenant_index + 1, "sha256:" + found.hex())
        self._placed.append(Placed(index, tenant_index, item, leaf))
        self._grow(found)

    def _record(self, leaf: bytes) -> tuple[int, bytes]:
        stands = (self._edge.size, leaf)
        self._records.append(stands)
        self._grow(merkle.leaf_hash(leaf))
        return stands

    def _grow(self, leaf: bytes) -> None:
        for level, node, found in self._edge.append(leaf):
            if level % merkle.TILE_HEIGHT == 0:
                tile_level, tile_index, start = merkle.tile_of(level, node)
                self._tiles.setdefault((tile_level, tile_index), (start, []))[1].append(found)

    def laid(self) -> Laid:
        """The batch as it is now."""
        return Laid(
            placed=tuple(self._placed),
            records=tuple(self._records),
            tiles=tuple(
                (level, index, start, b"".join(found)) for (level, index), (start, found) in self._tiles.items()
            ),
            size=self._edge.size,
            root=self._edge.root(),
            edge=self._edge,
            tenants=self._tenants,
        )


def _repeated(row: Row, draft: Draft, seen: dict[str, bytes], known: Known) -> bool:
    sealed = known.leaves.get(draft.entry_id)
    earlier = seen.setdefault(draft.entry_id, row.pending)
    if earlier is row.pending and sealed is None:
        return False
    if earlier == row.pending and (sealed is None or is_leaf_of(draft, sealed)):
        return True
    raise LeafInvalid(f"another entry has the id {draft.entry_id}")


def _evidence(row: Row, draft: Draft, plane: Plane) -> Evidence | None:
    if row.bundle_id is None or row.level is None or row.statement is None or row.salt is None:
        if claims_evidence(draft):
            raise EvidenceUnbound("the entry names evidence, but no statement came with it")
        return None
    if row.level not in get_args(Level):
        raise EvidenceUnbound("no such evidence level")
    evidence = Evidence(bundle_id=row.bundle_id, level=cast("Level", row.level), statement=row.statement, salt=row.salt)
    check_bound(draft, evidence)
    closing = draft.kind == cost_statement.CLOSED  # an entry of this kind carries a cost statement, and no other does
    parsed = cost_statement.parse_statement if closing else parse_statement
    predicate: Predicate | CostStatement = parsed(evidence.statement)
    claimed = (predicate.bundle_id, predicate.evidence_level, predicate.scope)
    ours = Scope(profile=plane.profile, plane=plane.name, tenant=draft.tenant)
    if claimed != (evidence.bundle_id, evidence.level, ours):
        raise EvidenceUnbound("the statement is of another bundle, level, plane or tenant")
    return evidence


def _plain(reason: LedgerError) -> str:
    return str(reason).encode("ascii", "replace").decode()[:500]
