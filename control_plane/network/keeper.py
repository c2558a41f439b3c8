# SPDX-License-Identifier: Apache-2.0
"""The keeper: what the fabric must know goes to it, what it tells becomes rows and entries (N8, N10, N14).

One worker at a time keeps, by a lease on one row; each write is conditional on it, and taking in a stretch of the
journal moves the cursor in the same transaction, so no event is taken twice or lost whoever dies. The fabric may be
away: enrolments are pushed as soon as it answers again, and nothing is told of what wasn't seen. What a flood could
write is bounded: rejected adverts and refused peers are counted into the next checkpoint's entry, answers that count
for nothing are entries of their own only up to `ANSWERS_AT_ONCE` a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.store
from control_plane.db import FAULTS, transaction
from control_plane.network import store
from control_plane.network.enrolment import plain
from control_plane.network.topology import projection
from control_plane.reservations.keeping import Keeping
from control_plane.seed import PLANE_ACTOR
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import AskRefused, NetworkError
from hal_drivers.p2p.office import (
    AskEvents,
    AskPeers,
    AskStanding,
    AskTopology,
    Done,
    Event,
    EventsAre,
    Peer,
    PeersAre,
    Standing,
    TopologyIs,
)
from ledger.canonical import dumps, sha256
from ledger.chain import PLANE, Pending, body_of, scan_leaf

log = logging.getLogger("qcos.network")
STEP_S = 0.3
LEASE_S = 5.0
LOOK_S = 2.0
WINDOWS_S = 1.0
CHECKPOINT_S = 60.0
CHECKPOINT_EVENTS = 5000
PRUNE_S = 600.0
BATCH = 500
ANSWERS_AT_ONCE = 50
ANSWERS = {
    "answer:late": "network:answer:late",
    "answer:second": "network:answer:second",
    "attempt:refused": "network:answer:refused",
}
METERED_AT_ONCE = 100
METERED = "network:probes:metered"
CHECKPOINT = "network:journal:checkpoint"
BROKEN = "network:journal:broken"


class Keeper:
    """One process's keeper; `serve` runs until cancelled, `step` is one turn of it."""

    def __init__(self, engine: AsyncEngine, office: Office, name: str, now: Callable[[], dt.datetime]) -> None:
        """`name` is unique to this process."""
        self._engine, self._office, self._name, self._now = engine, office, name, now
        self._checked: tuple[int, str] | None = None
        self._heard: dict[tuple[str, str], int] = {}
        self._due: dict[str, float] = {}
        self._away = False
        self._windows, self._connected = Keeping(engine, office, now), set[str]()
        self.keeps = False
        """Whether the lease was this process's in the last turn: whoever probes asks for it."""

    async def serve(self) -> None:
        """Keep the network whenever the lease is this process's, through any fault of fabric and database."""
        while True:
            try:
                await self.step()
                self._say(away=False)
            except NetworkError as error:
                self._say(away=True, why=error.detail)
            except FAULTS:
                log.warning("the database is away; the network is kept again once it answers")
            except Exception:  # as in the worker: the loop outlives any fault, and it is recorded
                log.exception("keeping the network failed")
            await asyncio.sleep(STEP_S)

    async def step(self) -> bool:
        """One turn; False where another process keeps."""
        async with transaction(self._engine, None) as conn:
            row = await store.lease(conn, self._name, LEASE_S)
        self.keeps = row is not None
        if row is None:
            self._checked = None
            self._windows.begin()
            return False
        standing = await self._office.ask(AskStanding(), Standing)
        await push(self._engine, self._office, standing)
        await self._drain(row, standing)
        if self._is_due("windows", WINDOWS_S):
            connected, self._connected = self._connected, set()
            await self._windows.step(connected)
        if self._is_due("look", LOOK_S):
            await self._look()
        if self._is_due("prune", PRUNE_S):
            async with transaction(self._engine, None) as conn:
                await store.prune(conn)
        return True

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    def _say(self, *, away: bool, why: str = "") -> None:
        if away != self._away:
            log.warning("the fabric is away: %s", why) if away else log.info("the fabric answers")
        self._away = away

    async def _drain(self, row: RowMapping, standing: Standing) -> None:
        """Take in the journal, from where it was left; a journal that isn't that one is told of first."""
        run, seq = row["run"], row["seq"]
        if self._checked != (run, standing.peer_id):
            run, seq = await self._follow(row, standing)
            self._checked = (run, standing.peer_id)
        if standing.events_last < seq:
            self._checked = None  # set back while it ran: judged in the next turn
            return
        while True:
            found = await self._office.ask(AskEvents(seq, BATCH), EventsAre)
            if not found.events:
                break
            async with transaction(self._engine, PLANE) as conn:
                if not await store.advance(conn, self._name, run, seq, found.events, found.head):
                    return
                await self._tell(conn, answers_of(found.events, found.lost))
            self._connected |= {one.node_id for one in found.events if one.kind == "peer:connected" and one.node_id}
            seq = found.events[-1].seq
            if len(found.events) < BATCH:
                break
        told_s = (self._now() - row["told_at"]).total_seconds() if row["told_at"] is not None else CHECKPOINT_S
        if seq > row["told_seq"] and (told_s >= CHECKPOINT_S or seq - row["told_seq"] >= CHECKPOINT_EVENTS):
            await self._checkpoint(run, seq)

    async def _follow(self, row: RowMapping, standing: Standing) -> tuple[int, int]:
        """(run, seq) to read on from: the journal must hold what was read of it, and what the ledger names (N10)."""
        why = await self._broken(row, standing)
        if why is None:
            return row["run"], row["seq"]
        body = {
            "run": row["run"],
            "read": {"seq": row["seq"], "head": row["head"]},
            "told": {"seq": row["told_seq"], "head": row["told_head"]},
            "found": {"first": standing.events_first, "last": standing.events_last, "head": standing.events_head},
            "because": why,
        }
        log.error("the fabric's journal is not the one that was read: %s", why)
        async with transaction(self._engine, PLANE) as conn:
            if await store.begin_run(conn, self._name, row["run"]):
                await self._tell(conn, [(BROKEN, body)])
        return row["run"] + 1, 0

    async def _broken(self, row: RowMapping, standing: Standing) -> str | None:
        places = [("the ledger", seq, head) for seq, head in await self._named(row["run"])]
        for what, seq, head in (*places, ("the database", row["seq"], row["head"])):
            if not seq:
                continue
            if standing.events_last < seq:
                return f"it ends at {standing.events_last}, {what} knows {seq}"
            if seq < standing.events_first:
                continue  # rotated away; what follows it is checked by its chain
            found = await self._office.ask(AskEvents(seq - 1, 1), EventsAre)
            if found.head != head:
                return f"line {seq} is not the one that {what} knows"
        return None

    async def _named(self, run: int) -> list[tuple[int, str]]:
        """Line and hash of this journal that the ledger's last sealed checkpoint names, whatever rows say of it."""
        async with transaction(self._engine, PLANE) as conn:
            leaf = await ledger.store.newest(conn, PLANE, CHECKPOINT)
        body = {} if leaf is None else body_of(scan_leaf(leaf))
        return [(body["seq"], body["head"])] if body.get("run") == run else []

    async def _checkpoint(self, run: int, seq: int) -> None:
        async with transaction(self._engine, PLANE) as conn:
            row = await store.standing(conn)
            turned = await store.turned_away(conn, run, row["told_seq"], seq)
            if not await store.told(conn, self._name, run, seq):
                return
            body = {"run": run, "seq": seq, "head": row["head"], "turned_away": [dict(one) for one in turned]}
            await self._tell(conn, [(CHECKPOINT, body), *metered(await store.meter(conn))])

    async def _look(self) -> None:
        """Adverts, links and the topology, as they are now."""
        peers = (await self._office.ask(AskPeers(), PeersAre)).peers
        topology = await self._office.ask(AskTopology(), TopologyIs)
        shown = projection(topology)
        adverts = self._new_adverts(peers)
        async with transaction(self._engine, None) as conn:
            await store.keep_adverts(conn, adverts)
            await store.keep_topology(conn, sha256(dumps(shown)), shown)
            if self._is_due("links", 10 * LOOK_S):
                await store.note_links(conn, topology.links)
        self._heard |= {(one["peer_id"], one["service"]): one["serial"] for one in adverts}

    def _new_adverts(self, peers: Sequence[Peer]) -> list[dict[str, Any]]:
        return [
            {
                "peer_id": peer.peer_id,
                "service": heard.advert.service_type,
                "serial": heard.advert.serial,
                "signed": msgspec.json.encode(heard.signed),
                "heard_at": self._now() - dt.timedelta(seconds=heard.age_s),
            }
            for peer in peers
            for heard in peer.adverts
            if self._heard.get((peer.peer_id, heard.advert.service_type)) != heard.advert.serial
        ]

    async def _tell(self, conn: AsyncConnection, told: Sequence[tuple[str, dict[str, Any]]]) -> None:
        entries = [
            Pending(entry_id=str(uuid.uuid4()), tenant=PLANE, kind=kind, actor=PLANE_ACTOR, time=self._now(), body=body)
            for kind, body in told
        ]
        await ledger.store.append(conn, [(entry, None) for entry in entries])


