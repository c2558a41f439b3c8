# SPDX-License-Identifier: Apache-2.0
"""The driver of a network, over real nodes and the real runtime, without libp2p between them (N4, N6, I8, I9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from hal_drivers.base import CompileRequest, Device, Driver, Finished, Task, Witness
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendFailed, ProgramUnsupported
from hal_drivers.p2p import planned
from hal_drivers.p2p.identity import verify
from hal_drivers.p2p.office import RunResult
from hal_drivers.p2p.plan import PlanConfig
from hal_drivers.p2p.wire import Executed
from hal_drivers.table import open_drivers
from tests.conformance.driver import CHECKS, HEAD
from tests.hal_drivers.p2p.fabric_running import RunningDouble, running_fabric
from tests.hal_drivers.p2p.nodes import config

GROUPS = HEAD + (b"qubit[4] q;\nbit[4] c;\nh q[0];\ncx q[0], q[1];\nh q[2];\ncx q[2], q[3];\nc = measure q;\n")


def driver_of(socket: Path | None) -> Driver:
    """The backend `p2p`, not entered."""
    backend = BackendConfig(id="p2p", provider="p2p")
    found = open_drivers(DriversConfig(backends=(backend,), fabric=socket))
    return found["p2p"]


@asynccontextmanager
async def network(home: Path, nodes: int = 3) -> AsyncIterator[tuple[Driver, RunningDouble]]:
    """A driver that is entered, and the fabric behind it."""
    async with running_fabric(home / "f.sock", home, *[config(0.999)] * nodes) as double:
        driver = driver_of(home / "f.sock")
        async with driver:
            yield driver, double


def asked(source: bytes = GROUPS, **more: object) -> CompileRequest:
    return CompileRequest(format="QASM3", source=source, parameters={}, backend="p2p", shots=100, **more)  # type: ignore[arg-type]


async def test_a_network_is_a_device_like_any_other(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, _):
        device: Device = (await driver.devices())[0]
        assert await driver.devices(), device
        for check in CHECKS:
            await check(driver, device)


async def test_without_a_fabric_it_is_offline_and_says_so(tmp_path: Path) -> None:
    for socket, why in ((None, "switched off"), (tmp_path / "none.sock", "isn't there")):
        driver = driver_of(socket)
        async with driver:
            status = await driver.status("p2p")
            assert not status.online
            assert why in str(status.reason)


async def test_the_artefact_is_the_plan_with_all_it_was_made_of(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, double):
        compiled = await driver.compile(asked())
        made = planned.read(compiled.artefact)
        assert compiled.format == "PLAN"
        assert made.snapshot == double.snapshot()
        assert made.config == PlanConfig()
        assert len(made.plan.fragments) == 2
        again = planned.make(made.program, made.snapshot, made.config, 100)
        assert again == made, "anybody who has the artefact makes the same plan (I9)"


async def test_a_kept_plan_is_not_made_anew(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, double):
        first = await driver.compile(asked())
        made = planned.read(first.artefact)
        assert made.config is not None
        double.facts[double.nodes[0].id] = {"latency_us": 9_000_000}
        kept = planned.kept(made.plan, made.snapshot, made.config)
        assert (await driver.compile(asked(plan=kept))).artefact == first.artefact
        assert (await driver.compile(asked())).artefact != first.artefact
        with pytest.raises(BackendFailed, match="another program"):
            await driver.compile(asked(HEAD + b"qubit q;\nbit c;\nc = measure q;\n", plan=kept))
        lost = planned.read(
            (await driver.compile(asked(plan=planned.kept(made.plan, made.snapshot, PlanConfig(fallbacks=0))))).artefact
        )
        assert lost.config is None


async def test_who_is_not_allowed_receives_nothing(tmp_path: Path) -> None:
    """I8: planner and fallbacks stay inside what policy allows."""
    async with network(tmp_path) as (driver, double):
        allowed = (double.nodes[1].id,)
        compiled = await driver.compile(asked(allowed_nodes=allowed))
        made = planned.read(compiled.artefact)
        assert made.nodes == set(allowed)
        assert made.allowed == allowed
        handle = await driver.submit(compiled, Task(token="t", shots=100, seed=3))
        assert isinstance(await driver.poll(handle, 30), Finished)
        assert not double.nodes[0].got
        assert not double.nodes[2].got
        with pytest.raises(ProgramUnsupported, match="policy"):
            await driver.compile(asked(allowed_nodes=()))


async def test_a_plan_that_cannot_be_made_says_what_is_missing(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, double):
        for node in double.nodes:
            double.facts[node.id] = {"state": "degraded"}
        with pytest.raises(ProgramUnsupported, match=r"fragment f\d: .* 3 degraded"):
            await driver.compile(asked())


async def test_what_each_node_received_is_shown_in_its_own_signed_words(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, _):
        handle = await driver.submit(await driver.compile(asked()), Task(token="t", shots=100, seed=3))
        await driver.poll(handle, 30)
        assert isinstance(driver, Witness)
        (shown,) = await driver.exhibits(handle)
        result = msgspec.json.decode(shown.data, type=RunResult)
        assert (result.seed, result.bits, result.shots) == (3, 4, 100)
        for fragment in result.run.fragments:
            last = fragment.attempts[-1]
            for answer in last.answers:
                verify(answer)
            said = msgspec.json.decode(last.answers[-1].body, type=Executed)
            assert (said.node_id, said.shots) == (fragment.node_id, 100)


async def test_a_job_without_a_seed_has_one_by_its_token(tmp_path: Path) -> None:
    async with network(tmp_path) as (driver, _):
        compiled, found = await driver.compile(asked()), []
        for token in ("a", "b"):
            handle = await driver.submit(compiled, Task(token=token, shots=100))
            await driver.poll(handle, 30)
            found.append((await driver.result(handle)).seed)
        assert found[0] != found[1]
