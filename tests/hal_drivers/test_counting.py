# SPDX-License-Identifier: Apache-2.0
"""What the pre-scan counts is what Qiskit holds after reading, or more; reasonable work is never refused (N13)."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit.random import random_circuit

from hal_drivers.base import Format
from hal_drivers.circuit import _read, expanded_gates
from hal_drivers.constant import TooManyBits, fold
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex
from hal_drivers.limits import Limits, Scan
from hal_drivers.prescan import prescan

LIMITS = Limits()
QASM3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[4] q;\nbit[4] c;\n'


def scanned(body: str, limits: Limits = LIMITS) -> Scan:
    return prescan("QASM3", (QASM3 + body).encode(), limits)


@given(st.integers(1, 6), st.integers(1, 10), st.integers(0, 10**6), st.sampled_from(["QASM2", "QASM3"]))
@settings(max_examples=30, deadline=None)
def test_a_straight_circuit_is_counted_as_qiskit_counts_it(qubits: int, depth: int, seed: int, form: Format) -> None:
    circuit = random_circuit(qubits, depth, max_operands=4, measure=True, seed=seed)
    source = (qasm2.dumps(circuit) if form == "QASM2" else qasm3.dumps(circuit)).encode()
    scan = prescan(form, source, LIMITS)
    assert scan.operations == expanded_gates(_read(form, source), LIMITS)
    assert scan.qubits_declared == circuit.num_qubits
    assert scan.clbits_declared == circuit.num_clbits


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Statements that Qiskit's importer takes, in the spellings that OpenQASM 3 allows."""
    words = []
    for kind in draw(st.lists(st.sampled_from(KINDS if depth < 3 else KINDS[:8]), min_size=1, max_size=4)):
        if "{}" not in kind:
            words.append(kind)
            continue
        body = draw(blocks(depth=depth + 1))
        bare = len(body) == 1 and not body[0].startswith("barrier") and draw(st.booleans()) and kind != "box {}"
        words.append(kind.replace("{}", body[0] if bare and kind.endswith("{}") else "{\n" + "\n".join(body) + "\n}"))
    return words


KINDS = [
    "x q[0];",
    "h q;",
    "cx q[{0, 1}], q[{2, 3}];",
    "c[0] = measure q[0];",
    "rz(0.1 * (2 + 3)) q[1:3];",
    "pair q[0], q[1];",
    "inv @ many q[2];",
    "reset q[1]; /* for uint i in [0:999999] { */",
    "for uint i in [0:4] {}",
    "for int[32] i in [8:-3:0] {}",
    "for uint i in {1, 2, 5} {}",
    "for uint i in [5:0] {}",
    "if (c[0]) {}",
    "if (c == 3) {\nx q[0];\n} else {}",
    "while (c[1]) {}",
    "box {}",
]
GATES = "gate pair a, b { h a; cx a, b; }\ngate many a { x a; y a; z a; inv @ s a; }\n"


@given(blocks())
@example(["for uint i in [0:4] for uint i in {1, 2, 5} if (c[0]) x q[0];"])
@example(["for uint i in [0:4] if (c == 3) {\nx q[0];\n} else {\nx q[0];\n}"])
@example(["for uint i in [0:4] if (c[0]) for uint j in [0:6] if (c == 3) {\nx q[0];\n} else x q[0]; else h q;"])
@example(["for uint i in [0:4] if (c[0]) x q[0]; else if (c[1]) y q[0]; else { for uint j in [0:4] x q[0]; }"])
@settings(max_examples=60, deadline=None)
def test_control_flow_is_counted_at_least_as_qiskit_counts_it(body: list[str]) -> None:
    source = QASM3 + GATES + "\n".join(body) + "\nc = measure q;\n"
    scan = prescan("QASM3", source.encode(), LIMITS)
    counted = expanded_gates(_read("QASM3", source.encode()), LIMITS)
    assert counted <= scan.operations <= 3 * counted + 4, source


