# SPDX-License-Identifier: Apache-2.0
"""One job from claim to settled outcome (design path steps 4–8), as straight numbered steps.

    1 claimed      leased, while its admission may still be in the sealer's hands; nothing that an entry tells
    2 compiled     in a guarded child: COMPILING, attempt raised; told with step 4, or at once where it takes long
    3 gate         compiled facts, price, and a new decision where the policy changed since admission
      asked        of a job that waits for an approval: the artefact is kept, what is to be approved told, and no more
    4 intended     the admission is sealed (I1); RESERVING, EXECUTING and the client token are committed before
                   anything is handed over
    5 submitted    the backend's handle is stored
    6 measured     the outcome is there; nothing durable
    7 settled      outcome, capture, release, evidence and SEALING in one transaction

A backend that fails before step 7 with nothing left of the task leads back to step 1 and to another one, as a route of
its own, where `jobs.failover` allows it.

Before and after each durable write stands a crash point (`control_plane.crash`).

A worker that lost its lease changes nothing: each write is conditional on the job's number. What a lost worker left is
recovered by whoever claims it next: before step 4 the job is QUEUED, or returns there; after it the driver is asked to
`find` the token, and where it can't tell, the job is UNCERTAIN with its hold parked, never resubmitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import secrets
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

import finops.store
from control_plane import crash, telemetry
from control_plane.context import Plane
from control_plane.jobs import (
    approval,
    exact,
    failover,
    gate,
    holding,
    keeping,
    leases,
    program,
    settle,
    store,
    transition,
    witness,
)
from control_plane.jobs import spec as specs
from control_plane.jobs.claim import Claimed
from control_plane.jobs.gathered import Program
from control_plane.jobs.patience import OVERDUE_S, Patience
from control_plane.jobs.session import Seat
from control_plane.jobs.several import Limits, Several, Submit
from control_plane.jobs.state import State
from control_plane.jobs.store import Change
from control_plane.jobs.transition import CancelCame, MovedOn, NotSealed
from control_plane.policy.decision import PolicyUnavailable
from finops.holds import Held
from hal_drivers.base import (
    Canceled,
    Capabilities,
    Compiled,
    CompileRequest,
    Driver,
    Failed,
    Finished,
    Handle,
    Queued,
    Running,
    Stopped,
    StoppedAfter,
    Task,
    TooLate,
    Unknown,
    Unsupported,
    Witness,
    vendor_task,
)
from hal_drivers.errors import BackendUnavailable, DriverError
from hal_drivers.outcome import judged

log = logging.getLogger("qcos.worker")
POLL_S = 5.0
ASK_AGAIN_S = 1.0  # after what compiles a request was away
QUICK_S = 0.05  # a compilation longer than this is told by an entry of its own
SEAL_LOOK_S = (0.002, 0.1)  # how often a compiled job looks whether its admission is sealed: at first, at last


class Run:
    """One attempt at one claimed job; `cancel` may be called at any moment."""

    def __init__(self, plane: Plane, drivers: Mapping[str, Driver], claimed: Claimed) -> None:
        """Hold what the attempt needs; nothing starts here."""
        self.plane, self.drivers, self.claimed = plane, drivers, claimed
        self.job, self.spec = claimed.row, claimed.spec
        self._untold = claimed.begun
        self._items = program.items(self.spec)
        self._canceled = asyncio.Event()
        self._lost = False
        self._handed: tuple[Driver, Handle] | None = None
        self._made: Compiled | None = None
        self._told: settle.Shown | None = None
        self.elsewhere = False
        """Whether the task is with a backend that isn't this process's: waiting for it takes nothing here."""
        self.moved_out: Callable[[], None] = lambda: None

    @property
    def key(self) -> tuple[str, str]:
        """(tenant, job id)."""
        return self.job["tenant"], self.job["job_id"]

    def cancel(self) -> None:
        """Stop the work; the job ends CANCELED unless it had already ended."""
        self._canceled.set()

    def lose(self) -> None:
        """Stop the work because the lease is gone; nothing is written."""
        self._lost = True
        self._canceled.set()

    async def advance(self) -> None:
        """Take the job as far as it goes; raises MovedOn where another worker has it."""
        try:
            if self.claimed.route is None:
                await self._recover()
            else:
                await self._first(self.claimed.route)
        except (BackendUnavailable, PolicyUnavailable) as error:
            if self.job["token"] is None:
                await self._put_back(error.code)
            else:
                # Something may run under the token. Nothing is written: once the lease has ended, the job is claimed
                # again and the token asked for again, until the backend has been away for longer than a job may run.
                log.warning("job %s waits for its backend: %s", self.job["job_id"], error)
                away_s, limit_s = self.plane.away.lasts_s(self.key), self.plane.settings.job_deadline_s
                if away_s > limit_s:
                    await self._uncertain(f"its backend has been away for more than {limit_s:g} s: {error}")

    async def _first(self, route: gate.Chosen) -> None:
        job = self.job
        driver = self._driver(route.chosen.id)
        try:
            compiled = await self._compiled(driver, route.chosen.id)
            if compiled is None:
                await self._stop()
                return
            crash.point("run.compiled")
            await gate.judge(
                self.plane, job, self.spec, compiled, self.claimed.submitted, route, witness.plan_of(compiled)
            )
            amount = await gate.afford(self.plane, job, self.spec, compiled, route.chosen)
            crash.point("run.judged")
            if job["state"] == approval.WAITS:
                await self._ask(route, compiled)
                return
            await witness.keep(self.plane, job, self.spec.governance.project, compiled)
        except BackendUnavailable as error:
            if await self._elsewhere(error.code, error.detail):
                return
            raise  # nothing is handed over yet: back to the queue
        except (DriverError, gate.Stopped) as error:
            await self._fail(error.code, error.detail)
            return
        if self._canceled.is_set():
            await self._stop()
            return
        try:
            intended = await self._intend(route, compiled, amount)
        except transition.Unheld as error:
            if not await self._elsewhere(error.short.code, error.short.detail):
                await self._put_back(error.short.code)  # what others hold may be released; the next claim sees it
            return
        if not intended:
            await self._end(settle.Cancellation())
            return
        crash.point("run.intended")
        task = self._task()
        try:
            with telemetry.span("driver.submit", backend=route.chosen.id):
                handle = await self._submitter(driver)(compiled, task)
        except DriverError as error:
            # The intent is committed and the driver says that nothing was started, or that nothing is left of it.
            await self._fail(error.code, error.detail)
            return
        crash.point("run.submitted")
        await self._watch(driver, handle, compiled)

    async def _stop(self) -> None:
        """Nothing was handed over, and a cancel came or the lease is gone; a waiting job is cancelled by who asks."""
        if self.job["state"] == approval.WAITS:
            raise MovedOn
        await self._end(settle.Cancellation())

    async def _ask(self, route: gate.Chosen, compiled: Compiled) -> None:
        """Keep what was compiled and tell what is to be approved; the next claim comes when nobody has answered."""
        plane, job = self.plane, self.job
        change = keeping.requesting(plane, job, self.spec, route, compiled)
        crash.point("run.asking")
        await self._write(change)
        crash.point("run.asked")

    def _submitter(self, driver: Driver) -> Submit:
        """How a task is handed over: in the workflow's session where the job asks for one."""
        if not self.spec.execution.session or isinstance(driver, Several):
            return driver.submit
        return Seat(self.plane, driver, self.job, self.spec).submit

    def _task(self) -> Task:
        """What was, or will be, handed over under the job's token."""
        return Task(
            token=self.job["token"],
            shots=self.spec.shots,
            seed=self.spec.execution.seed,
            deadline_s=self.plane.settings.job_deadline_s,
        )

    async def _compiled(self, driver: Driver, backend: str) -> Compiled | None:
        """Step 2; that it takes long is told while it does. None where a cancel came before it was done."""
        compiling = asyncio.create_task(self._compile(driver, backend))
        try:
            await asyncio.wait({compiling}, timeout=QUICK_S)
            if self._untold is not None and not compiling.done():
                if await store.advance(self.plane.engine, self.job["tenant"], self._untold) != "moved":
                    raise MovedOn
                self._untold = None
            if not compiling.done():
                stop = asyncio.create_task(self._canceled.wait())
                await asyncio.wait({compiling, stop}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
            return await compiling if compiling.done() else None
        finally:
            compiling.cancel()

    @telemetry.traced("driver.compile")
    async def _compile(self, driver: Driver, backend: str) -> Compiled:
        if (kept := await keeping.kept(self.plane, self.job, program=bool(self._items))) is not None:
            if isinstance(driver, Several) and isinstance(kept, Program):
                driver.adopt(kept)
            return kept
        # A program's circuits are `several`'s to compile; what it is asked with is the first.
        circuit = self.spec.single or self.spec.circuits[0]
        request = CompileRequest(
            format=circuit.format,
            source=specs.source_bytes(circuit),
            parameters=circuit.parameters,
            backend=backend,
            shots=self.spec.shots,
            alias_model=circuit.alias_model or "discard",
            allowed_nodes=tuple(self.job["decision"].get("allowed_nodes", ())),
            plan=None if self._handed is None else await witness.kept(self.plane, self.job),
        )
        telemetry.note(backend=backend)
        return await driver.compile(request)

    @telemetry.traced("job.intend")
    async def _intend(self, route: gate.Chosen, compiled: Compiled, amount: Decimal) -> bool:
        """Step 4: the token is durable before the backend hears of it, and the hold is right for it.

        False where a cancel came first; raises Unheld where a budget is short.
        """
        job = self.job
        look_s, longest_s = SEAL_LOOK_S
        while not self._canceled.is_set():
            held = holding.remade(job, route.chosen.provider, amount)
            change = self._intention(route, compiled, held)
            crash.point("run.intending")
            try:
                await self._write(change)
            except CancelCame:
                return False
            except NotSealed:
                await asyncio.sleep(look_s)
                look_s = min(2 * look_s, longest_s)
                (job["providers"],) = await self.plane.read(job["tenant"], leases.providers(job["tenant"]))
            else:
                if held is not None:
                    holding.follow(job, held)
                return True
        return False

    def _intention(self, route: gate.Chosen, compiled: Compiled, held: Held | None) -> Change:
        """The move that hands the job on, with its hold made so; none happens before the admission is sealed (I1)."""
        job, now = self.job, self.plane.now()
        handed: dict[str, Any] = {
            "token": f"{job['attempt']}-{secrets.token_hex(16)}",
            "backend": route.chosen.id,
            "rate_card": route.chosen.rate_card or job["rate_card"],
        }
        told: dict[str, Any] = {
            **handed,
            "routed": {"by": self.plane.settings.routing.hash, "reason": route.reason},
            "price": {
                "amount": store.numeric(held.amount if held else job["hold_amount"]),
                "currency": job["currency"],
            },
            "compiled": settle.artefact_hash(compiled),
        }
        if held is not None:
            handed["hold_amount"] = held.amount
            told["rehold"] = held.body()
        steps: tuple[State, ...] = ("RESERVING", "EXECUTING")
        change = transition.move(job, steps, "job:dispatch:intended", now, told=told, patient=True, **handed)
        if (given := approval.of(job)) is not None:
            change = keeping.using(job, change, approval.used(given, now), now)
        placed = None if held is None else finops.store.placing(held, job["submitted_at"])
        return msgspec.structs.replace(change, sealed=True, unless_canceled=True, rehold=placed)

    @telemetry.traced("driver.run")
    async def _watch(self, driver: Driver, handle: Handle, compiled: Compiled | None) -> None:
        """Steps 5 and 6: keep the handle, wait for the end, cancel when asked."""
        job = self.job
        telemetry.note(backend=job["backend"])
        self._handed, self._made = (driver, handle), compiled
        if (await self._capabilities(driver)).handle_scope == "anywhere":  # another's handle dies with its process
            async with self.plane.transaction(job["tenant"]) as conn:
                await store.keep_handle(conn, job["job_id"], job["attempt"], dict(handle))
            self.elsewhere = True
            await self._name()
            self.moved_out()
        crash.point("run.kept")
        stop = asyncio.create_task(self._canceled.wait())
        patience = Patience(self.plane, job)
        try:
            while True:
                polled = asyncio.create_task(driver.poll(handle, POLL_S))
                await asyncio.wait({polled, stop}, return_when=asyncio.FIRST_COMPLETED)
                if stop.done() and not polled.done():
                    polled.cancel()
                    if self._lost:
                        await self._let_go(driver, handle)
                        raise MovedOn
                    match await driver.cancel(handle):
                        case Canceled() | StoppedAfter(shots=0):
                            await self._end(settle.Cancellation())
                            return
                        case _:
                            stop = asyncio.create_task(asyncio.Event().wait())  # too late: take what comes
                            continue
                status = await polled
                self.plane.away.over(self.key)
                match status:
                    case Finished():
                        await self._finish(driver, handle, compiled)
                        return
                    case Failed(code=code, detail=detail):
                        await self._fail(code, detail)
                        return
                    case Stopped():
                        await self._end(settle.Cancellation())
                        return
                    case Unknown():
                        await self._missing(driver)
                        return
                    case Queued() | Running() if not self._items and (over := patience.over(status)) is not None:
                        if await self._overdue(driver, handle, over):
                            return
        except BackendUnavailable:
            raise  # what runs there may still end well
        except DriverError as error:
            await self._fail(error.code, error.detail)
        finally:
            stop.cancel()

    async def _name(self) -> None:
        """Keep by which names the vendor knows what was handed over: invoices name nothing else (G7)."""
        if self._handed is None or not self.elsewhere:
            return
        driver, handle = self._handed
        handles = driver.handles() if isinstance(driver, Several) else [handle]
        job, kept = self.job, list(self.job.get("vendor_tasks") or ())
        names = (vendor_task(one) for one in handles)
        told = ({"attempt": job["attempt"], "backend": job["backend"], "task": name} for name in names if name)
        if new := [one for one in told if one not in kept]:
            self.job = {**job, "vendor_tasks": [*kept, *new]}
            async with self.plane.transaction(job["tenant"]) as conn:
                await store.keep_vendor_tasks(conn, job["job_id"], job["attempt"], self.job["vendor_tasks"])

    async def _let_go(self, driver: Driver, handle: Handle) -> None:
        """The lease is gone: a task of this process is wasted work; a vendor's belongs to who has the job now."""
        device = next(d for d in await driver.devices() if d.id == self.job["backend"])
        if device.capabilities.handle_scope == "process":
            await driver.cancel(handle)

    async def _overdue(self, driver: Driver, handle: Handle, over: str) -> bool:
        """Stop a task that has had its time; False where a result of it is still to come."""
        match await driver.cancel(handle):
            case Canceled() | StoppedAfter(shots=0):
                await self._end(settle.Failure("deadline_exceeded", f"{over}, and was stopped"))
            case StoppedAfter() | TooLate():
                return isinstance(await driver.poll(handle, POLL_S), Queued | Running) and await self._adrift(over)
            case Unsupported():
                return await self._adrift(over)
        return True

    async def _adrift(self, over: str) -> bool:
        await self._uncertain(f"{over}, and its backend does not stop it")
        return True

    async def _missing(self, driver: Driver) -> None:
        """The backend doesn't know the task: run it anew only where that proves that it gave nothing (I3)."""
        if await driver.find(self.job["token"]) is None and (await self._capabilities(driver)).find_authoritative:
            await self._put_back("backend_lost_it")
            return
        await self._uncertain("the backend no longer knows the task")

    async def _finish(self, driver: Driver, handle: Handle, compiled: Compiled | None) -> None:
        outcome = await driver.result(handle)
        if compiled is None:  # found again after a crash: the artefact is compiled anew, which is deterministic
            compiled = self._made = await self._compile(driver, self.job["backend"])
        if not self._items:  # of a program each item is judged as it ends
            outcome = judged(outcome, compiled, self._task())
        calibration = await driver.calibration(self.job["backend"])
        crash.point("run.measured")
        computed = await exact.compute(self.drivers, self.job["backend"], self.spec, outcome)
        owed = witness.fees_of(compiled, await self._shown(must=True))
        await self._end(settle.Success(compiled, outcome, calibration, computed, owed))

    async def _recover(self) -> None:
        """A lost worker had committed its intent: find what became of it, and never submit twice (I3)."""
        job = self.job
        driver = self._driver(job["backend"])
        if isinstance(driver, Several):
            handle = await driver.resume(job["token"], job["backend"])
        else:
            handle = await driver.find(job["token"])
        crash.point("run.found")
        if handle is not None:
            await self._watch(driver, handle, None)
            return
        if (await self._capabilities(driver)).find_authoritative:
            await self._put_back("lost_worker_never_ran")
            return
        await self._uncertain("its worker was lost and the backend can't say whether it ran")

    def _driver(self, backend: str) -> Driver:
        """The driver of a backend; another worker may have reported one that isn't here."""
        driver = self.drivers.get(backend)
        if driver is None:
            raise BackendUnavailable(f"no driver here for {backend}")
        if not self._items:
            return driver
        settings = self.plane.settings
        limits = Limits(settings.job_deadline_s, settings.job_deadline_s + OVERDUE_S, settings.queue_limit_s)
        return Several(driver, self.spec, self._items, limits, self._submitter(driver))

    async def _capabilities(self, driver: Driver) -> Capabilities:
        return next(device.capabilities for device in await driver.devices() if device.id == self.job["backend"])

    async def _fail(self, code: str, detail: str) -> None:
        """No result here: to another backend, if there is one that may have it; else FAILED."""
        if not await self._elsewhere(code, detail):
            await self._end(settle.Failure(code, detail))

    async def _elsewhere(self, code: str, detail: str) -> bool:
        """Put the job back for another backend, its route told; False where none may have it."""
        plane, job = self.plane, self.job
        if self._lost:
            raise MovedOn
        await self._name()
        if self._handed is not None and isinstance(self._handed[0], Witness):
            return False  # others have received something of it: that stands in the evidence of this end
        if self._canceled.is_set() or not failover.may_move(job, self.spec, code, plane.settings.routing.failovers):
            return False
        route = failover.marked(job, code, detail)
        if not await gate.another(plane, job, self.spec, self.claimed.submitted, route):
            return False
        crash.point("run.rerouting")
        await self._write(failover.change(job, route, code, plane.now()))
        crash.point("run.rerouted")
        return True

    async def _uncertain(self, detail: str) -> None:
        await self._end(settle.Uncertainty(detail))

    async def _put_back(self, cause: str) -> None:
        if self.job["state"] == approval.WAITS:
            async with self.plane.transaction(self.job["tenant"]) as conn:
                await leases.postpone(conn, self.job["job_id"], self.plane.now() + dt.timedelta(seconds=ASK_AGAIN_S))
            return
        back = transition.requeue(self.job, cause, self.plane.now())
        if self._untold is None:
            crash.point("run.requeuing")
            await transition.write(self.plane, self.job, back)
            crash.point("run.requeued")
        else:  # nothing has happened that an entry tells
            async with self.plane.transaction(self.job["tenant"]) as conn:
                await leases.postpone(conn, self.job["job_id"], back.columns["lease_until"])

    @telemetry.traced("job.settle")
    async def _end(self, end: settle.End) -> None:
        """Step 7, in one call; raises MovedOn where another worker has written meanwhile."""
        if self._lost:
            raise MovedOn
        await self._name()
        shown = await self._shown(must=not isinstance(end, settle.Uncertainty))
        change = await settle.settle(self.plane, self.job, self.spec, self.claimed.submitted, end, shown)
        crash.point("run.settling")
        await self._write(change)
        crash.point("run.settled")
        divided = self._handed is not None and isinstance(self._handed[0], Witness)
        over = isinstance(end, settle.Success) or (divided and not isinstance(end, settle.Uncertainty))
        if self._handed is not None and over:
            with contextlib.suppress(DriverError):  # the end is durable; what the driver keeps is its own affair
                await self._handed[0].forget(self._handed[1])

    async def _shown(self, *, must: bool) -> settle.Shown:
        """Who received what of the task, where it was divided among others; asked for once."""
        if self._handed is None or not isinstance(self._handed[0], Witness):
            return settle.NOTHING
        if self._told is not None:
            return self._told
        driver, handle = self._handed
        if self._made is None:
            with contextlib.suppress(DriverError):
                self._made = await self._compile(driver, self.job["backend"])
        self._told = await witness.shown(driver, handle, self._made, must=must)
        return self._told

    async def _write(self, change: Change) -> None:
        mine = msgspec.structs.replace(change, worker=self.job["worker"])
        await transition.write(self.plane, self.job, mine, after=self._untold)
        self._untold = None
