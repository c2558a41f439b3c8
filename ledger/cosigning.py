# SPDX-License-Identifier: Apache-2.0
"""The log's side of witnessing: its newest checkpoint is shown to each witness, and the line that comes back is kept.

Beside the sealing, outside every transaction, one session a witness, for ever: a witness that is away delays nothing.
Each time the log has grown, and once a minute while it rests, the newest checkpoint goes out with a proof that it grew
from what this witness cosigned last (C2SP tlog-witness, "add-checkpoint"). Nothing is kept but a good cosignature over
that checkpoint, by the key that was configured, of a time that this plane's clock allows. A witness that has seen more
than the database holds (`log_rolled_back`), or another tree (`log_forked`), is an alarm: sealing goes on, so that
nothing else is lost, and readiness says it. MUST run only in the sealer that leads: two would show two heads at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence

from msgspec import Struct

from ledger import checkpoint, cosignature, merkle, outside
from ledger.errors import LedgerError, NotInLog, WitnessAway
from ledger.sealer_config import SealerConfig, WitnessAt
from ledger.session import AWAY, RETRY_S, STUCK_S, Connection, connect, one, said
from ledger.timestamp import Operator
from ledger.witness import rules

log = logging.getLogger("qcos.sealer")

HEARTBEAT_S = (
    60.0  # a log that rests is shown again, so that a witness which is gone, or a database that went back, shows
)
ANSWER_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
CLOCKS_S = 4.0  # verifiers allow 5 s between a plane's clock and a witness's
REST_S = 60.0  # the longest pause after a failure


class Cosigned(Struct, frozen=True):
    """A head that was cosigned, and the size of the one before."""

    before: int
    size: int
    note: bytes


class Answer(Struct, frozen=True):
    """What came back, of whatever status."""

    status: int
    body: str


class Standstill(LedgerError):
    """Why this witness doesn't cosign; `code` is one of `ledger.outside`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


async def serve_cosigning(config: SealerConfig, at: WitnessAt, stamps_due: asyncio.Event) -> None:
    """Have one witness cosign, until cancelled; says in `ledger.outside` how it stands."""
    operators = [authority.operator for authority in config.authorities]
    witness = cosignature.parse_vkey(at.vkey)
    wait_s = RETRY_S[0]
    while True:
        try:
            async with await connect(config.conninfo) as conn:
                shown = 0.0
                while True:
                    try:
                        due = time.monotonic() - shown > HEARTBEAT_S
                        async with asyncio.timeout(STUCK_S + 3 * ANSWER_S):
                            shown_to = await cosign_round(conn, at.url, witness, again=due)
                            if shown_to is not None and await _have_stamped(conn, shown_to, operators):
                                stamps_due.set()
                    except (Standstill, WitnessAway) as error:
                        code = error.code if isinstance(error, Standstill) else outside.AWAY
                        log.log(_level(code), "witness %s: %s: %s", witness.name, code, error)
                        await outside.tell(conn, "witness", witness.name, code, str(error))
                        wait_s = min(max(wait_s * 2, config.witness_interval_s), REST_S)
                        await asyncio.sleep(wait_s)
                    else:
                        shown, wait_s = (time.monotonic() if shown_to else shown), RETRY_S[0]
                        await asyncio.sleep(config.witness_interval_s)
        except (*AWAY, LedgerError) as error:
            log.warning("witness %s: %s", witness.name, said(error))
            wait_s = min(wait_s * 2, REST_S)
            await asyncio.sleep(wait_s)


def _level(code: str) -> int:
    return logging.ERROR if code in outside.CONFLICT else logging.WARNING


async def cosign_round(conn: Connection, url: str, witness: cosignature.Witness, *, again: bool) -> Cosigned | None:
    """Show the newest checkpoint if it grew (or `again`) and keep the line; None if there was nothing to show.

    Raises Standstill or WitnessAway where there is no line.
    """
    row = await (await conn.execute(_NEWEST)).fetchone()
    if row is None:
        return None
    size, note = row[0], bytes(row[1])
    head = checkpoint.parse(note)
    last = await one(conn, _LAST, witness.name, witness.key_hash, head.origin) or 0
    if size == last and not again:
        return None
    line = await _submit(conn, url, witness, note, last)
    await conn.execute(_KEEP, (size, witness.name, witness.key_hash, head.origin, line))
    await outside.tell(conn, "witness", witness.name, None)
    return Cosigned(last, size, note)


