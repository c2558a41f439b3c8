# SPDX-License-Identifier: Apache-2.0
"""Programs, plans and runs of them over the network of ``nodes``, under a clock that jumps when all wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import trio
from trio.testing import MockClock

from hal_drivers.p2p.asking import Limits, Order
from hal_drivers.p2p.desk import NodeConfig
from hal_drivers.p2p.ir import SERVICES, Operation, Program
from hal_drivers.p2p.office import Attempt, FragmentRun
from hal_drivers.p2p.plan import NodeFacts, Offer, Plan, PlanConfig, Snapshot
from hal_drivers.p2p.planner import plan
from hal_drivers.p2p.run_state import Progress, RunEvent
from hal_drivers.p2p.runtime import Runtime
from tests.hal_drivers.p2p.nodes import MEASURE, Direct, Node, network

GOOD = 0.999


def program(*operations: tuple[str, tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]) -> Program:
    made = tuple(
        Operation(place, name, qubits, bits, (), condition)  # type: ignore[arg-type]
        for place, (name, qubits, bits, condition) in enumerate(operations)
    )
    qubits = 1 + max(qubit for one in made for qubit in one.qubits)
    bits = 1 + max(bit for one in made for bit in one.bits)
    return Program("QASM3", qubits, bits, made, (("c", bits),), tuple(f"q[{number}]" for number in range(qubits)))


def bell(a: int, first_bit: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """Two qubits whose bits always agree."""
    return [
        ("bell_pair", (a, a + 1), (), ()),
        (MEASURE, (a,), (first_bit,), ()),
        (MEASURE, (a + 1,), (first_bit + 1,), ()),
    ]


PAIRS = program(*bell(0, 0), *bell(2, 2), *bell(4, 4))
"""Three fragments that know nothing of one another."""
PAIR = program(*bell(0, 0))
"""One fragment, so one window."""
FED = program(*bell(0, 0), ("x", (2,), (), ((0, 1),)), (MEASURE, (2,), (2,), ()))
"""The third qubit is flipped in those shots where the pair was 1: the second fragment reads the first's bit."""


def facts(node: Node, state: str = "online", verified: int | None = 995_000) -> NodeFacts:
    offers = tuple(
        Offer(service, int(skill.advertised * 1e6), verified, node.config.qubit_min, node.config.qubit_max)
        for service, skill in sorted(node.config.skills.items())
    )
    return NodeFacts(
        node_id=node.id,
        state=state,  # type: ignore[arg-type]
        organisation="lab",
        region="eu",
        compliance_zone="open",
        sovereign=False,
        price_per_fragment="0",
        price_per_shot="0",
        currency="USD",
        offers=offers,
        latency_us=1_000 + node.number,
        load_ppm=0,
        failure_ppm=0,
    )


def _at(tick: int) -> str:
    return f"2026-01-01T00:00:00.{tick:06}+00:00"


class Crash(Exception):
    """The fabric ends while it keeps its events."""


class Ran:
    """One run of one program, and all that became of it."""

    def __init__(self, given: Program, *, shots: int = 40, limits: Limits | None = None, fallbacks: int = 2) -> None:
        self.program, self.shots, self.limits = given, shots, limits or Limits()
        self.config = PlanConfig(fallbacks=fallbacks, min_fidelity_ppm=dict.fromkeys(SERVICES, 900_000))
        self.events: list[RunEvent] = []
        self.states: dict[str, str] = {}
        self.verified: dict[str, int] = {}
        self.plan: Plan | None = None
        self.progress: Progress | None = None
        self.deadline_s = 600.0
        self.crash_at: int | None = None

    def snapshot(self, link: Direct) -> Snapshot:
        return Snapshot(
            tuple(
                facts(node, self.states.get(node.id, "online"), self.verified.get(node.id, 995_000))
                for _, node in sorted(link.nodes.items())
            )
        )

    def order(self, link: Direct) -> Order:
        if self.plan is None:
            found = plan(self.program, self.snapshot(link), self.config, 5, None, shots=self.shots)
            assert isinstance(found, Plan), found
            self.plan = found
        return Order("run-1", self.program, self.plan, self.config, self.shots, 5)

    async def go(self, link: Direct) -> Progress:
        """Run it, from what earlier goes have left."""
        order, clock = self.order(link), count()
        self.progress = Progress(order.token, order.plan, self.events)

        async def keep(events: tuple[RunEvent, ...]) -> None:
            await trio.lowlevel.checkpoint()
            self.events.extend(events)
            if self.crash_at is not None and len(self.events) >= self.crash_at:
                del self.events[self.crash_at :]
                raise Crash

        async with trio.open_nursery() as spare:
            runtime = Runtime(
                link,
                lambda: self.snapshot(link),
                self.limits,
                lambda: f"2026-01-01T00:00:00.{next(clock):06}+00:00",
                spare,
            )
            await runtime.run(order, self.progress, keep, self.deadline_s)
        return self.progress

    @property
    def fragments(self) -> dict[str, FragmentRun]:
        assert self.progress is not None
        return {one.fragment_id: one for one in self.progress.view().fragments}

    @property
    def attempts(self) -> list[Attempt]:
        return [attempt for one in self.fragments.values() for attempt in one.attempts]

    def rows(self) -> list[int]:
        """The joined rows as numbers."""
        from hal_drivers.p2p.asking import Sheet

        assert self.progress is not None
        assert self.plan is not None
        order = Order("run-1", self.program, self.plan, self.config, self.shots, 5)
        data = Sheet(order, self.limits).joined(self.progress.done)
        size = len(data) // self.shots
        return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def over(home: Path, configs: list[NodeConfig], story: Callable[[Direct], Awaitable[None]]) -> None:
    """Tell a story over a network; nothing waits for real."""

    async def go() -> None:
        async with network(home, *configs) as link:
            await story(link)

    trio.run(go, clock=MockClock(autojump_threshold=0))