async def push(engine: AsyncEngine, office: Office, standing: Standing | None = None) -> None:
    """Tell the fabric who may join, where it doesn't know yet; raises NetworkError where it doesn't answer.

    With `standing` nothing is sent where it is up to date; without, the set is sent as it is: after an act.
    """
    async with transaction(engine, None) as conn:
        row = await store.standing(conn)
        if standing is not None and standing.enrolled_version == row["version"] and standing.known_given:
            return
        if standing is not None and standing.enrolled_version > row["version"]:
            # A database that was set back: what it says now holds, and the fabric takes no number below its own.
            await store.raise_version(conn, standing.enrolled_version)
        enrol = await store.enrol(conn)
        known = await store.known(conn) if standing is not None and not standing.known_given else None
    with contextlib.suppress(AskRefused):  # a later set is there already
        await office.ask(enrol, Done)
    if known is not None:
        await office.ask(known, Done)


def metered(rows: Sequence[RowMapping]) -> list[tuple[str, dict[str, Any]]]:
    """What the plane's own probes used and would cost: the plane's expense, in no tenant's budget (N8, G6)."""
    nodes = [
        {name: int(row[name]) for name in ("probes", "failed", "shots", "duration_us")}
        | {"peer_id": row["peer_id"], "amount": plain(row["amount"]), "currency": row["currency"]}
        for row in rows
    ]
    parts = (nodes[at : at + METERED_AT_ONCE] for at in range(0, len(nodes), METERED_AT_ONCE))
    return [(METERED, {"nodes": part}) for part in parts]


def answers_of(events: Sequence[Event], lost: int) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a stretch of the journal: answers that counted for nothing, and what was lost of it."""
    found = [event for event in events if event.kind in ANSWERS]
    told: list[tuple[str, dict[str, Any]]] = []
    if lost:
        told.append((BROKEN, {"lost": lost, "before": events[0].seq, "because": "dropped before it was read"}))
    for event in found[:ANSWERS_AT_ONCE]:
        body = {"seq": event.seq, "at": event.at, "peer_id": event.node_id, "token": event.token}
        body |= {"fragment_id": event.fragment_id, "epoch": event.epoch, "facts": dict(event.facts)}
        if event.signed is not None:
            body["answer"] = sha256(event.signed.body)
        told.append((ANSWERS[event.kind], body))
    if rest := found[ANSWERS_AT_ONCE:]:
        kinds = Counter(event.kind for event in rest)
        body = {"from_seq": rest[0].seq, "to_seq": rest[-1].seq, "times": dict(sorted(kinds.items()))}
        told.append(("network:answer:folded", body))
    return told
