# SPDX-License-Identifier: Apache-2.0
"""Catching up with a log, and proving the agreement (S5).

Enters: a source whose word is not believed, the file of what was seen before, and a trust file that came another way.
Leaves: the file, brought up to the newest checkpoint, and what shows that both sides are of one mind. In this order:
the note's signatures; that it continues the one seen before (consistency, from O(log n) tiles); the entries that are
missing, a page a transaction, so that a killed follower goes on where it was; that they are those under the note (of
the whole log by its root; of a tenant by its chain and the last one's inclusion); the fold; and the hash of the folded
state against each `ledger:snapshot:made` of the plane. What doesn't agree is refused and named, and nothing of it is
taken up: `log_forked`, `entry_tampered`, `state_differs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec import Struct

from control_plane.errors import Refused
from control_plane.follower.source import Source
from control_plane.follower.store import Kept, Store
from control_plane.jobs.register import Register, restored
from control_plane.snapshots import KIND as SNAPSHOT
from ledger import chain, fold, merkle
from ledger import checkpoint as notes
from ledger.canonical import sha256
from ledger.errors import CheckpointInvalid, LedgerError
from ledger.trust import Trust


class Agreement(Struct, frozen=True):
    """Both sides have the same log and the same state up to `size`; `snapshots` are the sizes compared by their hash.

    `entries`, `tiles` and `requests` are what this catching up took.
    """

    agrees: bool
    whole: bool
    tenant: str | None
    size: int
    root: str
    state_sha256: str
    snapshots: tuple[int, ...]
    entries: int
    tiles: int
    requests: int


def catch_up(source: Source, store: Store, trust: Trust) -> Agreement:
    """Bring the follower up to the source's newest checkpoint."""
    return _Catching(source, store, trust).run()


