# SPDX-License-Identifier: Apache-2.0
"""Full re-verification of the log, from its first entry on (I4): every stored row against what signs it.

Checked: indexes dense; each column equal to the leaf's; each tenant's chain; `prev_checkpoint` on each
batch's first entry and on no other; each stored tile hash; the root and both signatures of each checkpoint;
that each entry which names evidence has its signature row, that the row names the same bundle, level, tenant
and entry, and that its signatures are good over the hashes kept beside them (the statement itself is the
tenant's, encrypted: that those are its hashes is for `ledger.verify`, with the bundle); that a leaf without our
header is a Rekor body under no tenant, repeats such a signature, and is named by an entry (`ledger.logged`); that each
public key has its entry; that a log which goes on under another origin says so in its first entry
(`ledger.succession`); that the records under an entry which folds them are those that it states; that what an entry
erased has lost its key, and nothing else has; the head kept outside.
Not checked: time-stamp tokens and what blobs hold, which belong to bundles.
Leaves and tiles are two witnesses of one hash: the signed root decides which of them was changed, so that a
change names its entry and nothing unchanged is reported. A page at a time: memory is bounded by page and
number of tenants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger import checkpoint, fold, folded_store, head_store, merkle, signature_store, store
from ledger.batch import LOGGED, RECORD
from ledger.canonical import sha256, timestamp
from ledger.chain import PLANE, Skimmed, body_of, claims_evidence, leaf_type, skim_leaf
from ledger.erasure import ERASED, Erasures
from ledger.errors import CheckpointInvalid, LedgerError
from ledger.head_store import StoredCheckpoint
from ledger.keys import LOG, parse_spki
from ledger.logged import Records
from ledger.rotation import Rotation, rotates
from ledger.signature_store import StoredKey, StoredSignature
from ledger.signed import EvidenceKeys
from ledger.speaking import Speaking
from ledger.store import StoredEntry
from ledger.succession import Head, begins, check_succession, head_of, origin_of, parse_succession

PAGE = 8 * merkle.TILE_WIDTH  # a multiple of a tile, so that no tile is read twice
_TELLING = ("ledger:", "evidence:")  # kinds of entries that say something of others, of keys or of the log
UNKNOWN = "unknown"  # no note hash looks like it
MAX_FAILURES = 1000  # enough to see the extent; a log that is all wrong needs no longer list


class Failure(Struct, frozen=True):
    """What is wrong; `index` is the entry concerned, null where it is none (a key, the head)."""

    index: int | None
    reason: str


class Verification(Struct, frozen=True):
    """The outcome; `checked` counts entries, `root` is that of the newest checkpoint, in hex."""

    ok: bool
    size: int
    root: str
    checked: int
    failures: tuple[Failure, ...]


async def verify_log(
    conn: AsyncConnection, *, head: bytes | None = None, log_keys: Sequence[bytes] = ()
) -> Verification:
    """Verify everything stored. Run as `audit`: `app` sees one tenant and would find gaps.

    `head` is the note kept outside the database. `log_keys` (SPKI) are the keys to trust; without them those
    stored are used, which shows that the log agrees with itself and, by `head`, with what was seen before.
    """
    size, extent = await store.extent(conn)
    newest = await head_store.checkpoint(conn, size)
    keys = await signature_store.keys(conn)
    trusted = tuple(log_keys) or tuple(key.public for key in keys if key.purpose == LOG and _readable(key.public))
    audit = _Audit(trusted, [key.public for key in keys], await _rotations(conn))
    erasures = Erasures()
    for start in range(0, size, PAGE):
        end = min(start + PAGE, size)
        audit.page(
            start,
            end,
            await _entries(conn, start, end),
            await head_store.checkpoints(conn, start, end),
            await signature_store.signatures(conn, start, end),
            await _tiles(conn, start, end, audit.fail),
        )
        await _check_folds(conn, audit)
        erased, audit.erased = audit.erased, {}
        async for index, reason in erasures.check(conn, erased):
            audit.fail(index, reason)
        if len(audit.failures) >= MAX_FAILURES:
            break
    if extent > size:
        audit.fail(size, f"entries {size} to {extent - 1} lie under no checkpoint")
    audit.keys(keys)
    if not audit.failures:
        for table, many in (await store.outside(conn)).items():
            audit.fail(None, f"{many} rows of ledger.{table} stand outside of the log")
    strays = await folded_store.strays(conn)
    durable = {draft.entry_id for draft in await store.waiting(conn)} if strays else ()
    for name in sorted(strays.difference(durable)):
        audit.fail(None, f"records are kept under {name}, which folds nothing")
    if not audit.failures and (silent := await erasures.silent(conn)) is not None:
        audit.fail(None, silent)
    await _check_head(conn, audit, head, size)
    root = newest.root if newest else merkle.EMPTY_ROOT
    return Verification(not audit.failures, size, root.hex(), audit.checked, tuple(audit.failures))


def _readable(public: bytes) -> bool:
    """Whether it is a key at all: a changed one signs nothing, and is found when its entry is compared with it."""
    try:
        parse_spki(public)
    except LedgerError:
        return False
    return True


async def _rotations(conn: AsyncConnection) -> Sequence[Rotation]:
    try:
        return (await signature_store.key_history(conn)).rotations
    except LedgerError:
        return ()  # one of these entries was changed, which the walk will name


async def _check_folds(conn: AsyncConnection, audit: _Audit) -> None:
    """The records under each entry that folds: as many, and those, that it states."""
    found, audit.folds = audit.folds, {}
    kept = await folded_store.folded(conn, [record.entry_id for record in found.values()]) if found else {}
    for index, record in found.items():
        wrong = fold.differences(body_of(record), record.tenant, kept[record.entry_id])
        if wrong is not None:
            audit.fail(index, wrong)


async def _entries(conn: AsyncConnection, start: int, end: int) -> list[StoredEntry]:
    found: list[StoredEntry] = []
    while start < end and (rows := await store.entries(conn, start, end)):
        found += rows
        start = rows[-1].index + 1
    return found


_Tiles: TypeAlias = dict[int, dict[int, bytes]]  # level -> index -> hash of the complete node


async def _tiles(conn: AsyncConnection, start: int, end: int, fail: Callable[[int | None, str], None]) -> _Tiles:
    """The stored hashes in the tiles that leaves [start, end) have their place in, at each level."""
    found: _Tiles = {}
    level, height = 0, merkle.TILE_HEIGHT
    while end >> level * height:
        shift = (level + 1) * height
        kept = found[level * height] = {}
        for _, tile, place, data in await head_store.tile_pieces(conn, level, start >> shift, (end - 1 >> shift) + 1):
            hashes = [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]
            first = tile * merkle.TILE_WIDTH + place
            before = len(kept)
            for node, other in zip(range(first, first + len(hashes)), hashes, strict=True):
                kept.setdefault(node, other)
            if len(kept) != before + len(hashes):
                fail(first << level * height, f"tile {level}/{tile} has two hashes in one place")
        level += 1
    return found


async def _check_head(conn: AsyncConnection, audit: _Audit, head: bytes | None, size: int) -> None:
    if head is None:
        return
    try:
        kept = checkpoint.verify(head, audit.verifiers())
    except CheckpointInvalid as error:
        audit.fail(None, f"the head kept outside the database: {error}")
        return
    stored = await head_store.checkpoint(conn, kept.size)
    if kept.size > size:
        audit.fail(size, f"ledger_rollback: the head kept outside has {kept.size} entries, the log {size}")
    elif stored is None or stored.note != head:
        audit.fail(kept.size - 1, "ledger_rollback: the head kept outside is not the checkpoint of its size")


class _Audit:
    """The state of a walk through the log, and what was found."""

    def __init__(self, log_keys: Sequence[bytes], publics: Sequence[bytes], rotations: Sequence[Rotation]) -> None:
        self.failures: list[Failure] = []
        self.folds: dict[int, Skimmed] = {}  # entries whose folded records are still to be compared
        self.erased: dict[int, Skimmed] = {}  # entries whose erased contents are still to be looked for
        self.checked = 0
        self._log_keys = log_keys
        self._by_origin: dict[str, tuple[checkpoint.Verifier, ...]] = {}
        self._origin = ""  # of the log here; empty before its first checkpoint
        self._before: Head | None = None  # the checkpoint before this batch
        self._publics = publics
        self._speaking = Speaking([*publics, *log_keys], rotations)
        self._evidence = EvidenceKeys(self._speaking.now(publics))
        self._records = Records(self._evidence)  # of this batch
        self._edge = merkle.Edge()  # as the leaves say
        self._tiled: merkle.Edge | None = None  # as the tiles say, where that differs since the last checkpoint
        self._differ: list[int] = []  # the entries where it does
        self._lost = False  # a root could not be explained: later ones can't be compared
        self._batch_start = 0
        self._first = True  # the next entry is its batch's first
        self._note_hash: str | None = None  # what that entry names
        self._chains: dict[str, tuple[int, str | None]] = {}  # tenant -> its next index and link
        self._doubtful: set[str] = set()  # hashes of entries reported already: a chain goes on from there
        self._unsigned: dict[str, int] = {}  # entries of this batch without a signature row
        self._published: dict[str, tuple[int, dict[str, object]]] = {}  # by hash of the key

    def fail(self, index: int | None, reason: str) -> None:
        """Note a failure."""
        self.failures.append(Failure(index, reason))

    def verifiers(self) -> tuple[checkpoint.Verifier, ...]:
        """The log's keys under each of its origins so far."""
        return tuple(one for origin in self._by_origin for one in checkpoint.verifiers(origin, self._log_keys))

    def keys(self, keys: Sequence[StoredKey]) -> None:
        """Each stored key is one that the log published, and each published one is stored."""
        for key in keys:
            index, body = self._published.pop(sha256(key.public), (None, {}))
            if not body and self._doubtful:
                continue  # its entry may be among those that were reported
            said = {"key_id": key.key_id, "alg": key.alg, "purpose": key.purpose}
            if body != said | {"public_sha256": sha256(key.public), "valid_from": timestamp(key.valid_from)}:
                self.fail(index, f"key {key.key_id} ({key.alg}) is not as the log published it")
        for index, _ in self._published.values():
            self.fail(index, "the key that this entry published is not stored as it was")

    def page(
        self,
        start: int,
        end: int,
        entries: Sequence[StoredEntry],
        checkpoints: Sequence[StoredCheckpoint],
        signatures: Sequence[StoredSignature],
        tiles: _Tiles,
    ) -> None:
        """Walk entries [start, end)."""
        heads = {head.size: head for head in checkpoints}
        signed = {one.index: one for one in signatures}
        rows = {row.index: row for row in entries}
        for what, listed, once in (
            ("entry", entries, rows),
            ("checkpoint", checkpoints, heads),
            ("signature", signatures, signed),
        ):
            if len(listed) != len(once):
                self.fail(None, f"{len(listed) - len(once)} {what} rows of {start} to {end - 1} are there twice")
        kept = tiles.get(0, {})
        for index in range(start, end):
            row, stored = rows.get(index), kept.get(index)
            computed = merkle.leaf_hash(row.leaf) if row else stored or merkle.EMPTY_ROOT
            if computed == stored and row and self._tiled is None and (index + 1) % merkle.TILE_WIDTH:
                self.checked += 1
                self._edge.grow(computed)  # as nearly always: sound, and it completes no tile
            else:
                self._entry(index, row, computed, stored, tiles)
            record = self._columns(row) if row else None
            if record is not None:
                if computed == stored:  # otherwise it is reported, and its links say nothing
                    self._places(index, record, f"sha256:{computed.hex()}")
                if index in signed or record.kind.startswith(_TELLING) or "statement" in record.commitments:
                    self._told(index, record, signed.pop(index, None))
                    if computed == stored and row and row.entry_id == record.entry_id:
                        self._later(index, record)
            self._first = self._first and record is None and row is not None  # before the first `entry`
            if index + 1 in heads:
                self._checkpoint(heads[index + 1])
        for one in signed.values():
            self.fail(one.index, f"a signature row for bundle {one.bundle_id}, which the entry does not name")

    def _told(self, index: int, record: Skimmed, signed: StoredSignature | None) -> None:
        """What an entry says of others, of keys and of the log."""
        try:
            body_of(record)
        except LedgerError as error:
            self.fail(index, str(error))
            return
        self._evidence_of(index, record, signed)
        if record.kind == LOGGED:
            self._named(index, record)
        if begins(record):
            self._begin(index, record)

    def _later(self, index: int, record: Skimmed) -> None:
        """What is to be looked for beside the log, where the entry that speaks of it is the one that was sealed."""
        if record.kind == fold.FOLDED:
            self.folds[index] = record
        if record.kind == ERASED:
            self.erased[index] = record
        if rotates(record):
            self._rotated(index, record)

    def _entry(self, index: int, row: StoredEntry | None, computed: bytes, stored: bytes | None, tiles: _Tiles) -> None:
        """Grow the tree by one entry, as its leaf and as its tile have it."""
        if row is None:
            self.fail(index, "the entry is missing")
        else:
            self.checked += 1
        if row is None or stored != computed:
            self._records.doubtful(index)
        if stored != computed:
            self._differ.append(index)
            self._tiled = self._tiled or self._edge.copy()
            self._doubtful |= {f"sha256:{found.hex()}" for found in (stored, computed) if found}
        tiled = self._tiled.append(stored or computed) if self._tiled else None
        for place, (level, node, found) in enumerate(self._edge.append(computed)):
            if level and level % merkle.TILE_HEIGHT == 0:
                may_be = {found, tiled[place][2]} if tiled else {found}
                if tiles.get(level, {}).get(node) not in may_be:
                    tile = f"{level // merkle.TILE_HEIGHT}/{node // merkle.TILE_WIDTH}"
                    self.fail(node << level, f"tile {tile}: not the hash of the entries under it")

    def _columns(self, row: StoredEntry) -> Skimmed | None:
        """The leaf's record, once the row's columns were compared with it; None for a leaf that has none."""
        try:
            record = skim_leaf(row.leaf)
        except LedgerError as error:
            self._headless(row, error)
            return None
        if record.index != row.index:
            self.fail(row.index, f"the leaf says index {record.index}")
        stored = (row.entry_id, row.tenant, row.tenant_index, row.kind)
        said = (record.entry_id, record.tenant, record.tenant_index, record.kind)
        if stored == said:
            return record
        for name, column, field in zip(("entry_id", "tenant", "tenant_index", "kind"), stored, said, strict=True):
            if column != field:
                self.fail(row.index, f"column {name} is not what the leaf says")
        return record

    def _headless(self, row: StoredEntry, error: LedgerError) -> None:
        """A leaf without our header: a sound Rekor body in a row that names no tenant, or a fault."""
        try:
            if leaf_type(row.leaf) != "hashedrekord":
                self.fail(row.index, str(error))
                return
            if (row.entry_id, row.tenant, row.tenant_index, row.kind) != (None, None, None, RECORD):
                self.fail(row.index, "columns are not those of a hashedrekord leaf")
                self._records.doubtful(row.index)
            else:
                self._records.leaf(row.index, row.leaf)
        except LedgerError as why:
            self.fail(row.index, str(why))

    def _places(self, index: int, record: Skimmed, hash_text: str) -> None:
        """The tenant's chain, and the link to the batch before."""
        due, link = self._chains.get(record.tenant, (0, None))
        self._chains[record.tenant] = (record.tenant_index + 1, hash_text)
        here = record.tenant_index == due and record.tenant_prev == link
        if not here and record.tenant_prev not in self._doubtful:
            self.fail(index, f"the tenant's entry {due} with link {link} is due here: a link was changed")
        if not self._first:
            if record.prev_checkpoint is not None:
                self.fail(index, "prev_checkpoint inside a batch: a checkpoint before it is missing")
        elif self._note_hash not in {UNKNOWN, record.prev_checkpoint}:
            self.fail(index, "prev_checkpoint is not the hash of the checkpoint before")

    def _begin(self, index: int, record: Skimmed) -> None:
        """From this batch's checkpoint on the log has the name that its first entry gives it."""
        try:
            found = parse_succession(record.body)
            check_succession(found, before=self._before, first=self._first, origins=frozenset(self._by_origin))
        except LedgerError as error:
            self.fail(index, str(error))
        else:
            self._origin = found.origin

    def _evidence_of(self, index: int, record: Skimmed, signed: StoredSignature | None) -> None:
        if record.kind == "evidence:refused":
            self._unsigned.pop(str(body_of(record).get("entry_id")), None)
        if record.kind == "ledger:key:created" and record.tenant == PLANE:
            body = body_of(record)
            self._published[str(body.get("public_sha256"))] = (index, body)
        claimed = body_of(record)["evidence"] if claims_evidence(record) else None
        sound = len(self.failures)
        if isinstance(claimed, dict):
            self._records.signature(str(claimed.get("bundle_id")), None)  # until its row is found to be sound
        if signed is None:
            if claimed is not None:
                self._unsigned[record.entry_id] = index
            return
        if claimed != {"bundle_id": signed.bundle_id, "level": signed.level}:
            self.fail(
                index,
                f"the signature row names bundle {signed.bundle_id}, {signed.level}; the entry does not",
            )
        if (signed.entry_id, signed.tenant) != (record.entry_id, record.tenant):
            self.fail(index, "the signature row names another entry or tenant")
        self._signatures(index, signed)
        self._records.signature(signed.bundle_id, signed if len(self.failures) == sound else None)

    def _named(self, index: int, record: Skimmed) -> None:
        """The entry names records: those stand where it says, and repeat the bundle's signatures."""
        for at, wrong in self._records.named(index, record):
            self.fail(at, wrong)

    def _signatures(self, index: int, row: StoredSignature) -> None:
        """Each signature is there that the level asks for, and good over the hash beside it."""
        if (row.mldsa65 is not None) != (row.level != "sealed") or (row.p256 is not None) != (row.level == "full"):
            self.fail(index, f"the signatures are not those of level {row.level}")
        if row.mldsa65 is not None and not self._evidence.mldsa65_good(row.mldsa65, row.pae_mu or b""):
            self.fail(index, "the bundle's ML-DSA-65 signature is not good")
        if row.p256 is not None and not self._evidence.p256_good(row.p256, row.pae_sha256 or b""):
            self.fail(index, "the bundle's P-256 signature is not good")

    def _rotated(self, index: int, record: Skimmed) -> None:
        """Other keys speak from this batch's checkpoint on."""
        try:
            self._speaking.told(index, record.body, self._origin)
        except LedgerError as error:
            self.fail(index, str(error))

    def _speak(self, size: int) -> None:
        """After a checkpoint: those that a rotation under it has begun, and no longer those that it ended."""
        if self._speaking.turns():
            if (wrong := self._speaking.passed(size)) is not None:
                self.fail(size - 1, wrong)
            self._evidence = EvidenceKeys(self._speaking.now(self._publics))
            self._records = Records(self._evidence)
            self._by_origin[self._origin] = self._verifiers()

    def _verifiers(self) -> tuple[checkpoint.Verifier, ...]:
        return checkpoint.verifiers(self._origin, self._speaking.now(self._log_keys))

    def _checkpoint(self, head: StoredCheckpoint) -> None:
        """The end of a batch: its signed root decides between leaves and tiles."""
        last = head.size - 1
        for index in self._unsigned.values():
            self.fail(index, "the entry names evidence that has no signature row")
        self._unsigned.clear()
        for index, wrong in self._records.end():
            self.fail(index, wrong)
        self._first, self._note_hash = True, checkpoint.note_hash(head.note)
        root: bytes | None = None
        self._origin = self._origin or origin_of(head.note)
        if self._origin not in self._by_origin:
            self._by_origin[self._origin] = self._verifiers()
        self._before = None
        try:
            signed = checkpoint.verify(head.note, self._by_origin[self._origin])
            self._before = head_of(head.note)
        except CheckpointInvalid as error:
            self.fail(last, f"checkpoint {head.size}: {error}")
            self._note_hash = UNKNOWN
        else:
            root = signed.root
            if (signed.size, signed.root) != (head.size, head.root):
                self.fail(last, f"checkpoint {head.size}: its columns are not what its note says")
                root = signed.root if signed.size == head.size else None
        self._speak(head.size)
        self._settle(last, root)

    def _settle(self, last: int, root: bytes | None) -> None:
        """Compare the root, name what was changed, and go on with what was signed."""
        start, self._batch_start = self._batch_start, last + 1
        differ, self._differ = self._differ, []
        tiled, self._tiled = self._tiled, None
        if root is None or self._lost or root == self._edge.root():
            what = "its hash in the tile is missing or not that of the leaf"
        elif tiled is not None and root == tiled.root():
            what, self._edge = "the leaf is not the one that was sealed", tiled
        else:
            what, self._lost = "leaf and tile disagree", True
            if not differ:
                named = f"entry {start}" if start == last else f"entries {start} to {last}"
                self.fail(start, f"the root of checkpoint {last + 1} is not that of the log: {named} changed")
        for index in differ:
            self.fail(index, what)
