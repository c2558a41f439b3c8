# SPDX-License-Identifier: Apache-2.0
"""N4, N6: what a plan gives over several nodes is what one simulator gives under the same noise.

By a permutation test on the joint counts of all bits (it holds its level for any number of outcomes), with the G
statistic, 999 permutations, at level 0.001 a program. Seeds are fixed: these are five numbers and no chance. The
same test tells apart what is nearly right: joined without the shots' order, or with a node that is a little worse.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from control_plane.compare.statistics import permutation_test
from hal_drivers.engines.node import run_fragment
from hal_drivers.frames import CompileCall, FragmentCall
from hal_drivers.limits import Limits as SourceLimits
from hal_drivers.p2p import rows
from hal_drivers.p2p.ingest import read_program
from hal_drivers.p2p.ir import SERVICES, Program
from hal_drivers.p2p.lower import whole
from hal_drivers.p2p.plan import PlanConfig
from tests.hal_drivers.p2p.nodes import Direct, config
from tests.hal_drivers.p2p.runs import FED, PAIRS, Ran, over

LEVEL = 0.001
SHOTS = 3_000
FIDELITY = 0.95
EXAMPLES = Path(__file__).parents[3] / "examples"


def _example(name: str) -> Program:
    source = (EXAMPLES / name).read_bytes()
    return read_program(CompileCall("QASM3", source, {}, SourceLimits(), 1 << 30))[0]


PROGRAMS: dict[str, Callable[[], Program]] = {
    "pairs": lambda: PAIRS,
    "fed": lambda: FED,
    "network.qasm": lambda: _example("network.qasm"),
    "network12.qasm": lambda: _example("network12.qasm"),
    "feedforward.qasm": lambda: _example("feedforward.qasm"),
}


def _shots(program: Program) -> int:
    """Twelve qubits shot by shot on one simulator take 4 ms each."""
    return SHOTS if program.qubits < 12 else 600


def _over_nodes(home: Path, program: Program, fidelity: float = FIDELITY) -> tuple[Ran, bytes]:
    ran = Ran(program, shots=_shots(program))
    ran.config = PlanConfig(default_min_fidelity_ppm=500_000)

    async def story(link: Direct) -> None:
        await ran.go(link)
        assert ran.progress is not None
        assert ran.progress.view().state == "finished", ran.progress.view().detail

    over(home, [config(fidelity)] * 3, story)
    size = rows.width(program.bits)
    return ran, b"".join(row.to_bytes(size, "little") for row in ran.rows())


def _on_one(program: Program, fidelity: float = FIDELITY) -> bytes:
    return run_fragment(FragmentCall(whole(program), dict.fromkeys(SERVICES, fidelity), _shots(program), 77)).rows


def _p(program: Program, one: bytes, other: bytes) -> float:
    counted = [rows.counts(data, program.bits, _shots(program)) for data in (one, other)]
    return permutation_test(counted[0], counted[1], random.Random(1))


@pytest.mark.parametrize("name", PROGRAMS)
def test_several_nodes_give_what_one_simulator_gives(tmp_path: Path, name: str) -> None:
    program = PROGRAMS[name]()
    ran, data = _over_nodes(tmp_path, program)
    nodes = {one.node_id for one in ran.fragments.values()}
    assert len(nodes) == (1 if name == "network.qasm" else min(3, len(ran.fragments)))
    assert _p(program, data, _on_one(program)) > LEVEL


def test_the_test_finds_rows_that_were_joined_without_their_order(tmp_path: Path) -> None:
    """Each fragment's own counts are right then, and only what ties them together is wrong."""
    _, data = _over_nodes(tmp_path, FED)
    matrix = np.frombuffer(data, np.uint8).copy()
    fed = matrix & 4
    shuffled = (matrix & 3) | np.roll(fed, 1)
    assert _p(FED, shuffled.tobytes(), _on_one(FED)) == LEVEL


def test_the_test_finds_a_node_that_is_worse_than_it_says(tmp_path: Path) -> None:
    _, data = _over_nodes(tmp_path, PAIRS, 0.90)
    assert _p(PAIRS, data, _on_one(PAIRS)) == LEVEL
