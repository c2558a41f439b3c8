# SPDX-License-Identifier: Apache-2.0
"""A fabric that runs plans, without libp2p: real desks with real keys and the real runtime, in a thread of Trio.

Served at a Unix socket as the real one is. Work of `SLOW` shots or more never ends by itself, so that tests of stopping
need no circuit that takes seconds.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from hal_drivers.frames import FragmentCall, Memory
from hal_drivers.p2p.asking import Limits, Order, Sheet
from hal_drivers.p2p.desk import NodeConfig
from hal_drivers.p2p.ir import digest
from hal_drivers.p2p.office import (
    Ask,
    AskResult,
    AskSnapshot,
    CancelRun,
    Done,
    Find,
    ForgetRun,
    Poll,
    Refusal,
    Reply,
    RunResult,
    SnapshotIs,
    Submit,
)
from hal_drivers.p2p.plan import NodeFacts, Offer, Snapshot
from hal_drivers.p2p.run_state import Progress, RunEvent
from hal_drivers.p2p.runtime import Runtime
from tests.hal_drivers.p2p.fabric_double import FabricDouble, fabric
from tests.hal_drivers.p2p.nodes import Direct, InLine, Node

SLOW = 100_000
LIMITS = Limits(default_execute_s=60.0)


class _Patient(InLine):
    """Runs little work at once, and much of it never."""

    async def run(self, call: FragmentCall, limit_s: float) -> Memory:
        if call.shots >= SLOW:
            await trio.sleep_forever()
        return await super().run(call, limit_s)


class _Run:
    def __init__(self, order: Order, deadline_s: float) -> None:
        self.order, self.deadline_s = order, deadline_s
        self.progress = Progress(order.token, order.plan)
        self.scope, self.ended = trio.CancelScope(), trio.Event()

    def result(self) -> RunResult:
        run = self.progress.view()
        rows = b"" if run.state != "finished" else Sheet(self.order, LIMITS).joined(self.progress.done)
        return RunResult(run, self.order.shots, self.order.program.bits, self.order.seed, rows, 1_500)


class RunningDouble(FabricDouble):
    """Its nodes are by default in different zones and at different prices, by their number."""

    def __init__(self, home: Path, configs: tuple[NodeConfig, ...]) -> None:
        super().__init__()
        self.facts: dict[str, dict[str, object]] = {}
        """What a test says otherwise of a node's enrolment, by id."""
        self.nodes: list[Node] = []
        self._home, self._configs = home, configs
        self._runs: dict[str, _Run] = {}
        self._ready = threading.Event()

    async def respond(self, ask: Ask) -> Reply:
        if not isinstance(ask, AskSnapshot | Submit | Find | Poll | CancelRun | AskResult | ForgetRun):
            return await super().respond(ask)
        self.asked.append(ask)
        reply: Reply = await asyncio.to_thread(trio.from_thread.run, self._work, ask, trio_token=self._token)
        return reply

    def start(self) -> threading.Thread:
        """The thread with the nodes, once they are up."""
        thread = threading.Thread(target=trio.run, args=(self._live,))
        thread.start()
        self._ready.wait()
        return thread

    def stop(self) -> None:
        """End it."""
        self._token.run_sync_soon(self._nursery.cancel_scope.cancel)

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(sorted(map(self._facts_of, self.nodes), key=lambda node: node.node_id)))

    def _facts_of(self, node: Node) -> NodeFacts:
        offers = tuple(
            Offer(service, int(skill.advertised * 1e6), 995_000, node.config.qubit_min, node.config.qubit_max)
            for service, skill in sorted(node.config.skills.items())
        )
        facts: dict[str, object] = {
            "state": "online" if node.desk is not None else "unreachable",
            "organisation": "lab",
            "region": "eu",
            "compliance_zone": "onprem",
            "sovereign": True,
            "price_per_fragment": "0.01",
            "price_per_shot": "0.00001",
            "currency": "USD",
            "latency_us": 1_000,
            "load_ppm": 0,
            "failure_ppm": 0,
        }
        return NodeFacts(node_id=node.id, offers=offers, **facts | self.facts.get(node.id, {}))  # type: ignore[arg-type]

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            for number, config in enumerate(self._configs):
                folder = self._home / f"node-{number + 1}"
                folder.mkdir(parents=True)
                node = Node(number, folder, config)
                node.simulator = _Patient()
                await stack.enter_async_context(node.open())
                self.nodes.append(node)
            self._link, self._token = Direct(self.nodes), trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as self._nursery:
                self._ready.set()
                await trio.sleep_forever()

    async def _work(self, ask: Ask) -> Reply:
        if isinstance(ask, AskSnapshot):
            return SnapshotIs(self.snapshot(), digest(self.snapshot()))
        if isinstance(ask, Submit) and ask.token not in self._runs:
            order = Order(ask.token, ask.program, ask.plan, ask.config, ask.shots, ask.seed)
            self._runs[ask.token] = _Run(order, ask.deadline_ms / 1000)
            self._nursery.start_soon(self._run, self._runs[ask.token])
        token: str = getattr(ask, "token", "")
        if (run := self._runs.get(token)) is None:
            return Done() if isinstance(ask, ForgetRun) else Refusal("unknown_token", "nothing ran under it")
        return await self._told(ask, run)

    async def _told(self, ask: Ask, run: _Run) -> Reply:
        match ask:
            case Poll(wait_ms=wait_ms):
                with trio.move_on_after(wait_ms / 1000):
                    await run.ended.wait()
            case CancelRun():
                run.scope.cancel()
                await run.ended.wait()
                return Done()
            case AskResult():
                return run.result() if run.progress.over else Refusal("not_ended", "it runs")
            case ForgetRun(token=token):
                del self._runs[token]
                return Done()
        return run.progress.view(words=False)

    async def _run(self, run: _Run) -> None:
        async def keep(events: tuple[RunEvent, ...]) -> None:
            await trio.lowlevel.checkpoint()

        runtime = Runtime(self._link, self.snapshot, LIMITS, _now, self._nursery)
        with run.scope:
            await runtime.run(run.order, run.progress, keep, run.deadline_s)
        run.ended.set()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@asynccontextmanager
async def running_fabric(socket: Path, home: Path, *configs: NodeConfig) -> AsyncIterator[RunningDouble]:
    """Serve one at a socket."""
    double = RunningDouble(home, configs)
    thread = await asyncio.to_thread(double.start)
    try:
        async with fabric(socket, double):
            yield double
    finally:
        double.stop()
        await asyncio.to_thread(thread.join)
