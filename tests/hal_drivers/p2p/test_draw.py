# SPDX-License-Identifier: Apache-2.0
"""A plan's picture is sound XML, says all in words too, and is the same for the same plan (N4)."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from msgspec.structs import replace

from hal_drivers.p2p.draw import MOST, description, short, svg
from hal_drivers.p2p.ir import Program
from hal_drivers.p2p.plan import Plan, PlanConfig
from hal_drivers.p2p.planner import plan
from tests.hal_drivers.p2p.programs import measure, network, node, program, programs, when

SVG = "{http://www.w3.org/2000/svg}"


def drawn(of: Program, *nodes: Any) -> tuple[Plan, str, ET.Element]:
    made = plan(of, network(*nodes), PlanConfig(), 1, None)
    assert isinstance(made, Plan)
    text = svg(made, of)
    return made, text, ET.fromstring(text)


def words(root: ET.Element) -> str:
    return "\n".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))


@settings(max_examples=30)
@given(programs())
def test_any_plan_is_drawn_the_same_twice_and_names_who_runs_what(of: Program) -> None:
    made, text, root = drawn(of)
    assert svg(made, of) == text
    said = words(root)
    for assignment in made.assignments:
        assert assignment.fragment_id in said
        assert short(assignment.primary) in said
        assert assignment.fragment_id in description(made)


def test_bits_that_are_handed_on_stand_at_their_arrow() -> None:
    of = program(("h", (0,)), measure(0, 0), when("x", (1,), (0, 1)), measure(1, 1), bits=2)
    _, _, root = drawn(of)
    assert "c[0]" in words(root)
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "bits"]) == 1
    assert "f2 (1 qubit) runs after f1 on n1" in "".join(root.find(f"{SVG}desc").itertext())  # type: ignore[union-attr]


def test_a_title_a_description_and_both_schemes_are_there() -> None:
    _, text, root = drawn(program(("syndrome_extraction", (0,)), measure(0, 0)))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "plan-title plan-what"
    assert "prefers-color-scheme: dark" in text
    assert "var(" not in text  # converters paint black what they can't resolve
    assert "syndrome_extraction is abstract" in words(root)


def test_names_of_strangers_are_text_and_never_marks() -> None:
    evil = '"><script>alert(1)</script>'
    of = replace(program(("bell_pair", (0, 1)), measure(0, 0)), qubit_map=(evil, "q"), registers=((evil, 1),))
    _, text, root = drawn(of, node(evil), node("b"))
    assert "<script" not in text
    assert not list(root.iter(f"{SVG}script"))


def test_a_very_large_plan_is_drawn_in_part_and_says_so() -> None:
    of = program(*(measure(qubit, qubit) for qubit in range(MOST + 5)), qubits=MOST + 5, bits=MOST + 5)
    _, text, root = drawn(of)
    assert "5 more fragments are not drawn" in words(root)
    assert len(text) < 200_000
    tall = program(*(("cnot", (q, q + 1)) for q in range(99)), measure(0, 0), qubits=100)
    assert "⋮" in words(drawn(tall, node("a", qubits=100))[2])
