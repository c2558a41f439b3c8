# SPDX-License-Identifier: Apache-2.0
"""Finds out how good nodes are: probes by rate, and a judgement after each (N8, I8).

One process at a time probes: the one that keeps. What a node offers and was never judged is probed at once, its
measurement first, for every bound needs it; then each service about every `probe_s`, at times drawn anew each time, so
that no clock tells a probe from a job. Circuit, shots, seed and token are drawn from the system's randomness and kept
with the outcome, so that a judgement can be made again by anybody who has the rows of `network.probe`.

A probe is the plane's expense, in no tenant's budget: its shots and its time stand in its row, and the keeper meters
them into the ledger. One that found no free window says nothing of a
node; one that failed otherwise stands in its row with the code, and judges nothing: who never gives a right answer is
never verified.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.store
from control_plane.db import FAULTS, transaction
from control_plane.network import store
from control_plane.network.config import Network
from control_plane.network.keeper import push
from control_plane.seed import PLANE_ACTOR
from hal_drivers.p2p import probe, quality
from hal_drivers.p2p.aliases import services_of
from hal_drivers.p2p.client import Office
from hal_drivers.p2p.errors import NetworkError
from hal_drivers.p2p.office import AskPeers, Heard, Peer, PeersAre, Probe, Probed
from hal_drivers.p2p.probe import MEASURE, ProbeCircuit
from hal_drivers.p2p.quality import PPM, WINDOW, Verdict
from hal_drivers.p2p.wire import Advert
from ledger.chain import PLANE, Pending

log = logging.getLogger("qcos.network")
LOOK_S = 0.25
LIMIT_MS = 10_000
CONVERSATION_S = 10.0
"""What reserve, commit and the socket may take beside the run itself."""
NODES_AT_ONCE = 4
RETRY_S = 2.0
_PROBED = frozenset({"online", "unverified", "degraded"})
_CROWDED = frozenset({"window_taken", "busy"})
Key = tuple[str, str]


class Prober:
    """One process's; `serve` runs until cancelled, `step` is one turn of it."""

    def __init__(self, engine: AsyncEngine, office: Office, network: Network, now: Callable[[], dt.datetime]) -> None:
        """Nothing is probed before `step`."""
        self._engine, self._office, self._network, self._now = engine, office, network, now
        self._next: dict[Key, float] = {}
        self._room = asyncio.Semaphore(NODES_AT_ONCE)

    async def serve(self, keeps: Callable[[], bool]) -> None:
        """Probe while this process keeps the network, through any fault of fabric and database."""
        if not self._network.probe_s:
            return
        while True:
            try:
                if keeps():
                    await self.step()
            except NetworkError as error:
                log.debug("not probed: %s", error.detail)  # the keeper tells of it
            except FAULTS:
                log.debug("not probed: the database is away")
            except Exception:  # as in the keeper: the loop outlives any fault, and it is recorded
                log.exception("probing failed")
            await asyncio.sleep(LOOK_S)

    async def step(self) -> None:
        """Probe what is due: one probe of each node at a time."""
        peers = (await self._office.ask(AskPeers(), PeersAre)).peers
        async with transaction(self._engine, None) as conn:
            judged = await store.judged(conn)
        due = {peer.peer_id: found for peer in peers if (found := self._due(peer, judged)) is not None}
        await asyncio.gather(*(self._probe(peer_id, heard) for peer_id, heard in due.items()))

    def _due(self, peer: Peer, judged: Mapping[Key, RowMapping]) -> Heard | None:
        """What of this node to probe now."""
        if peer.state not in _PROBED or not peer.connected:
            return None
        now = asyncio.get_running_loop().time()
        offered = {one.advert.service_type: one for one in peer.adverts if not one.stale}
        if MEASURE not in offered:
            return None  # nothing of it can be told apart from a bad measurement: it stays unverified
        waiting: list[tuple[int, float, Heard]] = []
        for service, heard in offered.items():
            key = (peer.peer_id, service)
            if key not in self._next:
                self._next[key] = now if key not in judged else now + self._pause()
            if self._next[key] <= now:
                rank = 0 if service == MEASURE else 1 if key not in judged else 2
                waiting.append((rank, self._next[key], heard))
        if not waiting:
            return None
        return min(waiting, key=lambda one: (one[0], one[1], one[2].advert.service_type))[2]

    def _pause(self) -> float:
        """Half of `probe_s` to one and a half of it."""
        return self._network.probe_s * (0.5 + secrets.randbelow(1_000) / 1_000)

    async def _probe(self, peer_id: str, heard: Heard) -> None:
        advert, key = heard.advert, (peer_id, heard.advert.service_type)
        asked = self._made(advert)
        if asked is None:
            self._next[key] = asyncio.get_running_loop().time() + self._pause()
            return
        token = secrets.token_hex(16)
        ask = Probe(
            token=token,
            node_id=peer_id,
            circuit=asked.circuit,
            services=services_of(asked.circuit.operations),
            shots=asked.shots,
            seed=asked.seed,
            limit_ms=LIMIT_MS,
        )
        self._next[key] = asyncio.get_running_loop().time() + RETRY_S
        try:
            async with self._room:
                found = await self._office.ask(ask, Probed, limit_s=LIMIT_MS / 1_000 + CONVERSATION_S)
        except NetworkError as error:
            log.debug("not probed: %s", error.detail)  # the keeper tells of a fabric that is away
            return
        enough = await self._keep(peer_id, asked, token, found, round(advert.fidelity * PPM))
        wait_s = self._pause() if enough else RETRY_S if found.code is not None else 0.0
        self._next[key] = asyncio.get_running_loop().time() + wait_s

    def _made(self, advert: Advert) -> ProbeCircuit | None:
        """None: the node is too small for one. A probe has up to twice the shots that it is to have about."""
        about = self._network.probe_shots
        if advert.shots_max is not None:
            about = max(1, min(about, advert.shots_max // 2))
        try:
            return probe.make(advert.service_type, secrets.randbits(48), advert.qubit_max, about)
        except ValueError:
            return None

    async def _keep(self, peer_id: str, asked: ProbeCircuit, token: str, found: Probed, reported_ppm: int) -> bool:
        """The outcome and what follows from it; whether the service could be judged."""
        if found.code in _CROWDED:
            return False
        survived, trials = (0, 0) if found.code is not None else probe.survivals(asked, found.rows)
        values = {
            "peer_id": peer_id,
            "service": asked.service,
            "at": self._now(),
            "shots": found.shots,
            "facts": {"token": token, "seed": asked.seed, "survived": survived, "trials": trials},
            "reported_ppm": reported_ppm,
            "duration_us": found.duration_us,
            "code": found.code,
        }
        async with transaction(self._engine, PLANE) as conn:
            await store.keep_probe(conn, values)
            if found.code is not None:
                return False
            own = await store.probes(conn, peer_id, asked.service, WINDOW)
            measured = own if asked.service == MEASURE else await store.probes(conn, peer_id, MEASURE, WINDOW)
            verdict = quality.judge(asked.service, _outcomes(own), _outcomes(measured))
            if verdict.verified_ppm is None:
                return False
            before = (await store.judged(conn)).get((peer_id, asked.service))
            found_now = self._judgement(peer_id, verdict, sum(row["shots"] for row in own), reported_ppm)
            await store.judge(conn, found_now)
            await self._tell(conn, found_now, degraded_before=before is not None and before["degraded"])
        await push(self._engine, self._office)
        return True

    async def _tell(self, conn: AsyncConnection, judgement: Mapping[str, Any], *, degraded_before: bool) -> None:
        """That a service is degraded, or is no longer, is an entry: it decides who gets jobs."""
        if judgement["degraded"] == degraded_before:
            return
        entry = Pending(
            entry_id=str(uuid.uuid4()),
            tenant=PLANE,
            kind=f"network:quality:{'degraded' if judgement['degraded'] else 'restored'}",
            actor=PLANE_ACTOR,
            time=judgement["at"],
            body={name: value for name, value in judgement.items() if name not in ("at", "degraded")},
        )
        await ledger.store.append(conn, [(entry, None)])

    def _judgement(self, peer_id: str, verdict: Verdict, shots: int, reported_ppm: int) -> dict[str, Any]:
        least = self._network.planning().min_fidelity(verdict.service)
        because = verdict.reason
        if verdict.at_most_ppm < least:
            because += f"; {least / PPM:.6f} is asked"
        return {
            "peer_id": peer_id,
            "service": verdict.service,
            "at": self._now(),
            "probes": verdict.probes,
            "shots": shots,
            "reported_ppm": reported_ppm,
            "verified_ppm": verdict.verified_ppm,
            "degraded": verdict.overstates or verdict.at_most_ppm < least,
            "because": because,
        }


def _outcomes(rows: Sequence[RowMapping]) -> list[quality.Probed]:
    """Oldest first, as they are judged; without those that failed."""
    return [
        quality.Probed(row["facts"]["survived"], row["facts"]["trials"], row["reported_ppm"])
        for row in reversed(rows)
        if row["code"] is None
    ]
