# SPDX-License-Identifier: Apache-2.0
"""Hostile circuits end in a code, the walls hold, and the pool goes on (design path step 2; issue item 4;
N13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hal_drivers import sandbox
from hal_drivers.base import CompileRequest, Driver, Format
from hal_drivers.config import DriversConfig
from hal_drivers.engine import COMPILE_BOUNDS
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, WallsMissing
from hal_drivers.frames import Artefact, CompileCall, Ready
from hal_drivers.guarded import Bounds, ChildLost
from hal_drivers.pool import Pool
from hal_drivers.prescan import Limits
from hal_drivers.table import open_drivers

CIRCUITS = Path(__file__).parent.parent / "vectors" / "circuits"
BELL = (CIRCUITS / "good" / "bell.qasm3").read_bytes()
WAIVED = Limits(qubits=10**9, clbits=10**9, nesting=10**6, gates=10**12, loop=10**12, controls=100, qpy=True)

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


def form_of(path: Path) -> Format:
    return path.suffix[1:].upper()  # type: ignore[return-value]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver() -> AsyncIterator[Driver]:
    async with open_drivers(DriversConfig(limits=Limits(qpy=True)))["aer-local"] as entered:
        yield entered


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[Pool]:
    async with Pool(1, require_walls=False) as entered:
        yield entered


def request(source: bytes, form: Format) -> CompileRequest:
    return CompileRequest(format=form, source=source, parameters=_values(source), backend="aer-local", shots=100)


def _values(source: bytes) -> dict[str, float]:
    return {"theta": 0.5} if b"theta" in source else {}


async def test_every_bomb_ends_in_a_code_and_the_pool_goes_on(driver: Driver) -> None:
    for path in sorted((CIRCUITS / "bombs").iterdir()):
        with pytest.raises((CircuitInvalid, CircuitTooComplex)):
            await driver.compile(request(path.read_bytes(), form_of(path)))
        assert (await driver.compile(request(BELL, "QASM3"))).facts.qubits == 2, path.name


async def test_every_invalid_circuit_is_called_invalid(driver: Driver) -> None:
    for path in sorted((CIRCUITS / "invalid").iterdir()):
        with pytest.raises(CircuitInvalid) as caught:
            await driver.compile(request(path.read_bytes(), form_of(path)))
        assert "passwd" not in caught.value.detail
        assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("statement", "phrase"),
    [
        ("if (c[0]==1) x q[0];", "a condition compares a bit with true or false"),
        ("foo q[0];", "a name is not defined"),
        ("x q[0]", "it is malformed"),
    ],
)
async def test_what_cannot_be_read_says_where_and_why(driver: Driver, statement: str, phrase: str) -> None:
    source = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[1] q;\nbit[1] c;\nx q[0];\n' + statement
    with pytest.raises(CircuitInvalid) as caught:
        await driver.compile(request(source.encode(), "QASM3"))
    assert caught.value.line == 6
    assert f"at line 6: {phrase}" in caught.value.detail


async def test_hard_but_harmless_circuits_are_served(driver: Driver) -> None:
    for path in sorted((CIRCUITS / "hard").iterdir()):
        assert (await driver.compile(request(path.read_bytes(), form_of(path)))).facts.qubits == 1


async def test_with_every_count_waived_the_process_limits_hold(pool: Pool) -> None:
    """The pre-scan is no wall: whatever slips through it meets memory and CPU limits on the child."""
    names = (
        "ten-million-qubits.qasm2",
        "underscored-qubits.qasm3",
        "nested-gates.qasm2",
        "deep-blocks.qasm3",
    )
    for name in names:
        path = CIRCUITS / "bombs" / name
        call = compile_call(path.read_bytes(), form_of(path), WAIVED)
        try:
            reply, spent = await pool.call(call, COMPILE_BOUNDS)
        except ChildLost as lost:
            assert lost.reason in ("cpu", "wall", "crashed")
        else:
            assert not isinstance(reply, Artefact), name
            assert spent.peak_memory_bytes < 512 << 20, name
        reply, _ = await pool.call(compile_call(BELL, "QASM3", Limits()), COMPILE_BOUNDS)
        assert isinstance(reply, Artefact), f"no service after {name}"


def compile_call(source: bytes, form: Format, limits: Limits) -> CompileCall:
    return CompileCall(format=form, source=source, parameters={}, limits=limits, memory_bytes=1 << 30)


async def test_a_child_over_its_cpu_bound_is_killed(pool: Pool) -> None:
    slow = compile_call((CIRCUITS / "bombs" / "nested-gates.qasm2").read_bytes(), "QASM2", WAIVED)
    with pytest.raises(ChildLost, match="cpu"):
        await pool.call(slow, Bounds(memory_bytes=1 << 30, cpu_s=0.2, wall_s=60))


async def test_the_walls_that_are_reported_are_the_walls_that_hold(pool: Pool) -> None:
    """S6: with a network wall up, the child has no way out; what it could not be denied is named."""
    walls = pool.walls()
    assert walls["rlimits"] == "holds"
    if any(walls[name] == "holds" for name in sandbox.NETWORK_WALLS):
        assert "no network" not in walls
    if walls["landlock"] == "holds":
        assert "no read" not in walls
        assert "no write" not in walls


async def test_a_profile_that_needs_walls_refuses_to_start_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = Ready(
        walls={"namespace": False, "landlock": False, "seccomp": False, "rlimits": True},
        leaks=[],
        versions={},
    )
    spawn = Pool._spawn

    async def spawn_without_walls(pool: Pool) -> None:
        await spawn(pool)
        pool._ready = bare

    monkeypatch.setattr(Pool, "_spawn", spawn_without_walls)
    with pytest.raises(WallsMissing, match="network wall"):
        async with Pool(1, require_walls=True):
            pass


async def test_a_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """S6, I10: the environment is built from nothing, never copied."""
    monkeypatch.setenv("QCOS_TOKEN", "secret-token")
    monkeypatch.setenv("QCOS_DATABASE_URL", "secret-url")
    async with Pool(1, require_walls=False) as pool:
        zygote = pool._zygote._process
        assert zygote is not None
        assert b"secret" not in Path(f"/proc/{zygote.pid}/environ").read_bytes()


async def test_a_dead_zygote_is_replaced() -> None:
    async with Pool(1, require_walls=False) as pool:
        zygote = pool._zygote._process
        assert zygote is not None
        zygote.kill()
        zygote.wait()
        for _ in range(10):
            try:
                reply, _ = await pool.call(compile_call(BELL, "QASM3", Limits()), COMPILE_BOUNDS)
            except ChildLost:
                continue
            assert isinstance(reply, Artefact)
            return
    raise AssertionError("the pool did not recover")
