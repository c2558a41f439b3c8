# SPDX-License-Identifier: Apache-2.0
"""All work of a fabric: who was asked to run what, how it stands, and what became of it (decision 10, N6).

It answers the asks of ``office`` that are about runs, windows and probes. A run's order and events are durable before
anything is sent on them; a fabric that was restarted goes on with every run that isn't over. What ended stays until the
plane forgets it, on disk. Each step is told to the fabric's journal too, without circuits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import trio

from hal_drivers.p2p.asking import Limits, Order, Sheet, node_token
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.identity import verify
from hal_drivers.p2p.ir import digest
from hal_drivers.p2p.link import Link
from hal_drivers.p2p.office import (
    Ask,
    AskReservation,
    AskResult,
    CancelReservation,
    CancelRun,
    Done,
    EventKind,
    Find,
    ForgetRun,
    Poll,
    Probe,
    Refusal,
    Reply,
    ReserveWindow,
    RunIs,
    RunResult,
    Submit,
)
from hal_drivers.p2p.plan import Snapshot
from hal_drivers.p2p.run_file import Head, RunFile, Spares, all_runs
from hal_drivers.p2p.run_state import Closed, Ended, Opened, Progress, Reserved, RunEvent, Started, Stray
from hal_drivers.p2p.runtime import Runtime
from hal_drivers.p2p.windows import Tell, Windows, tell_move
from hal_drivers.p2p.wire import Answer, Executed, ExecutionFailed, Signed

log = logging.getLogger("qcos.p2p")
MOST_AT_ONCE = 256
MOST_WAIT_S = 30.0
SIGNED_BYTES = 65_536
"""A longer answer stands in its run, and not in the journal too."""
_SNAPSHOT_S = 0.1
_UNKNOWN = Refusal("unknown_token", "nothing was submitted under it")
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class _Active:
    def __init__(self, head: Head, file: RunFile, progress: Progress, now: Callable[[], str]) -> None:
        self.head, self.file, self.progress, self.now = head, file, progress, now
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.writing = trio.Lock()
        self.kept = trio.Event()
        """Its order is durable."""
        self.end_is_kept = False
        self.began_s = trio.current_time()


class Runs:
    """Of one fabric; ``tell`` writes to its journal, ``look`` is its registry's snapshot of now, ``attempted`` is told
    how each node's work ended.
    """

    def __init__(
        self,
        folder: Path,
        link: Link,
        look: Callable[[], Snapshot],
        tell: Tell,
        nursery: trio.Nursery,
        limits: Limits,
        now: Callable[[], str],
        attempted: Callable[[str, bool], None],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._fresh, self._tell, self._nursery, self._limits = folder, look, tell, nursery, limits
        self._spares = Spares(folder)
        self._now, self._attempted = now, attempted
        self._seen: tuple[float, Snapshot] | None = None
        self._link = link
        self._windows = Windows(link, limits, now, tell, nursery)
        self._active: dict[str, _Active] = {}
        self._tokens: dict[str, str] = {}
        """By the nodes' token."""

    async def go_on(self) -> int:
        """Take up every run that isn't over; how many."""
        for file in all_runs(self._folder):
            file.mend()
            found = file.read()
            if found is not None and not found[1].over:
                active = _Active(found[0], file, found[1], steady(self._now))
                active.kept.set()
                self._begin(active)
        return len(self._active)

    def active(self) -> int:
        """How many runs have not ended."""
        return len(self._active)

    async def answer(self, ask: Ask) -> Reply:
        """The reply to an ask that is about work."""
        match ask:
            case Submit():
                return await self._submit(ask)
            case Find():
                await self._kept_end(ask.token)
                return self._view(ask.token)
            case Poll():
                return await self._poll(ask)
            case CancelRun():
                return await self._cancel(ask.token)
            case AskResult():
                await self._kept_end(ask.token)
                return self._result(ask.token)
            case ForgetRun():
                await self._kept_end(ask.token)
                if ask.token not in self._active:
                    RunFile(self._folder, ask.token).forget()
                return Done()
            case ReserveWindow():
                return await self._windows.reserve(ask)
            case AskReservation():
                return self._windows.view(ask.reservation_id)
            case CancelReservation():
                return await self._windows.cancel(ask)
            case Probe():
                return await self._windows.probe(ask)
            case _:
                return Refusal("invalid", "that is not about work")

    def stray(self, node_id: str, signed: Signed) -> None:
        """A node said something late, or again: told, kept with its attempt while the run goes on, without effect."""
        try:
            verify(signed)
            said = _answers.decode(signed.body)
        except (IdentityInvalid, msgspec.DecodeError, RecursionError):
            return
        if signed.node_id != node_id or not isinstance(said, Executed | ExecutionFailed):
            return
        token = self._tokens.get(said.token)
        active = self._active.get(token) if token is not None else None
        if active is not None and not active.progress.has_asked(said.fragment_id, said.epoch, said.request_sha256):
            active = None  # told, but no word of that attempt: nobody asked for it
        second = active is not None and active.progress.has_said(said.fragment_id, said.epoch, signed)
        if active is not None:
            why = "second" if second else "late"
            event = Stray(active.now(), node_id, why, said.fragment_id, said.epoch, signed)  # type: ignore[arg-type]
            active.progress.apply(event)
            self._nursery.start_soon(self._append, active, (event,))
        kind: EventKind = "answer:second" if second else "answer:late"
        kept = signed if len(signed.body) <= SIGNED_BYTES else None
        self._tell(
            kind, node_id=node_id, token=token, fragment_id=said.fragment_id, epoch=said.epoch, facts={}, signed=kept
        )

    async def _submit(self, ask: Submit) -> Reply:
        if (active := self._active.get(ask.token)) is not None:
            await active.kept.wait()
            return self._view(ask.token)
        if RunFile(self._folder, ask.token).path.exists():
            return self._view(ask.token)
        if len(self._active) >= MOST_AT_ONCE:
            return Refusal("busy", f"{MOST_AT_ONCE} runs are not over")
        if ask.plan.program_sha256 != digest(ask.program) or ask.plan.config_sha256 != digest(ask.config):
            return Refusal("invalid", "the plan was made for another program or configuration")
        if ask.shots < 1 or ask.deadline_ms < 1:
            return Refusal("invalid", "a run has shots and time")
        order = Order(ask.token, ask.program, ask.plan, ask.config, ask.shots, ask.seed)
        head = Head(order, time.time() + ask.deadline_ms / 1_000)
        active = _Active(head, RunFile(self._folder, ask.token), Progress(ask.token, ask.plan), steady(self._now))
        self._begin(active)
        await active.kept.wait()
        return active.progress.view(words=False)

    def _begin(self, active: _Active) -> None:
        token = active.head.order.token
        self._active[token] = active
        self._tokens[node_token(token)] = token
        self._nursery.start_soon(self._run, token, active)

    async def _run(self, token: str, active: _Active) -> None:
        async def keep(events: tuple[RunEvent, ...]) -> None:
            await self._append(active, events)
            active.end_is_kept |= any(isinstance(event, Closed) for event in events)
            for event in events:
                self._journal(token, event)

        left_s = max(active.head.until_s - time.time(), 0.001)
        try:
            with active.scope:
                runtime = Runtime(self._link, self._look, self._limits, active.now, self._nursery)
                await runtime.run(active.head.order, active.progress, keep, left_s)
        except Exception as error:  # a run that breaks takes no other with it, and doesn't come back at each start
            log.exception("run %s broke", token)
            if not active.progress.over:
                closed = Closed(active.now(), "failed", "broken", f"{type(error).__name__}: {error}"[:300])
                active.progress.apply(closed)
                await keep((closed,))
        finally:
            self._active.pop(token, None)
            self._tokens.pop(node_token(token), None)
            active.kept.set()
            active.over.set()

    async def _append(self, active: _Active, events: tuple[RunEvent, ...]) -> None:
        with trio.CancelScope(shield=True):
            async with active.writing:
                if active.kept.is_set():
                    await trio.to_thread.run_sync(active.file.append, events)
                else:  # the order goes to the disk with the first events: nothing was sent before either
                    await trio.to_thread.run_sync(active.file.create, active.head, events, self._spares.take())
                    active.kept.set()
                    if self._spares.few:
                        self._nursery.start_soon(trio.to_thread.run_sync, self._spares.more)

    async def _cancel(self, token: str) -> Reply:
        active = self._active.get(token)
        if active is None:
            found = self._view(token)
            return found if isinstance(found, Refusal) else Done()
        active.scope.cancel()
        await active.over.wait()
        return Done()

    async def _poll(self, ask: Poll) -> Reply:
        active = self._active.get(ask.token)
        if active is not None:
            with trio.move_on_after(min(max(ask.wait_ms, 0) / 1_000, MOST_WAIT_S)):
                await active.over.wait()
        await self._kept_end(ask.token)
        if active is not None and active.end_is_kept:  # as its file has it, which needn't be read for that
            return active.progress.view(words=False)
        return self._view(ask.token)

    async def _kept_end(self, token: str) -> None:
        """An end that was reached is told once it is durable, and only then."""
        active = self._active.get(token)
        if active is not None and active.progress.over:
            await active.over.wait()

    def _view(self, token: str) -> RunIs | Refusal:
        found = self._progress(token)
        return (
            Refusal("unknown_token", "nothing was submitted under it") if found is None else found[1].view(words=False)
        )

    def _result(self, token: str) -> RunResult | Refusal:
        found = self._progress(token)
        if found is None:
            return _UNKNOWN
        head, progress = found
        if not progress.over:
            return Refusal("not_ended", "it is not over")
        view, order = progress.view(), head.order
        rows = Sheet(order, self._limits).joined(progress.done) if view.state == "finished" else b""
        return RunResult(
            run=view,
            shots=order.shots,
            bits=order.program.bits,
            seed=order.seed,
            rows=rows,
            duration_us=progress.duration_us,
        )

    def _progress(self, token: str) -> tuple[Head, Progress] | None:
        if (active := self._active.get(token)) is not None:
            return active.head, active.progress
        return RunFile(self._folder, token).read()

    def _look(self) -> Snapshot:
        now = trio.current_time()
        if self._seen is None or now - self._seen[0] > _SNAPSHOT_S:
            self._seen = (now, self._fresh())
        return self._seen[1]

    def _journal(self, token: str, event: RunEvent) -> None:
        """An answer's words come with its attempt, a stray one was told when it came, giving up is told by the end."""
        match event:
            case Opened():
                self._tell("run:submitted", token=token)
            case Started():
                self._tell(
                    "attempt:started",
                    node_id=event.node_id,
                    token=token,
                    fragment_id=event.fragment_id,
                    epoch=event.epoch,
                )
            case Reserved():
                wanted = self._active[token].progress.book.reservations[event.moved.reservation_id].wanted
                tell_move(self._tell, token, wanted, event.moved)
            case Ended():
                if event.status != "canceled":
                    self._attempted(event.node_id, event.status == "accepted")
                self._tell(
                    "attempt:failed" if event.status in ("late", "running") else f"attempt:{event.status}",  # type: ignore[arg-type]
                    node_id=event.node_id,
                    token=token,
                    fragment_id=event.fragment_id,
                    epoch=event.epoch,
                    facts={"observed_ppm": event.observed_ppm, "code": event.code, "detail": event.detail},
                )
            case Closed():
                self._tell(f"run:{event.state}", token=token, facts={"code": event.code, "detail": event.detail})  # type: ignore[arg-type]


def steady(now: Callable[[], str]) -> Callable[[], str]:
    """A run's clock: this moment by ``now``, and from there what has passed. A clock that is set while it lasts changes
    neither its order nor its duration.
    """
    begun, began_s = datetime.fromisoformat(now()), trio.current_time()

    def told() -> str:
        at = begun + timedelta(seconds=trio.current_time() - began_s)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return told
