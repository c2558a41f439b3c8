# SPDX-License-Identifier: Apache-2.0
"""N6: a node's circuits run in guarded children of its own, and a fragment runs on its shots' own bits."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.engines.node import run_fragment
from hal_drivers.errors import CircuitInvalid
from hal_drivers.frames import FragmentCall
from hal_drivers.p2p.given import patterns, put_back, seed_of, specialise
from hal_drivers.p2p.ir import SERVICES, Circuit, Operation
from hal_drivers.p2p.rows import width
from hal_drivers.p2p.wire import Given
from hal_drivers.p2p.workshop import RunLost, open_workshop
from tests.hal_drivers.p2p.nodes import BELL, MEASURE

IDEAL: dict[str, float] = dict.fromkeys(SERVICES, 1.0)
POOR: dict[str, float] = dict.fromkeys(SERVICES, 0.9)
FED = Circuit(1, 2, (Operation(0, "x", (0,), condition=((0, 1),)), Operation(1, MEASURE, (0,), (1,))))


def _rows(data: bytes, width: int = 1) -> list[int]:
    return [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]


def test_a_run_that_lasts_too_long_is_killed_and_the_next_one_runs() -> None:
    endless = Circuit(1, 1, tuple(Operation(n, MEASURE, (0,), (0,)) for n in range(5_000)))

    async def go() -> None:
        async with open_workshop(1) as workshop:
            with pytest.raises(RunLost) as lost:
                await workshop.run(FragmentCall(endless, POOR, 100_000, 1), 0.2)
            assert lost.value.code == "over_time"
            memory = await workshop.run(FragmentCall(BELL, IDEAL, 100, 1), 60)
            assert set(_rows(memory.rows)) == {0, 3}
            with pytest.raises(RunLost, match="out of range"):
                await workshop.run(FragmentCall(Circuit(1, 1, (Operation(0, "x", (9,)),)), IDEAL, 1, 1), 60)
            assert workshop.versions["qiskit-aer"]

    trio.run(go)


@given(st.binary(max_size=60))
def test_each_shot_runs_on_its_own_bits(data: bytes) -> None:
    bits = bytes(byte & 1 for byte in data) or b"\x01"
    memory = run_fragment(FragmentCall(FED, IDEAL, len(bits), 5, Given((0,), bits)))
    assert _rows(memory.rows) == [3 if bit else 0 for bit in bits]


def test_a_pattern_has_a_seed_of_its_own() -> None:
    assert len({seed_of(7, bytes([byte])) for byte in range(256)}) == 256


def test_the_same_seed_gives_the_same_rows() -> None:
    call = FragmentCall(BELL, POOR, 300, 11)
    assert run_fragment(call).rows == run_fragment(call).rows


def test_conditions_on_bits_that_are_both_given_and_its_own() -> None:
    circuit = Circuit(
        2,
        3,
        (
            Operation(0, "x", (0,)),
            Operation(1, MEASURE, (0,), (1,)),
            Operation(2, "x", (1,), condition=((0, 1), (1, 1))),
            Operation(3, MEASURE, (1,), (2,)),
        ),
    )
    memory = run_fragment(FragmentCall(circuit, IDEAL, 4, 1, Given((0,), b"\x00\x01\x01\x00")))
    assert _rows(memory.rows) == [2, 7, 7, 2]


@pytest.mark.parametrize("rows", [b"", b"\x01", b"\x02\x00"])
def test_rows_that_are_not_those_of_the_shots_are_refused(rows: bytes) -> None:
    with pytest.raises(CircuitInvalid, match="given"):
        run_fragment(FragmentCall(FED, IDEAL, 2, 1, Given((0,), rows)))


def test_a_given_bit_is_not_written() -> None:
    with pytest.raises(ValueError, match="given"):
        specialise(FED, {1: 0})


@given(st.lists(st.integers(0, 2**11 - 1), min_size=1, max_size=40))
def test_rows_come_back_in_their_places(values: list[int]) -> None:
    size = width(11)
    rows = b"".join(value.to_bytes(size, "little") for value in values)
    found = patterns(Given(tuple(range(11)), rows), len(values))
    assert put_back(len(values), size, [(shots, pattern * len(shots)) for pattern, shots in found.items()]) == rows


@pytest.mark.parametrize("fidelity", [1.0, 0.97, 0.8])
def test_the_noise_is_that_of_the_average_gate_fidelity(fidelity: float) -> None:
    """The channel of `bell_pair` alone: XX, YY and ZZ of a Bell pair all shrink by p = (1 - F) 4/3."""
    shots, strength = 20_000, (1 - fidelity) * 4 / 3
    memory = run_fragment(FragmentCall(BELL, IDEAL | {"bell_pair": fidelity}, shots, 3))
    odd = sum(number for row, number in Counter(_rows(memory.rows)).items() if row in (1, 2))
    # Five standard deviations of a seeded run: the seed is fixed, so that this is one number and not a chance.
    expected = shots * strength / 2
    assert abs(odd - expected) <= 5 * (expected + 1) ** 0.5