async def _submit(conn: Connection, url: str, witness: cosignature.Witness, note: bytes, last: int) -> str:
    """The witness's line; asked twice where it knows another size than we do."""
    head = checkpoint.parse(note)
    began = time.time()
    answer = await add_checkpoint(url, rules.request(last, await _proof(conn, last, head.size), note))
    if answer.status == 409:
        seen = _size(answer)
        if seen > head.size:
            told = f"it has seen {seen} entries of {head.origin}, the database holds {head.size}"
            raise Standstill(outside.ROLLBACK, told)
        if seen != last:
            log.warning("witness %s is at %d entries, not %d", witness.name, seen, last)
        answer = await add_checkpoint(url, rules.request(seen, await _proof(conn, seen, head.size), note))
    if answer.status == 422:
        raise Standstill(outside.FORK, f"it refuses {head.size} entries of {head.origin}: {_first(answer)}")
    if answer.status != 200:
        raise Standstill(outside.REFUSED, f"status {answer.status}: {_first(answer)}")
    return _good(answer, head, witness, began)


def _good(answer: Answer, head: checkpoint.Checkpoint, witness: cosignature.Witness, began: float) -> str:
    for line in answer.body.split("\n"):
        if line.startswith(f"\u2014 {witness.name} "):
            try:
                found = cosignature.parse(line)
                cosignature.verify(found, head, witness)
            except LedgerError as error:
                raise Standstill(outside.REFUSED, f"its line is no good: {error}") from error
            off_s = max(began - found.timestamp - 1, found.timestamp - time.time())
            if off_s > CLOCKS_S:
                raise Standstill(outside.CLOCK, f"its clock is {off_s:.0f} s off: what it signs would not verify")
            return line
    raise Standstill(outside.REFUSED, "no line of its own in the answer")


async def _proof(conn: Connection, old: int, new: int) -> tuple[bytes, ...]:
    if not 0 < old < new:
        return ()
    wanted = sorted(merkle.tiles_of_consistency(old, new))
    values = {"levels": [level for level, _ in wanted], "indexes": [index for _, index in wanted]}
    cursor = await conn.execute(_TILES, values)
    found = {(level, index): bytes(hashes) for level, index, hashes in await cursor.fetchall()}
    try:
        return tuple(merkle.consistency_proof(old, new, merkle.tile_reader(lambda *at: found.get(at, b""))))
    except NotInLog as error:
        raise Standstill(outside.FORK, f"the tiles give no proof from {old} to {new} entries: {error}") from error


async def _have_stamped(conn: Connection, done: Cosigned, operators: list[Operator]) -> bool:
    """Evidence that rests on its checkpoint needs this one stamped too, before it can stand under it."""
    imprint = hashlib.sha256(done.note).digest()
    values = {"old": done.before, "new": done.size, "imprint": imprint, "operators": operators}
    return (await conn.execute(_STAMP, values)).rowcount > 0


async def add_checkpoint(url: str, body: bytes) -> Answer:
    """POST a request to a witness; WitnessAway where nothing of the protocol comes back in time."""
    import aiohttp

    limit = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(f"{url.rstrip('/')}/add-checkpoint", data=body, allow_redirects=False) as reply,
        ):
            data = await reply.content.read(MAX_ANSWER_BYTES)
            while len(data) < MAX_ANSWER_BYTES and not reply.content.at_eof():
                data += await reply.content.read(MAX_ANSWER_BYTES - len(data))
            return Answer(reply.status, data.decode(errors="replace"))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise WitnessAway(f"no answer from {url}: {type(error).__name__}") from error


def _size(answer: Answer) -> int:
    text = answer.body.removesuffix("\n")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise WitnessAway("a conflict without a size")
    return int(text)


def _first(answer: Answer) -> str:
    line: Sequence[str] = answer.body.split("\n")
    return "".join(c if c.isprintable() else "?" for c in line[0][:200])


_NEWEST = "SELECT size, note FROM ledger.checkpoint ORDER BY size DESC LIMIT 1"
_LAST = "SELECT max(size) FROM ledger.cosignature WHERE name = %s AND key_hash = %s AND origin = %s"
_KEEP = """
    INSERT INTO ledger.cosignature (size, name, key_hash, origin, line) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING"""
_TILES = """
    SELECT level, "index", string_agg(hashes, '' ORDER BY start) FROM ledger.tile
    WHERE (level, "index") IN (SELECT * FROM unnest(%(levels)s::smallint[], %(indexes)s::bigint[]))
    GROUP BY level, "index" """
# Where a batch since the last cosigned head holds evidence that rests on its checkpoint.
_STAMP = """
    INSERT INTO ledger.unstamped (imprint, operator)
    SELECT %(imprint)s, operator FROM unnest(%(operators)s::text[]) AS due (operator)
    WHERE EXISTS (
        SELECT FROM ledger.signature WHERE "index" >= %(old)s AND "index" < %(new)s AND level <> 'full')
      AND NOT EXISTS (SELECT FROM ledger.token t WHERE (t.imprint, t.operator) = (%(imprint)s, due.operator))
    ON CONFLICT DO NOTHING"""
