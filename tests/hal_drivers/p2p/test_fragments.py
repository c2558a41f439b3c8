# SPDX-License-Identifier: Apache-2.0
"""Fragments share no qubit, wait for what they read, and joined give what the whole program gives (N4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.p2p.fragments import cut, depth, parts, predecessors
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.lower import whole
from hal_drivers.p2p.rows import counts, join, pick, width
from tests.hal_drivers.p2p.programs import measure, program, programs, run, when


def shot_by_shot(made: Program) -> list[int]:
    """One shot through the fragments, bits handed on as rows are."""
    found = cut(made)
    pieces = parts(made, found.fragments)
    recorded: list[tuple[tuple[int, ...], bytes, tuple[int, ...]]] = []
    for name in found.order:
        piece = pieces[name]
        before = join(made.bits, 1, recorded)
        given = pick(before, made.bits, 1, tuple(piece.bits[bit] for bit in piece.given))
        start = [0] * len(piece.bits)
        for place, bit in enumerate(piece.given):
            start[bit] = int.from_bytes(given, "little") >> place & 1
        ended = run(piece.circuit, start)
        row = sum(value << bit for bit, value in enumerate(ended)).to_bytes(width(len(ended)), "little")
        recorded.append((piece.bits, row, piece.written))
    joined = int.from_bytes(join(made.bits, 1, recorded), "little")
    return [joined >> bit & 1 for bit in range(made.bits)]


@given(programs())
def test_fragments_joined_shot_by_shot_are_the_whole_program(made: Program) -> None:
    assert shot_by_shot(made) == run(whole(made), [0] * made.bits)


@given(programs(), st.sampled_from(["auto", "whole"]))
def test_every_operation_and_qubit_is_in_one_fragment(made: Program, mode: str) -> None:
    found = cut(made, mode)  # type: ignore[arg-type]
    operations = [number for fragment in found.fragments for number in fragment.operations]
    assert sorted(operations) == list(range(len(made.operations)))
    qubits = [qubit for fragment in found.fragments for qubit in fragment.qubits]
    assert len(qubits) == len(set(qubits))
    for fragment in found.fragments:
        used = {q for number in fragment.operations for q in made.operations[number].qubits}
        assert used == set(fragment.qubits)
    assert found.mode == ("product" if len(found.fragments) > 1 else "whole")
    assert mode == "auto" or len(found.fragments) <= 1
    assert found.mode == "product" or found.reason


@given(programs())
def test_each_fragment_stands_behind_what_it_depends_on_and_reads(made: Program) -> None:
    found = cut(made)
    assert sorted(found.order) == sorted(fragment.fragment_id for fragment in found.fragments)
    written = {bit: fragment.fragment_id for fragment in found.fragments for bit in fragment.bits_written}
    for fragment in found.fragments:
        at = found.order.index(fragment.fragment_id)
        assert all(found.order.index(other) < at for other in fragment.depends_on)
        assert {written[bit] for bit in fragment.bits_read} == set(fragment.depends_on)
        assert not set(fragment.bits_read) & set(fragment.bits_written)


@given(programs())
def test_the_graph_orders_what_shares_a_qubit_or_a_bit(made: Program) -> None:
    graph = predecessors(made)
    behind: list[set[int]] = []
    for place, before in enumerate(graph):
        assert all(other < place for other in before)
        behind.append(set(before).union(*(behind[other] for other in before)))
    for place, operation in enumerate(made.operations):
        for earlier in made.operations[:place]:
            reads = {bit for bit, _ in operation.condition}, {bit for bit, _ in earlier.condition}
            shared = set(operation.qubits) & set(earlier.qubits) or (
                set(earlier.bits) & (reads[0] | set(operation.bits)) or reads[1] & set(operation.bits)
            )
            assert not shared or earlier.id in behind[place]
    assert depth(made) <= len(made.operations)


def test_groups_that_share_no_qubit_stand_apart() -> None:
    made = program(("bell_pair", (0, 1)), ("h", (2,)), measure(0, 0), measure(2, 1), qubits=4, bits=2)
    found = cut(made)
    assert found.mode == "product"
    assert [fragment.qubits for fragment in found.fragments] == [(0, 1), (2,)]
    assert [fragment.service_type for fragment in found.fragments] == ["whole", "measurement_feedforward"]
    assert [fragment.depends_on for fragment in found.fragments] == [(), ()]


def test_a_group_that_reads_anothers_bits_runs_after_it_though_it_began_first() -> None:
    found = cut(program(("h", (0,)), ("h", (1,)), measure(1, 0), when("x", (0,), (0, 1)), measure(0, 1), bits=2))
    assert found.order == ("f2", "f1")
    assert found.fragments[0].bits_read == (0,)
    assert found.fragments[0].depends_on == ("f2",)


def test_groups_that_read_each_others_bits_run_whole() -> None:
    made = program(measure(0, 0), measure(1, 1), when("x", (0,), (1, 1)), when("x", (1,), (0, 1)), bits=2)
    found = cut(made)
    assert found.mode == "whole"
    assert "read each other's bits" in found.reason


def test_a_circle_through_a_third_group_is_one_fragment_too() -> None:
    made = program(
        *(measure(qubit, qubit) for qubit in range(4)),
        when("x", (1,), (0, 1)),
        when("x", (2,), (1, 1)),
        when("x", (0,), (2, 1)),
        qubits=4,
        bits=4,
    )
    assert [fragment.qubits for fragment in cut(made).fragments] == [(0, 1, 2), (3,)]


@pytest.mark.parametrize(
    "later",
    [
        [measure(0, 0), measure(1, 0)],
        [measure(0, 0), when("x", (1,), (0, 1)), ("x", (0,)), measure(0, 0)],
    ],
)
def test_bits_that_are_not_final_are_not_handed_on(later: list[tuple[object, ...]]) -> None:
    found = cut(program(("h", (0,)), ("h", (1,)), *later, bits=1))
    assert found.mode == "whole"
    assert "writes a bit" in found.reason


def test_a_bit_that_nothing_has_written_is_zero_and_needs_nobody() -> None:
    made = program(when("x", (0,), (0, 0)), when("x", (0,), (0, 1)), measure(0, 1), measure(1, 0), bits=2)
    found = cut(made)
    assert [fragment.depends_on for fragment in found.fragments] == [(), ()]
    assert [operation.name for operation in parts(made, found.fragments)["f1"].circuit.operations] == [
        "x",
        "measurement_feedforward",
    ]
    assert shot_by_shot(made) == [0, 1]


def test_one_qubit_gates_alone_need_no_service() -> None:
    fragments = cut(program(("h", (0,)), measure(1, 0))).fragments
    assert [fragment.service_type for fragment in fragments] == ["none", "measurement_feedforward"]


def test_a_long_chain_is_cut_without_recursion() -> None:
    links = [measure(0, 0)]
    for number in range(1, 900):
        links += [when("x", (number,), (number - 1, 1)), measure(number, number)]
    found = cut(program(*links, qubits=900, bits=900))
    assert found.order == tuple(f"f{number}" for number in range(1, 901))
    back = program(*links, when("x", (0,), (899, 1)), qubits=900, bits=900)
    assert len(cut(back).fragments) == 1


@given(st.integers(1, 20), st.lists(st.integers(0, 2**20 - 1), min_size=1, max_size=30))
def test_rows_are_counted_as_qiskit_spells_them(bits: int, values: list[int]) -> None:
    values = [value % (1 << bits) for value in values]
    rows = b"".join(value.to_bytes(width(bits), "little") for value in values)
    expected: dict[str, int] = {}
    for value in sorted(values):
        spelt = f"{value:0{bits}b}"
        expected[spelt] = expected.get(spelt, 0) + 1
    assert counts(rows, bits, len(values)) == expected


def test_rows_of_another_size_or_with_bits_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="2 shots of 3 bits"):
        counts(b"\x00", 3, 2)
    with pytest.raises(ValueError, match="more than 3 bits"):
        counts(b"\x08", 3, 1)
    assert counts(b"", 0, 5) == {"": 5}
