# SPDX-License-Identifier: Apache-2.0
"""A worker: claim → `jobs.run` → repeat, with a heartbeat that renews leases and hears of cancellations (N9).

Any number of workers share one database. A worker drives its own drivers, whose children die with it. When it is told
to stop it claims nothing more, finishes what it can within `stop_limit_s` and gives the rest back (`jobs.giveback`); if
it is killed, another worker recovers what it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from control_plane import telemetry
from control_plane.context import Plane, open_plane
from control_plane.credentials import of_worker
from control_plane.db import FAULTS, Database
from control_plane.errors import QcosError
from control_plane.jobs import leases, store
from control_plane.jobs.claim import Claimed, claim
from control_plane.jobs.denials import FOLD_AFTER_S, fold_ripe
from control_plane.jobs.giveback import give_back
from control_plane.jobs.live import ADMITTED, Bell
from control_plane.jobs.run import Run
from control_plane.jobs.session import close_idle
from control_plane.jobs.transition import MovedOn
from control_plane.network.keeper import Keeper
from control_plane.network.prober import Prober
from control_plane.notices.courier import Courier
from control_plane.policy.choice import find_opa
from control_plane.registry.report import Reporter
from control_plane.retention.acts import sweep
from control_plane.settings import Settings
from control_plane.shadow.follower import Follower
from control_plane.turns import take_turns
from hal_drivers.base import Driver
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import DriverError
from hal_drivers.guarded import Told
from hal_drivers.p2p.client import Office
from hal_drivers.table import default_backends, open_drivers, running

log = logging.getLogger("qcos.worker")
HEARTBEAT_S = 0.3
REPORT_S = 5.0
NEWS_S = 1.0
ERASE_S = 300.0  # retention counts days; a look costs one read of an index
# What makes a job claimable once it is sealed, beside an admission, which is told by itself. (A job put back waits a
# while; the next look finds it.)
CLAIMABLE = frozenset({"job:control:resumed", "job:attempt:rerouted", "job:approval:granted"})
LETTING_GO_S = 2.0  # what an attempt may take to end once it was told that it can't finish
ELSEWHERE = 64  # jobs that wait for backends of other machines, beside those that run here
AHEAD = 1  # jobs held beyond the simulators that can run: one compiles while another runs
# The network lies where its nodes lie, and policy judges each of them: a place of its own would only be a word for it.
P2P: dict[str, Any] = {"id": "p2p", "provider": "p2p", "region": "", "compliance_zone": "", "sovereign": False}


async def run(
    settings: Settings,
    name: str,
    ready: Callable[[], None],
    stop: asyncio.Event,
    drivers: Mapping[str, Driver] | None = None,
) -> None:
    """Work until `stop` is set; `ready` is called once drivers run and backends are reported.

    `drivers` by backend are those of the settings unless a caller brings its own; no setting can name others.
    """
    database = Database.of_home(settings.home / "db")
    plane = open_plane(
        settings,
        database,
        connections=settings.simulators + AHEAD + 3 + settings.network.enabled,
        name=f"qcos-{name}",
    )
    if drivers is None:
        drivers = open_drivers(msgspec.structs.replace(drivers_config(settings), heard=_heard()))
    bell = Bell(database.app, lambda kinds: not kinds.isdisjoint(CLAIMABLE), ADMITTED)
    try:
        async with running(drivers):
            worker = Worker(
                plane,
                drivers,
                f"{name}-{os.getpid()}",
                bell,
                settings.simulators + AHEAD,
            )
            await worker.begin()
            ready()
            await worker.serve(stop)
    finally:
        await plane.pdp.close()
        await plane.engine.dispose()


def drivers_config(settings: Settings) -> DriversConfig:
    """The administrator's facts and limits as drivers read them; in dev this machine's simulators beside them."""
    given = {facts.id: msgspec.structs.asdict(facts) for facts in settings.backend}
    if settings.profile == "dev" and settings.default_backends:
        given = {facts["id"]: facts for facts in default_backends()} | given
    network = settings.network
    if network.enabled and not any(facts["provider"] == "p2p" for facts in given.values()):
        given = {P2P["id"]: P2P} | given
    memory = settings.simulator_memory_mb << 20
    return DriversConfig(
        backends=tuple(BackendConfig(**facts, memory_bytes=memory) for facts in given.values()),
        children=settings.simulators,
        require_walls=settings.profile != "dev",
        limits=settings.circuit_limits,
        credential=of_worker(settings.home),
        fabric=settings.fabric_socket if network.enabled else None,
        planning=network.planning(),
    )


def _heard() -> Callable[[Told], None] | None:
    if telemetry.current() is None:
        return None
    from control_plane.telemetry.children import heard

    return heard


class Worker:
    """The loops of one worker process."""

    def __init__(
        self,
        plane: Plane,
        drivers: Mapping[str, Driver],
        name: str,
        bell: Bell,
        slots: int,
    ) -> None:
        """`name` is unique to this process: a restarted worker doesn't inherit leases, it recovers them."""
        self.plane, self.drivers, self.name, self.bell, self.slots = (
            plane,
            drivers,
            name,
            bell,
            slots,
        )
        self.reporter = Reporter(plane, drivers)
        self._runs: dict[tuple[str, str], Run] = {}
        self._rounds = leases.Rounds()
        self._attempts: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        """Claim and run until told to stop, then finish or give back what is held."""
        beside = [
            asyncio.create_task(loop())
            for loop in (self._heartbeats, self._reports, self._folds, self._erases, self.bell.listen)
        ]
        beside.append(asyncio.create_task(self.plane.sealing.serve(self.plane)))
        beside.append(asyncio.create_task(Courier(self.plane).serve()))
        shadow = Follower(self.plane, find_opa(self.plane.settings.opa_bin), self.name)
        beside.append(asyncio.create_task(shadow.serve()))
        if self.plane.watch is not None:
            beside.append(asyncio.create_task(self.plane.watch.serve()))
        if self.plane.settings.network.enabled:
            beside.append(asyncio.create_task(self._keeps()))
        try:
            async with asyncio.TaskGroup() as jobs:
                while not stop.is_set():
                    for claimed in await self._claim():
                        self._attempts.add(jobs.create_task(self._advance(claimed)))
                    if self._free <= 0 or not self._rounds.more:
                        await self._rest(stop)
                    self._attempts = {task for task in self._attempts if not task.done()}
                await self._hand_in()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def begin(self) -> None:
        """Report for the first time, once the database answers: it may be starting again just as this worker does."""
        while True:
            try:
                await self.report()
            except FAULTS as error:
                log.warning("the database is away: %s", type(error).__name__)
                await asyncio.sleep(HEARTBEAT_S)
            else:
                return

    async def report(self) -> None:
        """Tell the registry what this worker's backends can do and whether they can now."""
        await self.reporter.report()

    @property
    def _free(self) -> int:
        """How many jobs more this worker takes: those that only wait for another machine hold no slot of this one."""
        here = sum(not run.elsewhere for run in self._runs.values())
        return min(self.slots - here, self.slots + ELSEWHERE - len(self._runs))

    def _shut(self) -> list[str]:
        """Tenants with as many jobs elsewhere as there is room left for: so one has half of it, and none has all."""
        waiting = Counter(tenant for (tenant, _), run in self._runs.items() if run.elsewhere)
        left = ELSEWHERE - waiting.total()
        return [tenant for tenant, count in waiting.items() if count >= left]

    async def _claim(self) -> list[Claimed]:
        free, self._rounds.more = self._free, False
        if free <= 0 or self.plane.sealing.stopped:
            return []
        busy = [tenant for (tenant, _), run in self._runs.items() if not run.elsewhere]
        try:
            return await claim(self.plane, self.name, free, rounds=self._rounds, busy=busy, shut=self._shut())
        except (*FAULTS, MovedOn, QcosError) as error:
            log.warning("claim failed: %s", type(error).__name__)
        except Exception:  # as in _advance: the loop outlives any fault
            log.exception("claim failed")
        await asyncio.sleep(HEARTBEAT_S)
        return []

    async def _rest(self, stop: asyncio.Event) -> None:
        """Until a seal, a free slot or the next look: new work is what a seal brings."""
        self._freed.clear()
        waits = [asyncio.create_task(event.wait()) for event in (self.bell.rung, self._freed, stop)]
        if self._free <= 0:
            waits[0].cancel()
            waits = waits[1:]
        _, pending = await asyncio.wait(waits, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        self.bell.rung.clear()
        for task in pending:
            task.cancel()

    async def _advance(self, claimed: Claimed) -> None:
        run = Run(self.plane, self.drivers, claimed)
        run.moved_out = self._freed.set
        self._runs[run.key] = run
        job = claimed.row
        telemetry.bind(job_id=run.key[1], decision_id=job["decision_id"])
        began = time.monotonic()
        if job["attempt"] == 1:
            telemetry.measure("qcos.job.queued", (self.plane.now() - job["submitted_at"]).total_seconds())
        try:
            with telemetry.span("job.attempt", job["traceparent"], job_id=run.key[1], attempt=job["attempt"]):
                await run.advance()
        except MovedOn:
            log.warning("job %s moved on without this worker", run.key[1])
        except Exception:
            # The worker loop is the one place that outlives any fault: the lease ends and the job is recovered.
            log.exception("job %s: attempt failed", run.key[1])
        finally:
            self.reporter.ran(job["backend"], job["run_s"])
            facts = {"state": job["state"], "attempt": job["attempt"], "backend": job["backend"]}
            log.info("attempt", extra=facts | {"duration_ms": round((time.monotonic() - began) * 1000, 1)})
            if self._runs.get(run.key) is run:  # not where this process lost the job and has it again
                del self._runs[run.key]
            self._freed.set()

    async def _hand_in(self) -> None:
        """Wait for what can finish within the limit; end the other attempts and give their jobs back."""
        if not self._attempts:
            return
        _, left = await asyncio.wait(self._attempts, timeout=self.plane.settings.stop_limit_s)
        held = list(self._runs)
        for run in self._runs.values():
            run.lose()
        if left:
            _, left = await asyncio.wait(left, timeout=LETTING_GO_S)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for key in held:
            try:
                await give_back(self.plane, self.drivers, key, self.name)
            except (*FAULTS, QcosError, MovedOn, DriverError):
                log.warning("job %s waits for the end of its lease", key[1], exc_info=True)

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            runs = dict(self._runs)
            if not runs:
                continue
            with contextlib.suppress(*FAULTS):
                async with self.plane.transaction(None) as conn:
                    held = await leases.heartbeat(conn, self.name, self.plane.settings.lease_s, list(runs))
                self._heed(runs, held)

    def _heed(self, runs: Mapping[tuple[str, str], Run], held: Mapping[tuple[str, str], bool]) -> None:
        for key, run in runs.items():
            if key not in held:
                run.lose()
            elif held[key]:
                run.cancel()

    async def _folds(self) -> None:
        await take_turns(lambda: fold_ripe(self.plane), FOLD_AFTER_S / 2, log, "folding denials")

    async def _erases(self) -> None:
        """Any worker erases what is due: it is found once, whoever looks."""
        while True:
            await asyncio.sleep(ERASE_S)
            try:
                while await sweep(self.plane):
                    pass
            except (*FAULTS, QcosError) as error:
                log.warning("erasing failed: %s; it is tried again", type(error).__name__)
            except Exception:  # as in _advance: the loop outlives any fault
                log.exception("erasing failed")

    async def _keeps(self) -> None:
        """One worker of the plane at a time keeps its network."""
        office = Office(self.plane.settings.fabric_socket)
        keeper = Keeper(self.plane.engine, office, self.name, self.plane.now)
        prober = Prober(self.plane.engine, office, self.plane.settings.network, self.plane.now)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keeper.serve())
                tasks.create_task(prober.serve(lambda: keeper.keeps))
        finally:
            await office.close()

    async def _until_due(self) -> None:
        """A report's time, or a backend that has come or gone: jobs wait for the one and fail on the other.

        One that says nothing holds up no report of the others, which would be stale by then.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_S):
                while True:
                    await asyncio.sleep(NEWS_S)
                    if await self.reporter.has_news():
                        return

    async def _reports(self) -> None:
        while True:
            await self._until_due()
            with contextlib.suppress(*FAULTS):
                await self.report()
                async with self.plane.transaction(None) as conn:
                    while await store.settle_states(conn) == store.SETTLED_AT_ONCE:
                        pass
                    await store.forget_keys(conn)
                await close_idle(self.plane, self.drivers)
