# SPDX-License-Identifier: Apache-2.0
"""The session that seals: takes, places, signs, writes, commits, one transaction a batch.

(1) take the transaction's advisory lock and look at the head; (2) delete up to 256 inbox rows in their order; (3) sign
their statements, place and hash them and the signatures' records, and send the entries on, while the server takes the
next rows: a batch grows by such chunks where the inbox is deep; (4) write tiles while the checkpoint is being signed;
(5) write the checkpoint, notify, commit; (6) only then let it out (head file, stamps).
Before each batch the clock and the head file are looked at: while either is at fault nothing is sealed, and an alarm
stands (`ledger.alarm`) until it goes on. After any error the state of the log is read again, after the lock: an
unclear commit is re-read and never signed anew. No cursor over inbox ids: they become visible out of order.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
from msgspec.structs import replace

from ledger import alarm, checkpoint, merkle, rotating, rotation, tables
from ledger.alarm import Alarm
from ledger.batch import (
    UNSTAMPED,
    Alarms,
    Item,
    Known,
    Laid,
    Laying,
    LogState,
    Placed,
    Row,
    arrange,
)
from ledger.canonical import sha256, timestamp
from ledger.chain import PLANE, leaf_hash_text
from ledger.document_signer import DocumentSigner
from ledger.errors import ClockSteppedBack, LedgerError, LedgerRollback, LogForeign
from ledger.floor import Floor
from ledger.fold import FOLDED
from ledger.head import HeadKeeper
from ledger.keys import spki
from ledger.pipe import Pipe, byteas, int16s, int64, int64s, texts, uuids
from ledger.policy_signer import PolicySigner
from ledger.sealer_config import SealerConfig, unheard
from ledger.sealer_keys import Published, SealerKeys, published
from ledger.session import STUCK_S, Connection, end_holders, one, pause
from ledger.signed import EvidenceSigner, Signed
from ledger.signer import Signer
from ledger.stored import NewKey, key_ids, load_state, new_keys, stored_rotations
from ledger.succession import KIND, Succession

log = logging.getLogger("qcos.sealer")

CHUNK_ROWS = 256  # taken at once; a batch has more where they come one after the other
GROW_S = 0.1  # how long a batch takes further chunks
MOST_BYTES = 32_000_000  # of its rows
BUSY_S = 1.0  # how long after a batch the inbox is asked often
ROTATION_WAITS_S, ROTATION_LATER_S = 2.0, 5.0  # for tokens that are awaited; then others are sealed first
NO_ROWS = 2**62  # a floor that no row lies above
FINISH_S = 10.0  # how long a sealer that was told to stop seals on, where others keep writing
STAMP_CHECKPOINT_S = 60.0  # how often a checkpoint is stamped that no evidence rests on
NOTIFY_BYTES = 7_000  # below PostgreSQL's 8,000; a listener looks by itself where more was to say


class Leader:
    """The session that seals: its connection, the state of the log, and the keys."""

    def __init__(
        self,
        conn: Connection,
        config: SealerConfig,
        keys: SealerKeys,
        keeper: HeadKeeper,
        due: asyncio.Event,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._conn = conn
        self._config = config
        self._at = config.at or unheard
        self._keys = keys
        self._signer = EvidenceSigner(keys)
        self._documents = DocumentSigner.of(config)
        self._policies = PolicySigner.of(config)
        self._keeper = keeper
        self._due = due
        self._pool = pool
        self._state = LogState(merkle.Edge(), None)
        self._alarm: Alarm | None = None
        self._telling: list[tuple[str, dict[str, Any]]] = []  # (kind, body) of what no entry tells of yet
        self._unclear = False
        self._stamped_at = float("-inf")
        self._refused_since: float | None = None
        self._floor = Floor()
        self._repeats = False  # the last batch ran into an id that the log already has
        self._rotate_after = float("-inf")
        self._pipe = Pipe(conn)
        conn.add_notice_handler(self._notice)

    async def start(self, stop: asyncio.Event) -> None:
        """Read the log's state; publish our keys that it does not know yet with the first batch.

        A rotation that was cut off is finished first: the log says which keys are right.
        """
        await self._settle_keys()
        self._state = await load_state(self._conn)
        named, ours = self._state.origin or self._config.origin, self._config.origin
        if named != ours and not named.startswith(f"{ours}/"):
            raise LogForeign(named, ours)
        if self._state.note is not None:
            self._keeper.keep(self._state.note)
        self._alarm = await alarm.current(self._conn)
        await self._conn.execute(_NO_FLOOR)
        publics = (*published(self._keys), *self._documents.published(), *self._policies.published())
        new = await new_keys(self._conn, publics, self._config.now())
        while new and not stop.is_set() and (await self._held_up(stop) or not await self.batch(new)):
            await pause(stop, self._config.idle_poll_s)
        await self._held_up(stop)  # what an earlier session has said is true still, or over

    async def begin(self, log: Succession) -> bytes:
        """Seal the entry with which `log` begins, under its first checkpoint: that note, after the commit."""
        now = self._config.now()
        await self._conn.execute("BEGIN")
        locked = await (await self._conn.execute(tables.LOCK)).fetchone()
        self._state = await load_state(self._conn)
        if locked != ("true",) or (self._state.size, self._state.note_hash) != (log.kept.size, log.kept.checkpoint):
            raise LedgerError("another sealer works on this log, or it is not the one that was kept")
        self._state.origin = log.origin
        alarms = Alarms(lambda: str(uuid.uuid4()), timestamp(now))
        items = [alarms.entry(PLANE, KIND, log.body())]
        laying = Laying(self._state, alarms)
        await self._learn_chains(items, laying)
        self._send_entries(*laying.add(items))
        return await self._write(laying.laid(), (), now)

    async def loop(self, stop: asyncio.Event) -> None:
        """Seal what comes until stopped, then what was durable by then: its writers have ended before."""
        busy_until = 0.0
        while not stop.is_set():
            if await self._held_up(stop):
                continue
            if self._floor.sight_due(time.monotonic()):
                await self._sight()
            if (request := rotating.asked(self._config.keys)) is not None and not self._telling:
                await self._rotate(request, stop)
            sealed = await self.batch()
            if sealed:
                busy_until = time.monotonic() + BUSY_S
            else:  # another sealer writes, or took what waited
                await asyncio.sleep(self._config.busy_poll_s)
            while not (sealed >= CHUNK_ROWS or stop.is_set() or self._to_rotate() or await self._waiting()):
                busy = time.monotonic() < busy_until
                await asyncio.sleep(self._config.busy_poll_s if busy else self._config.idle_poll_s)
        until = time.monotonic() + FINISH_S
        while time.monotonic() < until and not self._fault() and await self.batch(full=True):
            pass

    def _to_rotate(self) -> bool:
        """Whether more is to be done than to wait for rows."""
        if self._fault() is not None or self._telling:
            return True
        return time.monotonic() >= self._rotate_after and (self._config.keys / rotating.FILE).exists()

    async def _settle_keys(self) -> None:
        """Hold the keys that the log knows as begun, and tell of those that ended."""
        rotations, retired = await stored_rotations(self._conn)
        request, folder = rotating.asked(self._config.keys), self._config.keys
        if request is not None and request.archive:
            rotating.keep(folder, request.request)
        loop = asyncio.get_running_loop()
        self._keys = await loop.run_in_executor(self._pool, rotating.switch, folder, self._config.custody, rotations)
        self._signer = EvidenceSigner(self._keys)
        done = next((one for one in rotations if request and one.statement.request == request.request), None)
        if request is None or done is None:
            return
        if request.request in retired:
            rotating.finish(folder)
        elif not any(kind == rotation.RETIRED for kind, _ in self._telling):
            self._telling.append((rotation.RETIRED, rotating.retired(request, done)))

    async def _rotate(self, request: rotating.Request, stop: asyncio.Event) -> None:
        """Do what an operator asked for, once nothing that is signed already awaits a token; else later.

        Until then nothing else is sealed, for so long as is bearable: whatever would be stamped after the old keys have
        ended would not be valid.
        """
        until = time.monotonic() + ROTATION_WAITS_S
        while await one(self._conn, _UNSTAMPED):
            if stop.is_set() or time.monotonic() > until:
                self._rotate_after = time.monotonic() + ROTATION_LATER_S
                return
            await pause(stop, self._config.idle_poll_s / 5)
        loop, config = asyncio.get_running_loop(), self._config
        coming = await loop.run_in_executor(self._pool, rotating.prepare, config.keys, config.custody, request.purpose)
        async with asyncio.timeout(STUCK_S):
            try:
                sealed = await self._seal_rotation(request, coming)
            except LedgerError:
                await self._pipe.abandon()
                raise
        if sealed:
            await self._settle_keys()
            log.warning("sealer: %s keys rotated at %d entries", request.purpose, self._state.size)

    async def _seal_rotation(self, request: rotating.Request, coming: dict[str, Signer]) -> bool:
        """The last batch under the old keys: the new ones' entries, and the rotation's, signed by all of them."""
        now = self._config.now()
        ours = [Published(request.purpose, key.alg, spki(key.public)) for key in coming.values()]
        new = await new_keys(self._conn, ours, now)
        names = await key_ids(self._conn)
        if await self._take(NO_ROWS) is None or (at := await self._clock()) is None:
            return False
        ended = [getattr(self._keys, name) for name in coming]
        statement = rotation.Statement(
            request=request.request,
            purpose=request.purpose,
            origin=self._state.origin or self._config.origin,
            size=self._state.size + len(new) + 1,
            at=timestamp(now),
            ended=tuple(rotation.named(names[spki(key.public)], key) for key in ended),
            begun=tuple(rotation.named(key.key_id, by) for key, by in zip(new, coming.values(), strict=True)),
        )
        made = rotation.sign(statement, [*ended, *coming.values()])
        alarms = Alarms(lambda: str(uuid.uuid4()), timestamp(at))
        items = [alarms.entry(PLANE, rotation.CREATED, key.body()) for key in new]
        items.append(alarms.entry(PLANE, rotation.ROTATED, made.body()))
        laying = Laying(self._state, alarms)
        await self._learn_chains(items, laying)
        self._send_entries(*laying.add(items))
        laid = laying.laid()
        assert laid.size == statement.size
        note = await self._write(laid, new, at)
        self._state.edge, self._state.tenants = laid.edge, laid.tenants
        self._state.follow(note, at)
        self._keeper.keep(note)
        return True

    def _fault(self) -> LedgerError | None:
        """Why nothing may be sealed now."""
        config = self._config
        return self._keeper.fault or alarm.check_clock(self._state.sealed_at, config.now(), config.clock_tolerance_s)

    async def _held_up(self, stop: asyncio.Event) -> bool:
        """Whether nothing may be sealed now; says so once, and once more when that is over."""
        fault = self._fault()
        if isinstance(fault, ClockSteppedBack) and (reason := alarm.accepted(self._config.accepted)) is not None:
            body = {"reason": reason[:500], "clock": timestamp(fault.clock), "sealed_at": timestamp(fault.sealed_at)}
            self._telling.append((alarm.ACCEPTED, body))
            self._state.sealed_at, fault = None, None
        if fault is None and self._alarm is None:
            return False
        async with asyncio.timeout(STUCK_S):
            if fault is None:
                await alarm.end(self._conn)
                log.warning("sealer: sealing goes on")
                if self._alarm is not None:
                    self._telling.append((alarm.STOPPED, self._alarm.body(self._config.now())))
                self._alarm = None
                return False
            if self._alarm is None or self._alarm.code != fault.code:
                await alarm.sound(self._conn, fault)
                self._alarm = await alarm.current(self._conn)
                log.error("sealer: nothing is sealed: %s: %s", fault.code, fault)
                if self._config.watching is not None:
                    self._config.watching.failed("sealing", fault)
            # Whether this session still leads is seen by asking; a leader that was ended must not wait for ever.
            await one(self._conn, tables.WAITING, 0)
        await pause(stop, self._config.idle_poll_s)
        return True

    def _told(self) -> None:
        """What was to be told is sealed; an acceptance is used up."""
        if any(kind == alarm.ACCEPTED for kind, _ in self._telling) and self._config.accepted is not None:
            self._config.accepted.unlink(missing_ok=True)
        if any(kind == rotation.RETIRED for kind, _ in self._telling):
            rotating.finish(self._config.keys)
        self._telling.clear()

    async def _waiting(self) -> bool:
        if self._floor.full_due(time.monotonic()):
            return True
        async with asyncio.timeout(STUCK_S):
            return bool(await self._pipe.ask(tables.DUE_NOW, int64(self._floor.id)))

    async def _sight(self) -> None:
        """See how far below nothing can come any more."""
        async with asyncio.timeout(STUCK_S):
            cursor = await self._conn.execute(_SIGHT, {"floor": self._floor.id})
            drawn, oldest, lowest, _ = await cursor.fetchone() or (0, 0, None, 0)
        self._floor.sight(time.monotonic(), drawn=drawn, oldest=oldest, lowest=lowest)

    async def batch(self, new_keys: Sequence[NewKey] = (), *, full: bool = False) -> int:
        """Seal one batch; how many entries it had. Any error leaves the state to be read again.

        With `full` all of the inbox is looked at, whatever the floor.
        """
        async with asyncio.timeout(STUCK_S):
            try:
                return await self._batch(new_keys, full=full)
            except LedgerError:
                await self._pipe.abandon()
                raise

    async def _batch(self, new_keys: Sequence[NewKey], *, full: bool) -> int:
        rows = await self._take(self._floor.look(time.monotonic(), full=full))
        if rows is None or not (rows or new_keys or self._telling):
            await self._pipe.ask("ROLLBACK")
            return 0
        if (now := await self._clock()) is None:
            return 0
        began_ns = time.time_ns()
        self._at("seal.taken")
        alarms = Alarms(lambda: str(uuid.uuid4()), timestamp(now))
        own = [alarms.entry(PLANE, "ledger:key:created", key.body()) for key in new_keys]
        own += [alarms.entry(PLANE, kind, body) for kind, body in self._telling]
        laying = Laying(self._state, alarms)
        try:
            taken = await self._place(laying, rows, own, alarms)
            laid = laying.laid()
            self._at("seal.placed")
            if not laid.placed:  # every row was a repetition
                self._pipe.send("COMMIT")
                await self._pipe.end()
                self._floor.took(max(row.id for row in taken))
                return len(taken)
            note = await self._write(laid, new_keys, now)
        except psycopg.errors.UniqueViolation:
            # An id that the log has (a writer that tried twice), or another sealer without the lock: look, then again.
            if self._repeats:
                raise
            await self._pipe.ask("ROLLBACK")
            self._repeats, self._state = True, await load_state(self._conn)
            return 0
        self._repeats = False
        if taken:
            self._floor.took(max(row.id for row in taken))
        self._state.edge, self._state.tenants = laid.edge, laid.tenants
        self._state.follow(note, now)
        self._told()
        self._keeper.keep(note)
        self._at("seal.kept")
        if self._config.watching is not None:
            self._config.watching.sealed(taken, laid, began_ns)
        return len(laid.placed)

    async def _take(self, floor: int) -> list[Row] | None:
        """Begin; the rows of this batch, or None if another sealer writes. The state is then the log's."""
        self._unclear = False
        pipe = self._pipe
        pipe.send("BEGIN")
        lock, head, rows = pipe.send(tables.LOCK), pipe.send(tables.HEAD), self._ask_rows(floor)
        ((locked,),), ((size,),) = await pipe.answer(lock), await pipe.answer(head)
        if locked != b"true":
            await pipe.end()
            await self._another_writes()
            return None
        self._refused_since = None
        if (stored := tables.number(size)) < self._state.size:  # what this session has committed is gone
            raise LedgerRollback(kept_size=self._state.size, stored_size=stored, reason="its newest entries are gone")
        taken = tables.inbox_rows(await pipe.answer(rows))
        if stored != self._state.size:  # another sealer was here; its lock is free now, so its commit is decided
            await pipe.end()
            self._state = await load_state(self._conn)
            await self._refuse_ended()
        return taken

    async def _refuse_ended(self) -> None:
        """Another sealer may have rotated the keys that this one holds: begin anew, with those that are right."""
        rotations, _ = await stored_rotations(self._conn)
        ended = {key.public_sha256 for one in rotations for key in one.statement.ended}
        if any(sha256(key.public) in ended for key in published(self._keys)):
            raise psycopg.OperationalError("another sealer has rotated the keys of this one")

    def _ask_rows(self, floor: int) -> int:
        return self._pipe.send(tables.TAKE, int64(floor), int64(CHUNK_ROWS))

    async def _place(self, laying: Laying, rows: list[Row], own: list[Item], alarms: Alarms) -> list[Row]:
        """Place rows and send their entries, and while whole chunks come, those of the next; all the rows.

        The server takes the next chunk while this one is placed. A batch grows until it is `GROW_S` old, so that nobody
        waits long for its end; then its signatures, two fsyncs and the way there and back are shared by all of it.
        """
        taken: list[Row] = []
        until = time.monotonic() + GROW_S
        while True:
            taken += rows
            grows = len(rows) == CHUNK_ROWS and not self._repeats and time.monotonic() < until
            coming = self._ask_rows(self._floor.id) if grows and sum(map(tables.weight, taken)) < MOST_BYTES else None
            if coming is not None:
                self._pipe.push()
            items = own + arrange(rows, self._config.plane, alarms)
            if self._repeats:
                known = await self._known(items)
                items = own + arrange(rows, self._config.plane, alarms, known)
            items, documents = await self._documents.judge(self._pipe, items, alarms)
            items, policies = await self._policies.judge(self._pipe, items, alarms)
            await self._learn_chains(items, laying)
            self._send_entries(*laying.add(self._sign(items)))
            self._documents.keep(self._pipe, documents)
            self._policies.keep(self._pipe, policies)
            if coming is None:
                return taken
            rows, own = tables.inbox_rows(await self._pipe.answer(coming)), []

    async def _clock(self) -> datetime | None:
        """The time of this batch; None, and nothing begun, where another's checkpoint lies after it."""
        now = self._config.now()
        if alarm.check_clock(self._state.sealed_at, now, self._config.clock_tolerance_s) is None:
            return now
        await self._pipe.ask("ROLLBACK")
        return None

    async def _another_writes(self) -> None:
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since >= self._config.takeover_s:
            log.warning("sealer: ended %d sessions that held the log", await end_holders(self._conn))
            self._refused_since = None

    async def _learn_chains(self, items: Sequence[Item], laying: Laying) -> None:
        """Read where the chain of each tenant stands that this session has not met yet."""
        unknown = laying.unknown(items)
        if unknown:
            tails = await self._pipe.answer(self._pipe.send(tables.TAILS, texts(unknown)))
            learnt: dict[str, tuple[int, str | None]] = dict.fromkeys(unknown, (0, None))
            for tenant, tenant_index, leaf in tails:
                learnt[tables.text(tenant)] = (tables.number(tenant_index) + 1, leaf_hash_text(leaf or b""))
            self._state.tenants |= learnt
            laying.learn(learnt)

    async def _known(self, items: Sequence[Item]) -> Known:
        """What the log already has of these ids."""
        ids = [item.draft.entry_id for item in items]
        bundles = [item.evidence.bundle_id for item in items if item.evidence]
        leaves = await self._pipe.answer(self._pipe.send(tables.LEAVES, uuids(ids)))
        signed = await self._pipe.answer(self._pipe.send(tables.BUNDLES, uuids(bundles)))
        return Known(
            leaves={tables.text(entry_id): leaf or b"" for entry_id, leaf in leaves},
            bundles=frozenset(tables.text(bundle_id) for (bundle_id,) in signed),
        )

    def _send_entries(self, placed: Sequence[Placed], records: Sequence[tuple[int, bytes]]) -> None:
        """Send what was placed: the server stores it while more is placed, or the head is being signed."""
        if not placed:
            return
        self._pipe.send(tables.ENTRY, *tables.entries(placed, records))
        if signed := [(one, made) for one in placed if (made := one.item.signed) is not None]:
            self._pipe.send(tables.SIGNATURE, *tables.signatures(signed))
        self._pipe.push()

    def _sign(self, items: Sequence[Item]) -> list[Item]:
        """The items with their evidence signed: the records of the signatures are placed with them."""
        made = self._pool.map(self._signer.sign, [item.evidence for item in items if item.evidence])
        return [replace(item, signed=next(made)) if item.evidence else item for item in items]

    async def _write(self, laid: Laid, new_keys: Sequence[NewKey], now: datetime) -> bytes:
        """Write and commit the batch; its note, which nobody has seen before."""
        loop = asyncio.get_running_loop()
        signing = loop.run_in_executor(self._pool, self._sign_head, laid.size, laid.root)
        levels, indexes, starts, hashes = zip(*laid.tiles, strict=True)
        self._pipe.send(tables.TILE, int16s(levels), int64s(indexes), int16s(starts), byteas(hashes))
        if new_keys:
            ids, algs, purposes, publics, times = zip(*(key.row() for key in new_keys), strict=True)
            since = texts(at.isoformat() for at in times)
            self._pipe.send(tables.KEY, texts(ids), texts(algs), texts(purposes), byteas(publics), since)
        self._pipe.push()
        self._at("seal.written")
        note = await signing
        self._at("seal.signed")
        stamps = self._stamps(laid, [made for one in laid.placed if (made := one.item.signed) is not None], note)
        self._pipe.send(tables.CHECKPOINT, int64(laid.size), laid.root, note, now.isoformat().encode())
        if stamps:
            self._pipe.send(tables.STAMP, byteas(imprint for imprint, _ in stamps), texts(name for _, name in stamps))
        self._pipe.send(tables.NOTIFY, _told(laid).encode())
        self._pipe.push()
        self._at("seal.checkpointed")
        self._pipe.send("COMMIT")
        await self._pipe.end()
        self._at("seal.committed")
        if self._unclear:
            raise psycopg.OperationalError("the wait for a synchronous standby was cancelled")
        if stamps:
            self._due.set()
        return note

    def _sign_head(self, size: int, root: bytes) -> bytes:
        keys = self._keys
        origin = self._state.origin or self._config.origin
        return checkpoint.sign(origin, size, root, ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)

    def _stamps(self, laid: Laid, signed: Sequence[Signed], note: bytes) -> list[tuple[bytes, str]]:
        """(imprint, operator) of each token due: over a `full` bundle's signatures, else its checkpoint."""
        resting = any(one.p256 is None for one in signed) or any(p.item.draft.kind == FOLDED for p in laid.placed)
        stamped = [made for one in signed if one.p256 is not None for made in (one.mldsa65, one.p256)]
        now = time.monotonic()
        if resting or now - self._stamped_at >= STAMP_CHECKPOINT_S:
            self._stamped_at = now
            stamped.append(note)
        imprints = [hashlib.sha256(data).digest() for data in stamped if data is not None]
        return [(imprint, one.operator) for imprint in imprints for one in self._config.authorities]

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # 01000 in a commit: a cancelled wait for the standby, answered as success. The commit is unclear.
        self._unclear = self._unclear or diagnostic.sqlstate == "01000"


def _told(laid: Laid) -> str:
    """What a batch's notification says: the kinds in it, so that nobody wakes for what isn't theirs."""
    return " ".join(sorted({_kind(placed.item) for placed in laid.placed}))[:NOTIFY_BYTES]


def _kind(item: Item) -> str:
    stamped = item.evidence is not None and item.evidence.level == "full"
    return item.draft.kind + UNSTAMPED if stamped else item.draft.kind


# A fresh transaction id, the oldest that still runs, the lowest row above the floor; the floor is told for `waited_s`.
_UNSTAMPED = "SELECT 1 FROM ledger.unstamped LIMIT 1"
_SIGHT = """
    SELECT pg_current_xact_id()::text::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           (SELECT id FROM ledger.inbox WHERE id > %(floor)s ORDER BY id LIMIT 1),
           setval('ledger.inbox_floor', %(floor)s)"""
_NO_FLOOR = "SELECT setval('ledger.inbox_floor', 0)"
