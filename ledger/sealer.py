# SPDX-License-Identifier: Apache-2.0
"""The process that turns durable entries into a sealed log, and the only holder of the log and evidence keys.

One transaction a batch: (1) take the transaction's advisory lock and look at the head; (2) delete up to 256
inbox rows in their order; (3) place and hash them; (4) write entries, tiles and signatures while the
checkpoint is being signed; (5) write the checkpoint, notify, commit; (6) only then let the checkpoint out
(head file, stamps).
Before each batch the leader's clock and head file are looked at: while either is at fault nothing is sealed, and
an alarm stands (`ledger.alarm`) until it goes on. The fence is the primary keys on index and size, with that lock;
the session lock only says who need not stand by. After any error the connection is dropped and the log's state
read again, after the lock: so an unclear commit is re-read and never signed anew. No cursor over inbox ids: they
become visible out of order. A sealer whose database is behind the head file, or may lose commits, refuses
(LedgerRollback, NotDurable). Time-stamps are fetched outside every transaction (`_stamp`), for ever, while sealing
goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow

from ledger import alarm, checkpoint, merkle
from ledger.alarm import TOLERANCE_S, Alarm
from ledger.batch import SEALED_CHANNEL, UNSTAMPED, Alarms, Item, Known, Laid, LogState, Plane, Row, arrange, lay
from ledger.canonical import sha256, timestamp
from ledger.chain import PLANE, leaf_hash_text
from ledger.errors import ClockSteppedBack, LedgerError, LedgerRollback, LogForeign, NotDurable
from ledger.floor import Floor
from ledger.fold import FOLDED
from ledger.head import HeadKeeper, read_head
from ledger.keys import Published, SealerKeys, load_sealer_keys, published
from ledger.signed import Signed, Signer
from ledger.succession import KIND, Succession
from ledger.timestamp import Authority as PinnedAuthority
from ledger.timestamp import Operator, parse
from ledger.tsa_client import UNIX, stamp

log = logging.getLogger("qcos.sealer")
Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

Told: TypeAlias = Callable[[str], None]

BATCH_ROWS = 256
LOCKS = 0x71636F73  # "qcos": first half of both advisory locks of a database
LEADING, SEALING = 1, 2  # second half: a session's claim to lead; a transaction's right to write
PATIENCE_MS = 25  # how long an entry lies that nobody waits for, where no other comes
BUSY_S = 1.0  # how long after a batch the inbox is asked often
FINISH_S = 10.0  # how long a sealer that was told to stop seals on, where others keep writing
STAMP_ROWS = 256
STAMP_ROWS_OUTSIDE = 16  # so few that a slow authority answers them all in the time that it has
STAMP_CHECKPOINT_S = 60.0  # how often a checkpoint is stamped that no evidence rests on
RETRY_S = (0.2, 5.0)
STUCK_S = 10.0  # a server that says nothing for so long is away, whatever its connection says
STUCK_STAMP_S = 60.0  # beyond what each authority may take for a round
AWAY = (psycopg.Error, TimeoutError)

NOTIFY_BYTES = 7_000  # below PostgreSQL's 8,000; a listener looks by itself where more was to say


def _unheard(_: str) -> None:
    """Nobody is told of the steps."""


class Authority(Struct, frozen=True):
    """A time-stamping authority; `target` as `tsa_client.stamp` takes it.

    With `certificates` (DER, its own first) each token is verified before it is kept: one by another authority than
    the trust file will name would make evidence that nobody can anchor.
    """

    operator: Operator
    target: str
    certificates: tuple[bytes, ...] = ()


class Watching(Protocol):
    """Hears what has become durable, for traces and metrics (G8); MUST return at once and raise nothing."""

    def sealed(self, rows: Sequence[Row], laid: Laid, signed: Sequence[Signed], began_ns: int) -> None:
        """A batch has been committed; `began_ns` is the wall clock when it was taken."""

    def stamped(self, operator: str, imprints: Sequence[bytes], began_ns: int) -> None:
        """Tokens over these imprints have been stored."""

    def failed(self, what: str, error: Exception) -> None:
        """`database` or `timestamps`: something is tried again. `sealing`: it has stopped, see `ledger.alarm`."""


class Clock(Protocol):
    """Tells the time; the system's where none is given."""

    def __call__(self) -> datetime:
        """The time, aware UTC."""