@given(st.integers(1, 3), st.lists(st.integers(2, 5), min_size=1, max_size=3), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_what_qiskit_writes_of_loops_and_branches_passes(width: int, turns: list[int], seed: int) -> None:
    circuit = QuantumCircuit(width, width)
    for number in turns:
        with circuit.for_loop(range(number)):
            circuit.compose(random_circuit(width, 2, seed=seed), inplace=True)
            with circuit.if_test((circuit.clbits[0], True)) as otherwise:
                circuit.x(0)
            with otherwise:
                circuit.y(0)
    circuit.measure(range(width), range(width))
    source = qasm3.dumps(circuit).encode()
    assert prescan("QASM3", source, LIMITS).operations >= expanded_gates(_read("QASM3", source), LIMITS)


@pytest.mark.parametrize(
    ("body", "operations", "iterations", "unbounded"),
    [
        ("for uint i in [0:9] { x q; }", 40, 10, 0),
        ("for uint i in [0:9] if (c[0]) x q; else { for uint j in [0:i] x q[0]; }", 140, 110, 0),
        ("for uint i in [0:9] { for uint j in [0:i] { x q[0]; } }", 100, 100, 0),
        ("const uint n = 2 ** 3;\nfor uint i in [1:n] { x q[0]; }", 8, 8, 0),
        ("const int n = 2;\nfor uint i in [0:3] { const int n = 50; }\nfor uint j in [1:n] x q[0];", 6, 6, 0),
        ("int n = 2;\nfor uint i in [1:n] { x q[0]; }", 2, 1, 1),
        ("while (c[0]) { x q[0]; x q[1]; }", 2, 0, 1),
        ("array[int[8], 3, 2] a = {{1, 2}, {3, 4}, {5, 6}};\nfor int i in a { x q[0]; }", 7, 6, 0),
        ("for bit b in c { x q[0]; }", 4, 4, 0),
        ("switch (c) { case 1, 2 { x q[0]; } default { y q[0]; y q[1]; } }", 3, 0, 0),
        ("let both = q[0:1] ++ q;\nh both;", 8, 0, 0),
        ("def f(qubit[3] a, int n) -> bit { h a; return measure a[0]; }\nc[0] = f(q[0:2]);", 5, 0, 0),
        ("pow(3) @ ctrl @ cx q[0], q[1], q[2];\npow(0.5) @ x q[0];\npow(-2) @ x q[0];", 6, 0, 0),
        ("ctrl(12) @ x q[0];", 1, 0, 0),
        ("gate g(n) a { pow(n) @ x a; }\nconst int n = 9;\ng(1) q[0];", 1, 0, 0),
        ("h $0;\nh $0;\ncx $0, $1;", 3, 0, 0),
        ("cal { for {; } }\ndefcal rz(angle t) $0 { play(d, w); for }\nx q[0];", 1, 0, 0),
        ("@qcos.note it's { ;\nx q[0];\npragma what { ever\n#pragma old }\nx q[1];", 2, 0, 0),
        ("x q[0]", 1, 0, 0),
    ],
)
def test_each_construct_is_counted(body: str, operations: int, iterations: int, unbounded: int) -> None:
    scan = scanned(body)
    assert (scan.operations, scan.iterations, scan.unbounded) == (operations, iterations, unbounded)


@pytest.mark.parametrize(
    ("body", "line", "what"),
    [
        ("h q;\nfor uint i in [0:99999] {\n h q;\n}", 6, "a loop expands to more than 100000 operations"),
        ("\n\nint[4001] n = 1;", 7, "a type has more than 4000 bits"),
        ("pow(100001) @ x q[0];", 5, "the circuit expands to more than 100000 operations"),
        ("if (c[0]) ctrl(7) @ ctrl(6) @ x q[0];", 5, "a gate has more than 12 controls"),
        ("qubit[" + "9" * 3000 + "] r;", 5, "an integer has more bits than any program needs"),
        ("def f(qubit a) {\n f(a);\n}", 6, "a subroutine calls itself"),
        ("array[int, 1000, 1000] a;", 5, "an array has more than 100000 elements"),
        ("if (c[0]) " * 40 + "x q[0];", 5, "statements are nested deeper than 32"),
    ],
)
def test_a_refusal_says_what_where_and_the_limit(body: str, line: int, what: str) -> None:
    with pytest.raises(CircuitTooComplex, match=f"^{re.escape(what)} \\(line {line}\\)$") as caught:
        scanned(body)
    assert caught.value.line == line


def test_a_range_of_step_0_is_no_circuit() -> None:
    with pytest.raises(CircuitInvalid, match=r"step 0 \(line 5\)"):
        scanned("for int i in [0:0:9] { x q[0]; }")


def test_limits_are_what_is_judged_by() -> None:
    for body, limits in (
        ("for uint i in [0:9] { x q; }", Limits(gates=39)),
        ("for uint i in [0:9] { x q; }", Limits(loop=9)),
        ("if (c[0]) { if (c[1]) { x q[0]; } }", Limits(nesting=2)),
    ):
        scanned(body)
        with pytest.raises(CircuitTooComplex):
            scanned(body, limits)


def expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["+", "-", "*", "%", "&", "|", "^"])
    pairs = st.tuples(inner, signs, inner).map(lambda found: f"({' '.join(found)})")
    return pairs | inner.map(lambda text: f"-{text}") | st.tuples(inner, inner).map(lambda two: f"{two[0]}*{two[1]}")


@given(st.recursive(st.integers(0, 20).map(str), expressions, max_leaves=12))
@settings(max_examples=150, deadline=None)
def test_constants_are_folded_as_python_folds_them(text: str) -> None:
    expected: object
    try:
        expected = eval(text)
    except ZeroDivisionError:
        expected = None
    try:
        folded = fold(text, lambda _: None)
    except TooManyBits:
        assert isinstance(expected, int) and expected.bit_length() > 2_000
        return
    if expected is None or folded is None:
        assert folded is None or "%" in text
    else:
        assert folded == (expected, expected)


@given(st.text("0123456789+-*/%()&|^~<> .eEnxbo_", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_folds_to_a_finite_interval_or_nothing(text: str) -> None:
    try:
        folded = fold(text, lambda name: (1, 5) if name == "n" else None)
    except TooManyBits:
        return
    assert folded is None or all(math.isfinite(end) for end in folded)