class _Catching:
    def __init__(self, source: Source, store: Store, trust: Trust) -> None:
        self._source, self._store = source, store
        self._verifiers = [by for _, by in trust.log]
        self._tiles: dict[tuple[int, int], bytes] = {}
        note = store.value("head")
        self._old = None if note is None else notes.parse(note)
        self._verified = store.number("verified")

    def run(self) -> Agreement:
        """The steps, each durable before the next."""
        kind = b"whole" if self._source.whole else b"tenant"
        if (known := self._store.value("kind")) not in (None, kind):
            raise Refused("usage", f"this folder follows as {str(known, 'ascii')}; take another one")
        note = self._source.checkpoint()
        head = self._head(note)
        self._continues(head)
        before = self._store.count()
        self._fetch(head.size)
        edge = self._judge(head)
        register, compared = self._fold(head.size)
        state = register.bytes()
        self._store.put(
            {
                "kind": kind,
                "head": note,
                "verified": str(self._count_below(head.size)).encode(),
                "edge": json.dumps([edge.size, [peak.hex() for peak in edge.peaks]]).encode(),
                "state": state,
            }
        )
        tenant = None if self._source.whole else self._tenant()
        return Agreement(
            agrees=True,
            whole=self._source.whole,
            tenant=tenant,
            size=head.size,
            root=head.root.hex(),
            state_sha256=sha256(state) if tenant is None else register.hashes()[tenant],
            snapshots=compared,
            entries=self._store.count() - before,
            tiles=len(self._tiles),
            requests=self._source.requests,
        )

    def _head(self, note: bytes) -> notes.Checkpoint:
        try:
            return notes.verify(note, self._verifiers)
        except CheckpointInvalid as error:
            raise Refused("log_forked", f"the source's checkpoint: {error}") from None

    def _continues(self, head: notes.Checkpoint) -> None:
        """The tiles lead to the note's root, and the note goes on from the one that was seen before."""
        old, size = self._old, head.size
        wanted = merkle.tiles_of_edge(size)
        if old is not None and old.size > size:
            raise Refused("log_forked", f"rollback: {old.size} entries were seen, the source has {size}")
        if old is not None:
            wanted |= merkle.tiles_of_consistency(old.size, size)
        read = self._reader(wanted, size)
        try:
            if merkle.read_edge(size, read).root() != head.root:
                raise Refused("log_forked", f"the tiles of {size} entries are not those of the checkpoint")
            if old is not None:
                path = merkle.consistency_proof(old.size, size, read)
                merkle.verify_consistency(old=old.size, new=size, old_root=old.root, new_root=head.root, path=path)
        except LedgerError as error:
            seen = f"the log of {old.size} entries seen before is not the beginning of it" if old else "its tiles"
            raise Refused("log_forked", f"the source's log of {size} entries: {seen}: {error}") from None

    def _reader(self, wanted: set[tuple[int, int]], size: int) -> merkle.HashReader:
        for level, index in sorted(wanted - self._tiles.keys()):
            width = min(merkle.TILE_WIDTH, (size >> level * merkle.TILE_HEIGHT) - index * merkle.TILE_WIDTH)
            self._tiles[level, index] = self._source.tile(level, index, width)
        return merkle.tile_reader(lambda level, index: self._tiles.get((level, index), b""))

    def _fetch(self, size: int) -> None:
        """Stage what is missing; a page is kept before the next is asked for."""
        number = self._store.count()
        last = next(iter(self._from(number - 1, 2**62)), None) if number else None
        while last is None or last.place < size - 1:
            page = self._source.entries(number)
            page = page[: next((at for at, one in enumerate(page) if one.place >= size), len(page))]
            if not page:
                break
            for one in page:
                if one.number != number or (self._source.whole and one.place != number):
                    raise Refused("entry_tampered", f"the source gives entry {one.number} where {number} is due")
                number += 1
            self._store.stage(page)
            last = page[-1]
        if self._source.whole and number < size:
            raise Refused("entry_tampered", f"entry {number} of {size} is missing at the source")

    def _judge(self, head: notes.Checkpoint) -> merkle.Edge:
        try:
            return self._judge_all(head) if self._source.whole else self._judge_own(head)
        except _Tampered as found:
            self._store.drop_from(max(found.number, self._verified))
            raise Refused("entry_tampered", f"entry {found.place}: {found.why}") from None

    def _judge_all(self, head: notes.Checkpoint) -> merkle.Edge:
        size, peaks = json.loads(self._store.value("edge") or b"[0, []]")
        edge = merkle.Edge(size, [bytes.fromhex(peak) for peak in peaks])
        for one in self._from(size, head.size):
            edge.append(merkle.leaf_hash(one.leaf))
            self._records(one)
        if edge.root() != head.root:
            self._name(size, head.size)
        return edge

    def _name(self, start: int, size: int) -> None:
        """The first entry that is not the one in the log, by the tiles of leaf hashes."""
        places = (*range(start, size, merkle.TILE_WIDTH), size - 1)
        read = self._reader({merkle.tile_of(0, index)[:2] for index in places}, size)
        for one in self._from(start, size):
            if read(0, one.place) != merkle.leaf_hash(one.leaf):
                raise _Tampered(one.number, one.place, "the leaf is not the one that was sealed")
        raise _Tampered(start, start, f"entries {start} to {size - 1} are not those under the checkpoint")

    def _judge_own(self, head: notes.Checkpoint) -> merkle.Edge:
        """The tenant's chain without a gap, and its last entry in the tree."""
        before = next(iter(self._from(self._verified - 1, head.size)), None) if self._verified else None
        tenant = self._tenant()
        for one in self._from(self._verified, head.size):
            try:
                leaf = chain.parse_leaf(one.leaf)
            except LedgerError as error:
                raise _Tampered(one.number, one.place, str(error)) from None
            link = None if before is None else chain.leaf_hash_text(before.leaf)
            if (leaf.tenant, leaf.index, leaf.tenant_index) != (tenant, one.place, one.number):
                raise _Tampered(one.number, one.place, "it says that it is another entry")
            if leaf.tenant_prev != link:
                at = one if before is None or before.number < self._verified else before
                raise _Tampered(at.number, at.place, "the tenant's chain is broken at it")
            self._records(one)
            before = one
        if before is not None:
            self._in_tree(before, head)
        return merkle.Edge()

    def _in_tree(self, one: Kept, head: notes.Checkpoint) -> None:
        read = self._reader(merkle.tiles_of_inclusion(one.place, head.size), head.size)
        path = merkle.inclusion_proof(one.place, head.size, read)
        found = merkle.leaf_hash(one.leaf)
        try:
            merkle.verify_inclusion(index=one.place, size=head.size, leaf=found, path=path, root=head.root)
        except LedgerError:
            raise _Tampered(one.number, one.place, "the leaf is not the one that was sealed") from None

    def _records(self, one: Kept) -> None:
        """The records under an entry that folds are those that it states."""
        try:
            if _is_rekor(one.leaf):
                return
            leaf = chain.parse_leaf(one.leaf)
            if leaf.kind == fold.FOLDED:
                kept = [(at, leaf.tenant, chain.parse_pending(row).entry_id, row) for at, row in enumerate(one.records)]
                wrong = fold.differences(leaf.body, leaf.tenant, kept)
            else:
                wrong = "records under an entry that folds none" if one.records else None
        except LedgerError as error:
            wrong = str(error)
        if wrong is not None:
            raise _Tampered(one.number, one.place, wrong)

    def _fold(self, size: int) -> tuple[Register, tuple[int, ...]]:
        """The state at `size`, compared on the way with what the plane says of its own."""
        kept = self._store.value("state")
        begun = self._old.size if self._old is not None else 0
        told = dict(self._told(size))
        late = {at: digest for at, digest in told.items() if at < begun}
        if late:
            self._go_on(Register(), 0, max(late), late)
        register = restored(json.loads(kept)) if kept is not None else Register()
        self._go_on(register, begun, size, {at: digest for at, digest in told.items() if begun <= at <= size})
        return register, tuple(sorted(told))

    def _told(self, size: int) -> Iterator[tuple[int, str]]:
        """(size, hash of the state) that the entries fetched now tell of."""
        ours = chain.PLANE if self._source.whole else self._tenant()
        for one in self._from(self._verified, size):
            if not _is_rekor(one.leaf):
                leaf = chain.parse_leaf(one.leaf)
                if (leaf.tenant, leaf.kind) == (ours, SNAPSHOT):
                    yield int(leaf.body["size"]), str(leaf.body["state_sha256"])

    def _go_on(self, register: Register, start: int, end: int, told: dict[int, str]) -> None:
        stops = sorted(told)
        for one in self._from(self._verified if start else 0, end):
            while stops and stops[0] <= one.place:
                self._same(register, stops[0], told[stops.pop(0)])
            if not _is_rekor(one.leaf):
                leaf = chain.parse_leaf(one.leaf)
                register.fold(leaf, leaf.body, f"entry {one.place}")
                for at, row in enumerate(one.records):
                    draft = chain.parse_pending(row)
                    register.fold(draft, chain.body_of(draft), f"entry {one.place}, record {at}")
        for at in stops:
            self._same(register, at, told[at])
        if register.faults:
            raise Refused("state_differs", register.faults[0])

    def _same(self, register: Register, size: int, said: str) -> None:
        ours = sha256(register.bytes()) if self._source.whole else register.hashes().get(self._tenant(), "none")
        if ours != said:
            raise Refused("state_differs", f"of {size} entries the plane's state is {said}, the one folded here {ours}")

    def _from(self, number: int, below: int) -> Iterator[Kept]:
        return self._store.entries(number, below)

    def _count_below(self, size: int) -> int:
        return size if self._source.whole else sum(1 for _ in self._from(0, size))

    def _tenant(self) -> str:
        """Whose entries these are: the first one says so, and the chain holds the others to it."""
        first = next(iter(self._from(0, 2**62)), None)
        if first is None:
            raise Refused("not_in_log", "the tenant has no entry yet")
        try:
            return chain.parse_leaf(first.leaf).tenant
        except LedgerError as error:
            raise _Tampered(first.number, first.place, str(error)) from None


class _Tampered(Exception):
    def __init__(self, number: int, place: int, why: str) -> None:
        super().__init__(why)
        self.number, self.place, self.why = number, place, why


def _is_rekor(leaf: bytes) -> bool:
    return chain.leaf_type(leaf) == "hashedrekord"
