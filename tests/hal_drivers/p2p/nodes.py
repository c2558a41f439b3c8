# SPDX-License-Identifier: Apache-2.0
"""A small network in one process: real desks with real keys, reached by a call instead of libp2p."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hal_drivers.engines import node as engine
from hal_drivers.errors import DriverError
from hal_drivers.frames import FragmentCall, Memory
from hal_drivers.p2p.desk import Desk, NodeConfig, Skill, open_desk
from hal_drivers.p2p.errors import Late, Unreachable
from hal_drivers.p2p.faults import Fault
from hal_drivers.p2p.identity import Identity
from hal_drivers.p2p.ir import SERVICES, Circuit, Operation, Service, canonical
from hal_drivers.p2p.wire import Answer, Commit, Committed, Execute, Prepared, Request, Reserve, Signed
from hal_drivers.p2p.workshop import RunLost

LONG_US = 60_000_000
MEASURE: Service = "measurement_feedforward"
BELL = Circuit(
    2, 2, (Operation(0, "bell_pair", (0, 1)), Operation(1, MEASURE, (0,), (0,)), Operation(2, MEASURE, (1,), (1,)))
)


class InLine:
    """The engine of a node's guarded child, called without the child."""

    def __init__(self) -> None:
        self.versions = {"double": "in line"}
        self.ran = 0
        self.gate: trio.Event | None = None
        """Set, a run waits for it first."""

    async def run(self, call: FragmentCall, limit_s: float) -> Memory:
        self.ran += 1
        if self.gate is not None:
            await self.gate.wait()
        try:
            return engine.run_fragment(call)
        except DriverError as error:
            raise RunLost("refused", error.detail) from None


def identity(number: int) -> Identity:
    """The same for the same node in all tests."""
    return Identity(Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32))


class Node:
    """One desk that can be taken away and brought back."""

    def __init__(self, number: int, home: Path, config: NodeConfig) -> None:
        self.identity = identity(number)
        self.number, self.home, self.config, self.simulator = number, home, config, InLine()
        self.desk: Desk | None = None
        self.got: list[Request] = []

    @property
    def id(self) -> str:
        return self.identity.peer_id

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Desk]:
        async with open_desk(self.config, self.identity, self.home, self.simulator) as desk:
            self.desk = desk
            try:
                yield desk
            finally:
                self.desk = None

    async def ask(self, request: Request) -> Answer:
        """What the desk says; tests of the desk alone read it without judging."""
        assert self.desk is not None
        frame = await self.desk.answer(canonical(request))
        signed = msgspec.json.decode(frame, type=Signed)
        answer: Answer = msgspec.json.decode(signed.body, type=Answer)
        return answer

    async def window(
        self, token: str = "job", fragment: str = "f0", epoch: int = 1, duration_us: int = LONG_US
    ) -> Prepared:
        """A committed window."""
        prepared = await self.ask(Reserve(token, fragment, epoch, (), 2, duration_us, LONG_US))
        assert isinstance(prepared, Prepared), prepared
        assert isinstance(await self.ask(Commit(token, fragment, epoch, prepared.fence)), Committed)
        return prepared


class Direct:
    """The double of the link over libp2p: frames go to desks by a call."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.before: Callable[[Node, Request], Awaitable[None]] | None = None
        """Called before each request is carried, to break things just then."""

    async def ask(self, node_id: str, request: Request, limit_s: float) -> Signed:
        node = self.nodes[node_id]
        if self.before is not None:
            await self.before(node, request)
        if node.desk is None:
            raise Unreachable("the connection is gone")
        node.got.append(request)
        try:
            with trio.fail_after(limit_s):
                frame = await node.desk.answer(canonical(request))
                if not frame:
                    await trio.sleep_forever()
        except trio.TooSlowError:
            raise Late(f"no answer in {limit_s} s") from None
        try:
            return msgspec.json.decode(frame, type=Signed)
        except msgspec.DecodeError:
            raise Unreachable("the answer is no frame") from None


def config(fidelity: float = 0.99, *faults: Fault, true: float | None = None) -> NodeConfig:
    """A node of all services, as good as it says where `true` isn't given."""
    skill = Skill(fidelity, fidelity if true is None else true)
    return NodeConfig(skills=dict.fromkeys(SERVICES, skill), faults=faults)


@asynccontextmanager
async def network(home: Path, *configs: NodeConfig) -> AsyncIterator[Direct]:
    """So many nodes, all up."""
    nodes = []
    async with AsyncExitStack() as stack:
        for number, one in enumerate(configs):
            folder = home / f"node-{number + 1}"
            folder.mkdir()
            node = Node(number, folder, one)
            await stack.enter_async_context(node.open())
            nodes.append(node)
        yield Direct(nodes)


def execute(
    prepared: Prepared, *, token: str = "job", fragment: str = "f0", epoch: int = 1, shots: int = 100
) -> Execute:
    return Execute(token, fragment, epoch, prepared.fence, BELL, shots, 7)