class SealerConfig(Struct, frozen=True, kw_only=True):
    """What a sealer is told; `conninfo` is libpq's, of the role `sealer`."""

    conninfo: str
    keys: Path  # folder of the four key files
    head: Path  # the file that `ledger.head` keeps
    origin: str  # the log's first name, first line of each checkpoint; a successor's begins with it and a slash
    plane: Plane
    authorities: tuple[Authority, ...] = ()
    watching: Watching | None = None
    clock: Clock | None = None
    busy_poll_s: float = 0.002
    idle_poll_s: float = 0.05
    at: Told | None = None  # hears the name of each step as it is reached; the process may be ended there
    takeover_s: float = 3.0
    clock_tolerance_s: float = TOLERANCE_S
    accepted: Path | None = None  # a file with an operator's reason to seal although the clock was set back; used once

    def now(self) -> datetime:
        """What the sealer's clock says."""
        return self.clock() if self.clock is not None else datetime.now(UTC)


async def run(config: SealerConfig, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
    """Seal until `stop` is set. `ready` is called once the checks have passed and this sealer leads or stands
    by.

    Raises LedgerRollback, LogForeign, NotDurable or KeyInvalid, at start or when the database came back otherwise;
    waits for a database that is away.
    """
    keys = load_sealer_keys(config.keys)
    wait_s = RETRY_S[0]
    while not stop.is_set():
        began = time.monotonic()
        try:
            async with await _connect(config.conninfo) as conn:
                try:
                    await _serve(conn, config, keys, stop, ready)
                except LedgerError as error:
                    await _refuse(conn, error)
                    raise
        except AWAY as error:
            wait_s = RETRY_S[0] if time.monotonic() - began > RETRY_S[1] else min(wait_s * 2, RETRY_S[1])
            log.warning("sealer: database: %s; again in %.1f s", _said(error), wait_s)
            if config.watching is not None:
                config.watching.failed("database", error)
            await _pause(stop, wait_s)


async def _serve(
    conn: Connection, config: SealerConfig, keys: SealerKeys, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    async with asyncio.timeout(STUCK_S):
        await check_durable(conn)
        await _check_head(conn, config.head)
        leads = await _claim(conn)
    if not leads:
        ready()
        await _stand_by(conn, config, stop)
    if not stop.is_set():
        await _lead(conn, config, keys, stop, ready)


async def _refuse(conn: Connection, error: LedgerError) -> None:
    """The database can't be sealed in: an alarm stands, unless another sealer leads and so may seal."""
    log.error("sealer: %s: %s", error.code, error)
    async with asyncio.timeout(STUCK_S):
        await conn.execute("ROLLBACK")
        if await _claim(conn):
            await alarm.sound(conn, error)


async def begin(config: SealerConfig, log: Succession) -> bytes:
    """Begin a log of another origin on the entries that are stored; its first checkpoint, committed and not yet kept.

    For a restore, before any sealer runs on the database.
    """
    async with await _connect(config.conninfo) as conn:
        await check_durable(conn)
        with ThreadPoolExecutor(2, "sign") as pool:
            keys = load_sealer_keys(config.keys)
            return await _Leader(conn, config, keys, HeadKeeper(config.head), asyncio.Event(), pool).begin(log)


async def check_durable(conn: Connection) -> None:
    """Raise NotDurable if this server may lose commits that it acknowledged to us."""
    for setting in ("fsync", "full_page_writes"):
        if (value := await _one(conn, "SELECT current_setting(%s)", setting)) != "on":
            raise NotDurable(setting, str(value))
    value = await _one(conn, "SELECT current_setting('synchronous_commit')")
    standbys = await _one(conn, "SELECT current_setting('synchronous_standby_names')")
    if value == "off" or (value == "local" and standbys):  # without a standby, local is all there is
        raise NotDurable("synchronous_commit", str(value))


async def _check_head(conn: Connection, path: Path) -> None:
    kept = read_head(path)
    if kept is None:
        return
    size = checkpoint.parse(kept).size
    stored = await _one(conn, "SELECT coalesce(max(size), 0) FROM ledger.checkpoint")
    note = await _one(conn, "SELECT note FROM ledger.checkpoint WHERE size = %s", size)
    if note is None:
        raise LedgerRollback(kept_size=size, stored_size=stored, reason="no checkpoint of that size")
    if note != kept:
        raise LedgerRollback(kept_size=size, stored_size=stored, reason="another checkpoint of that size")


async def _claim(conn: Connection) -> bool:
    return bool(await _one(conn, "SELECT pg_try_advisory_lock(%s, %s)", LOCKS, LEADING))


async def _stand_by(conn: Connection, config: SealerConfig, stop: asyncio.Event) -> None:
    """Return once this session leads: its leader is gone, or was ended because it left rows unsealed."""
    head, since = -1, time.monotonic()
    log.info("sealer: standing by")
    while not stop.is_set():
        async with asyncio.timeout(STUCK_S):
            if await _claim(conn):
                return
            now_head = await _one(conn, _HEAD)
            if now_head != head or not await _one(conn, _WAITING, 0):
                head, since = now_head, time.monotonic()
            elif time.monotonic() - since >= config.takeover_s:
                ended = await end_holders(conn)
                log.warning("sealer: no checkpoint for %.0f s, ended %d sessions", config.takeover_s, ended)
                since = time.monotonic()
        await _pause(stop, config.idle_poll_s * 4)


async def end_holders(conn: Connection) -> int:
    """Terminate the sessions, other than this one, that hold a lock of ours; how many there were."""
    cursor = await conn.execute(
        """SELECT pg_terminate_backend(pid) FROM (
               SELECT DISTINCT pid FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND classid::bigint = %s AND objsubid = 2
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND pid <> pg_backend_pid()) AS holders""",
        (LOCKS,),
    )
    return len(await cursor.fetchall())


async def _lead(
    conn: Connection, config: SealerConfig, keys: SealerKeys, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    keeper = HeadKeeper(config.head)
    due = asyncio.Event()
    with ThreadPoolExecutor(2, "sign") as pool:
        leader = _Leader(conn, config, keys, keeper, due, pool)
        tasks = [asyncio.create_task(keeper.run()), asyncio.create_task(_stamp(config, due))]
        try:
            await leader.start(stop)
            ready()
            await leader.loop(stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Leader:
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
        self._at = config.at or _unheard
        self._keys = keys
        self._signer = Signer(keys)
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
        conn.add_notice_handler(self._notice)

    async def start(self, stop: asyncio.Event) -> None:
        """Read the log's state; publish our keys that it does not know yet with the first batch."""
        self._state = await load_state(self._conn)
        named, ours = self._state.origin or self._config.origin, self._config.origin
        if named != ours and not named.startswith(f"{ours}/"):
            raise LogForeign(named, ours)
        if self._state.note is not None:
            self._keeper.keep(self._state.note)
        self._alarm = await alarm.current(self._conn)
        await self._conn.execute(_NO_FLOOR)
        new = await _new_keys(self._conn, published(self._keys), self._config.now())
        while new and not stop.is_set() and (await self._held_up(stop) or not await self.batch(new)):
            await _pause(stop, self._config.idle_poll_s)
        await self._held_up(stop)  # what an earlier session has said is true still, or over

    async def begin(self, log: Succession) -> bytes:
        """Seal the entry with which `log` begins, under its first checkpoint: that note, after the commit."""
        now = self._config.now()
        await self._conn.execute("BEGIN")
        locked = await (await self._conn.execute(_LOCK, (LOCKS, SEALING))).fetchone()
        self._state = await load_state(self._conn)
        if locked != ("true",) or (self._state.size, self._state.note_hash) != (log.kept.size, log.kept.checkpoint):
            raise LedgerError("another sealer works on this log, or it is not the one that was kept")
        self._state.origin = log.origin
        alarms = Alarms(lambda: str(uuid.uuid4()), timestamp(now))
        items = [alarms.entry(PLANE, KIND, log.body())]
        await self._learn_chains(items)
        note, _ = await self._write(lay(items, self._state), (), now)
        return note

    async def loop(self, stop: asyncio.Event) -> None:
        """Seal what comes until stopped, then what was durable by then: its writers have ended before."""
        busy_until = 0.0
        while not stop.is_set():
            if await self._held_up(stop):
                continue
            if self._floor.sight_due(time.monotonic()):
                await self._sight()
            sealed = await self.batch()
            if sealed:
                busy_until = time.monotonic() + BUSY_S
            else:  # another sealer writes, or took what waited
                await asyncio.sleep(self._config.busy_poll_s)
            while not (sealed >= BATCH_ROWS or stop.is_set() or self._fault() or await self._waiting()):
                busy = time.monotonic() < busy_until
                await asyncio.sleep(self._config.busy_poll_s if busy else self._config.idle_poll_s)
        until = time.monotonic() + FINISH_S
        while time.monotonic() < until and not self._fault() and await self.batch(full=True):
            pass

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
            await _one(self._conn, _WAITING, 0)
        await _pause(stop, self._config.idle_poll_s)
        return True

    def _told(self) -> None:
        """What was to be told is sealed; an acceptance is used up."""
        if any(kind == alarm.ACCEPTED for kind, _ in self._telling) and self._config.accepted is not None:
            self._config.accepted.unlink(missing_ok=True)
        self._telling.clear()

    async def _waiting(self) -> bool:
        if self._floor.full_due(time.monotonic()):
            return True
        async with asyncio.timeout(STUCK_S):
            return bool(await _one(self._conn, _DUE_NOW, self._floor.id))

    async def _sight(self) -> None:
        """See how far below nothing can come any more."""
        async with asyncio.timeout(STUCK_S):
            cursor = await self._conn.execute(_SIGHT, {"floor": self._floor.id})
            drawn, oldest, lowest, _ = await cursor.fetchone() or (0, 0, None, 0)
        self._floor.sight(time.monotonic(), drawn=drawn, oldest=oldest, lowest=lowest)

    async def batch(self, new_keys: Sequence[_NewKey] = (), *, full: bool = False) -> int:
        """Seal one batch; how many entries it had. Any error leaves the state to be read again.

        With `full` all of the inbox is looked at, whatever the floor.
        """
        async with asyncio.timeout(STUCK_S):
            return await self._batch(new_keys, full=full)

    async def _batch(self, new_keys: Sequence[_NewKey], *, full: bool) -> int:
        rows = await self._take(self._floor.look(time.monotonic(), full=full))
        if rows is None or not (rows or new_keys or self._telling):
            await self._conn.execute("ROLLBACK")
            return 0
        if (now := await self._clock()) is None:
            return 0
        began_ns = time.time_ns()
        self._at("seal.taken")
        alarms = Alarms(lambda: str(uuid.uuid4()), timestamp(now))
        own = [alarms.entry(PLANE, "ledger:key:created", key.body()) for key in new_keys]
        own += [alarms.entry(PLANE, kind, body) for kind, body in self._telling]
        items = own + arrange(rows, self._config.plane, alarms)
        if self._repeats:
            known = await self._known(items)
            items = own + arrange(rows, self._config.plane, alarms, known)
        if not items:  # every row was a repetition
            await self._conn.execute("COMMIT")
            self._floor.took(rows[-1].id)
            return len(rows)
        await self._learn_chains(items)
        laid = lay(items, self._state)
        self._at("seal.placed")
        try:
            note, signed = await self._write(laid, new_keys, now)
        except psycopg.errors.UniqueViolation:
            # An id that the log has (a writer that tried twice), or another sealer without the lock: look, then again.
            if self._repeats:
                raise
            await self._conn.execute("ROLLBACK")
            self._repeats, self._state = True, await load_state(self._conn)
            return 0
        self._repeats = False
        if rows:
            self._floor.took(rows[-1].id)
        self._state.edge, self._state.tenants = laid.edge, laid.tenants
        self._state.follow(note, now)
        self._told()
        self._keeper.keep(note)
        self._at("seal.kept")
        if self._config.watching is not None:
            self._config.watching.sealed(rows, laid, signed, began_ns)
        return len(laid.placed)

    async def _take(self, floor: int) -> list[Row] | None:
        """Begin; the rows of this batch, or None if another sealer writes. The state is then the log's."""
        self._unclear = False
        async with self._conn.pipeline():
            await self._conn.execute("BEGIN")
            lock = await self._conn.execute(_LOCK, (LOCKS, SEALING))
            head = await self._conn.execute(_HEAD)
            taken = await self._conn.cursor(binary=True).execute(_TAKE, (floor, BATCH_ROWS))
        locked, size = (await lock.fetchone() or [""])[0], (await head.fetchone() or [0])[0]
        if locked != "true":
            await self._another_writes()
            return None
        self._refused_since = None
        if size < self._state.size:  # what this session has committed is gone
            raise LedgerRollback(kept_size=self._state.size, stored_size=size, reason="its newest entries are gone")
        if size != self._state.size:  # another sealer was here; its lock is free now, so its commit is decided
            self._state = await load_state(self._conn)
        return sorted(Row(*row) for row in await taken.fetchall())

    async def _clock(self) -> datetime | None:
        """The time of this batch; None, and nothing begun, where another's checkpoint lies after it."""
        now = self._config.now()
        if alarm.check_clock(self._state.sealed_at, now, self._config.clock_tolerance_s) is None:
            return now
        await self._conn.execute("ROLLBACK")
        return None

    async def _another_writes(self) -> None:
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since >= self._config.takeover_s:
            log.warning("sealer: ended %d sessions that held the log", await end_holders(self._conn))
            self._refused_since = None

    async def _learn_chains(self, items: Sequence[Item]) -> None:
        """Read where the chain of each tenant stands that this session has not met yet."""
        unknown = {item.draft.tenant for item in items} - self._state.tenants.keys()
        if unknown:
            tails = await self._conn.cursor(binary=True).execute(_TAILS, (list(unknown),))
            self._state.tenants |= dict.fromkeys(unknown, (0, None))
            for tenant, tenant_index, leaf in await tails.fetchall():
                self._state.tenants[tenant] = (tenant_index + 1, leaf_hash_text(leaf))

    async def _known(self, items: Sequence[Item]) -> Known:
        """What the log already has of these ids."""
        ids = [item.draft.entry_id for item in items]
        bundles = [item.evidence.bundle_id for item in items if item.evidence]
        leaves = await self._conn.cursor(binary=True).execute(_LEAVES, (ids,))
        signed = await self._conn.execute(_BUNDLES, (bundles,))
        return Known(
            leaves={str(entry_id): leaf for entry_id, leaf in await leaves.fetchall()},
            bundles=frozenset(row[0] for row in await signed.fetchall()),
        )

    async def _write(self, laid: Laid, new_keys: Sequence[_NewKey], now: datetime) -> tuple[bytes, list[Signed]]:
        """Write and commit the batch; its note, which nobody has seen before, and what it signed."""
        loop = asyncio.get_running_loop()
        signing = loop.run_in_executor(self._pool, self._sign_head, laid.size, laid.root)
        signed = list(self._pool.map(self._signer.sign, (one for one in laid.placed if one.item.evidence)))
        async with self._conn.pipeline():
            await self._insert(_ENTRY, [(p.index, *_columns(p.item), p.tenant_index, p.leaf) for p in laid.placed])
            await self._insert(_TILE, laid.tiles)
            await self._insert(_KEY, [key.row() for key in new_keys])
            await self._insert(_SIGNATURE, [_signature(one) for one in signed])
        self._at("seal.written")
        note = await signing
        self._at("seal.signed")
        stamps = self._stamps(laid, signed, note)
        async with self._conn.pipeline():
            await self._conn.execute(_CHECKPOINT, (laid.size, laid.root, note, now), binary=True)
            await self._insert(_STAMP, stamps)
            await self._conn.execute(_NOTIFY, (_told(laid),))
            self._at("seal.checkpointed")
            await self._conn.execute("COMMIT")
        self._at("seal.committed")
        if self._unclear:
            raise psycopg.OperationalError("the wait for a synchronous standby was cancelled")
        if stamps:
            self._due.set()
        return note, signed

    async def _insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            await self._conn.execute(statement, [list(column) for column in zip(*rows, strict=True)], binary=True)

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


class _NewKey(Struct, frozen=True):
    key_id: str
    key: Published
    at: datetime

    def body(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "alg": self.key.alg,
            "purpose": self.key.purpose,
            "public_sha256": sha256(self.key.public),
            "valid_from": timestamp(self.at),
        }

    def row(self) -> tuple[Any, ...]:
        return self.key_id, self.key.alg, self.key.purpose, self.key.public, self.at


async def load_state(conn: Connection) -> LogState:
    """The log's right edge and newest checkpoint, from what is stored."""
    row = await (await conn.execute(_NEWEST)).fetchone()
    if row is None:
        return LogState(merkle.Edge(), None)
    size, root, note, sealed_at = row
    wanted = merkle.tiles_of_edge(size)
    cursor = await conn.cursor(binary=True).execute(
        _TILES, ([level for level, _ in wanted], [index for _, index in wanted])
    )
    tiles = {(level, index): hashes for level, index, hashes in await cursor.fetchall()}
    edge = merkle.read_edge(size, merkle.tile_reader(lambda level, index: tiles.get((level, index), b"")))
    if edge.root() != root or checkpoint.parse(note).root != root:
        raise LedgerRollback(kept_size=size, stored_size=size, reason="the stored tiles do not give its root")
    state = LogState(edge, None)
    state.follow(note, sealed_at)
    state.origin = checkpoint.parse(note).origin
    return state


async def _new_keys(conn: Connection, ours: Sequence[Published], now: datetime) -> list[_NewKey]:
    """Our public keys that the log does not know, with their id: `log-2026a` names both of a purpose."""
    stored = await (await conn.execute("SELECT key_id, purpose, public FROM ledger.key")).fetchall()
    known = {public for _, _, public in stored}
    new = []
    for purpose in sorted({key.purpose for key in ours}):
        used = {key_id for key_id, of, _ in stored if of == purpose}
        free = (f"{purpose}-{now.year}{chr(letter)}" for letter in range(ord("a"), ord("z") + 1))
        key_id = next(name for name in free if name not in used)
        new += [_NewKey(key_id, key, now) for key in ours if key.purpose == purpose and key.public not in known]
    return new


async def _stamp(config: SealerConfig, due: asyncio.Event) -> None:
    """Fetch the tokens that are awaited, for ever: at once when told, after a pause when one failed."""
    at = config.at or _unheard
    wait_s = RETRY_S[0]
    while True:
        try:
            async with await _connect(config.conninfo) as conn:
                # What was sealed before an authority was configured and is stamped only now: it is due there too.
                await conn.execute(_DUE, ([authority.operator for authority in config.authorities],))
                while True:
                    due.clear()
                    async with asyncio.timeout(STUCK_STAMP_S):
                        left = sum([await _stamp_round(conn, one, config.watching, at) for one in config.authorities])
                    wait_s = RETRY_S[0]
                    if not left:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(STAMP_CHECKPOINT_S):
                                await due.wait()
        except (*AWAY, LedgerError) as error:
            wait_s = min(wait_s * 2, RETRY_S[1])
            log.warning("sealer: time-stamps wait: %s; again in %.1f s", _said(error), wait_s)
            if config.watching is not None:
                config.watching.failed("timestamps", error)
            await asyncio.sleep(wait_s)


async def _stamp_round(
    conn: Connection, authority: Authority, watching: Watching | None = None, at: Told = _unheard
) -> int:
    """Fetch some tokens of one authority, outside any transaction, then store them; how many."""
    rows = STAMP_ROWS if authority.target.startswith(UNIX) else STAMP_ROWS_OUTSIDE
    cursor = await conn.execute(_AWAITED, (authority.operator, rows))
    imprints = [row[0] for row in await cursor.fetchall()]
    if imprints:
        began_ns = time.time_ns()
        tokens = await stamp(authority.target, imprints)
        if authority.certificates:
            pinned = PinnedAuthority(authority.operator, authority.target, authority.certificates)
            for token, imprint in zip(tokens, imprints, strict=True):
                pinned.check(parse(token), imprint)
        at("stamp.fetched")
        async with conn.pipeline():
            await conn.execute("BEGIN")
            await conn.execute(_TOKENS, (authority.operator, imprints, tokens), binary=True)
            await conn.execute(_STAMPED, (authority.operator, imprints), binary=True)
            await conn.execute(_NOTIFY, ("tokens",))
            at("stamp.stored")
            await conn.execute("COMMIT")
        at("stamp.committed")
        if watching is not None:
            watching.stamped(authority.operator, imprints, began_ns)
    return len(imprints)


def _told(laid: Laid) -> str:
    """What a batch's notification says: the kinds in it, so that nobody wakes for what isn't theirs."""
    return " ".join(sorted({_kind(placed.item) for placed in laid.placed}))[:NOTIFY_BYTES]


def _kind(item: Item) -> str:
    stamped = item.evidence is not None and item.evidence.level == "full"
    return item.draft.kind + UNSTAMPED if stamped else item.draft.kind


def _columns(item: Item) -> tuple[str, str, str]:
    return item.draft.entry_id, item.draft.tenant, item.draft.kind


def _signature(one: Signed) -> tuple[Any, ...]:
    draft, evidence = one.placed.item.draft, one.placed.item.evidence
    assert evidence is not None  # only such are signed
    head = (evidence.bundle_id, draft.tenant, draft.entry_id, one.placed.index, evidence.level)
    return (*head, one.pae_mu, one.mldsa65, one.pae_sha256, one.p256)


async def _connect(conninfo: str) -> Connection:
    name = f"qcos-sealer-{os.getpid()}"  # pg_stat_activity tells whose session leads
    conn = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, prepare_threshold=0, application_name=name, connect_timeout=10
    )
    try:
        await conn.execute("SET idle_in_transaction_session_timeout = '2s'")
        # Statistics find queues empty, and a plan made then reads the whole table at each look, its dead rows too.
        await conn.execute("SET enable_seqscan = off")
    except BaseException:
        await conn.close()
        raise
    return conn


async def _one(conn: Connection, statement: str, *values: object) -> Any:
    row = await (await conn.execute(statement, values)).fetchone()
    return row[0] if row else None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


_WAITING = "SELECT 1 FROM ledger.inbox WHERE id > %s ORDER BY id LIMIT 1"
# A fresh transaction id, the oldest that still runs, the lowest row above the floor; the floor is told for `waited_s`.
_SIGHT = """
    SELECT pg_current_xact_id()::text::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           (SELECT id FROM ledger.inbox WHERE id > %(floor)s ORDER BY id LIMIT 1),
           setval('ledger.inbox_floor', %(floor)s)"""
_NO_FLOOR = "SELECT setval('ledger.inbox_floor', 0)"
_DUE_NOW = f"""
    SELECT 1 FROM ledger.inbox
    WHERE id > %s AND (NOT patient OR since < clock_timestamp() - interval '{PATIENCE_MS} ms') ORDER BY id LIMIT 1"""
_HEAD = "SELECT coalesce(max(size), 0) FROM ledger.checkpoint"
_NEWEST = "SELECT size, root, note, sealed_at FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"
# A setting of the transaction, so that the statement that takes rows can ask for it in the same round trip.
_LOCK = "SELECT set_config('qcos.sealing', pg_try_advisory_xact_lock(%s, %s)::text, true)"
_TAKE = """
    DELETE FROM ledger.inbox WHERE id = ANY (ARRAY(
        SELECT id FROM ledger.inbox WHERE current_setting('qcos.sealing') = 'true' AND id > %s ORDER BY id LIMIT %s))
    RETURNING id, tenant, pending, bundle_id::text, level, statement, salt, traceparent"""
_LEAVES = "SELECT entry_id, leaf FROM ledger.entry WHERE entry_id = ANY (%s::uuid[])"
_BUNDLES = "SELECT bundle_id::text FROM ledger.signature WHERE bundle_id = ANY (%s::uuid[])"
_TAILS = """
    SELECT wanted.tenant, tail.tenant_index, tail.leaf FROM unnest(%s::text[]) AS wanted (tenant), LATERAL (
        SELECT tenant_index, leaf FROM ledger.entry
        WHERE entry.tenant = wanted.tenant ORDER BY tenant_index DESC LIMIT 1) AS tail"""
_TILES = """
    SELECT level, "index", string_agg(hashes, '' ORDER BY start) FROM ledger.tile
    WHERE (level, "index") IN (SELECT * FROM unnest(%s::smallint[], %s::bigint[])) GROUP BY level, "index" """
_ENTRY = """
    INSERT INTO ledger.entry ("index", entry_id, tenant, kind, tenant_index, leaf) SELECT * FROM unnest(
        %b::bigint[], %t::uuid[], %t::text[], %t::text[], %b::bigint[], %b::bytea[])"""
_TILE = """
    INSERT INTO ledger.tile (level, "index", start, hashes) SELECT * FROM unnest(
        %b::smallint[], %b::bigint[], %b::smallint[], %b::bytea[])"""
_KEY = """
    INSERT INTO ledger.key (key_id, alg, purpose, public, valid_from) SELECT * FROM unnest(
        %t::text[], %t::text[], %t::text[], %b::bytea[], %t::timestamptz[])"""
_SIGNATURE = """
    INSERT INTO ledger.signature
        (bundle_id, tenant, entry_id, "index", level, pae_mu, mldsa65, pae_sha256, p256)
    SELECT * FROM unnest(%t::uuid[], %t::text[], %t::uuid[], %b::bigint[], %t::text[],
                         %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[])"""
_CHECKPOINT = "INSERT INTO ledger.checkpoint (size, root, note, sealed_at) VALUES (%s, %b, %b, %t)"
_STAMP = "INSERT INTO ledger.unstamped (imprint, operator) SELECT * FROM unnest(%b::bytea[], %t::text[])"
_NOTIFY = f"SELECT pg_notify('{SEALED_CHANNEL}', %s)"
_AWAITED = "SELECT imprint FROM ledger.unstamped WHERE operator = %s ORDER BY since LIMIT %s"
_TOKENS = """
    INSERT INTO ledger.token (operator, imprint, der) SELECT %t, * FROM unnest(%b::bytea[], %b::bytea[])
    ON CONFLICT DO NOTHING"""
_DUE = """
    INSERT INTO ledger.unstamped (imprint, operator)
    SELECT DISTINCT u.imprint, due.operator FROM ledger.unstamped u, unnest(%s::text[]) AS due (operator)
    WHERE NOT EXISTS (SELECT 1 FROM ledger.token t WHERE (t.imprint, t.operator) = (u.imprint, due.operator))
    ON CONFLICT DO NOTHING"""
_STAMPED = "DELETE FROM ledger.unstamped WHERE operator = %t AND imprint = ANY (%b::bytea[])"
