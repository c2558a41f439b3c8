# SPDX-License-Identifier: Apache-2.0
"""Three languages and the service aliases become one program, or an error that says what it can't be (N3)."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import qpy
from qiskit.circuit import ClassicalRegister, Gate, QuantumCircuit, QuantumRegister
from qiskit.circuit.classical import expr
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator

from hal_drivers.base import AliasModel, Exact, ExactRequest, Format
from hal_drivers.engine import COMPILE_BOUNDS
from hal_drivers.engines.network import analyse_circuit, run_circuit
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, DriverError, ProgramUnsupported
from hal_drivers.frames import Artefact, CompileCall, ExactCall, Refusal, RunCall
from hal_drivers.guarded import Bounds, ChildLost
from hal_drivers.limits import Limits
from hal_drivers.p2p import words
from hal_drivers.p2p.aliases import DECLARED
from hal_drivers.p2p.fragments import cut
from hal_drivers.p2p.ingest import read_program
from hal_drivers.p2p.ir import OPERATIONS, Program, canonical
from hal_drivers.p2p.lower import to_qiskit, whole
from hal_drivers.pool import Pool
from hal_drivers.prescan import prescan

ROOT = Path(__file__).parents[3]
CIRCUITS = ROOT / "tests" / "vectors" / "circuits"
WORDS = [
    "gate",
    "def",
    "opaque",
    "qubit",
    "inv",
    "@",
    "pow",
    "(",
    ")",
    "{",
    "}",
    ";",
    ",",
    "q",
    "[0]",
    "g",
    "\n",
    "é",
    "$0",
]
WORDS += ["OPENQASM 3;", "include", '"stdgates.inc"', "if", "else", "=", "=="]
WORDS += ["bell_pair", "cnot", "cz", "teleport", "distillation"]
LIMITS = Limits(qpy=True)
BOUNDS = Bounds(COMPILE_BOUNDS.memory_bytes, COMPILE_BOUNDS.cpu_s, wall_s=60)  # a busy machine is no bomb
STD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
pytestmark = pytest.mark.filterwarnings("ignore::qiskit.exceptions.ExperimentalWarning")  # of the native reader
END = "\nc[0] = measure q[0];\n"


def call(source: bytes, form: Format = "QASM3", model: AliasModel = "discard") -> CompileCall:
    values = {"theta": 0.5} if b"theta" in source else {}
    return CompileCall(form, source, values, LIMITS, 1 << 28, alias_model=model)


def read(source: str | bytes, form: Format = "QASM3") -> Program:
    data = source.encode() if isinstance(source, str) else source
    prescan(form, data, LIMITS)
    return read_program(call(data, form))[0]


def names(program: Program) -> list[tuple[str, tuple[int, ...]]]:
    return [(operation.name, operation.qubits) for operation in program.operations]


def in_qpy(circuit: QuantumCircuit) -> bytes:
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


def refused(source: str, form: Format = "QASM3") -> DriverError:
    with pytest.raises(DriverError) as caught:
        read(source, form)
    return caught.value


@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_words_of_a_source_end_in_names_or_a_code(words_of: list[str]) -> None:
    """N13: what looks for aliases reads strangers' text in the API."""
    text = " ".join(words_of)
    with suppress(CircuitInvalid):
        words.refuse_modified(text)
    assert set(words.undeclared(text)) <= set(words.aliases(text)) <= set(DECLARED)
    assert words.declared(text, words.undeclared(text)).count("\n") == text.count("\n")


def test_the_issues_circuit_has_each_service_once() -> None:
    source = (ROOT / "examples" / "network.qasm").read_text()
    assert source == (
        "OPENQASM 3; qubit[2] q; bit[1] c; bell_pair q[0], q[1]; cnot q[0], q[1]; cz q[0], q[1]; teleport q[0], q[1]; "
        "syndrome_extraction q[0]; distillation q[1]; measure q[0] -> c[0];\n"
    )
    program = read(source)
    assert names(program) == [
        ("bell_pair", (0, 1)),
        ("cnot", (0, 1)),
        ("cz", (0, 1)),
        ("teleportation", (0, 1)),
        ("syndrome_extraction", (0,)),
        ("distillation", (1,)),
        ("measurement_feedforward", (0,)),
    ]
    assert (program.qubits, program.bits, program.registers) == (2, 1, (("c", 1),))
    assert program.qubit_map == ("q[0]", "q[1]")
    assert run_circuit(RunCall(canonical(program), 50, 1, "network")).counts == {"0": 50}


def test_the_other_examples_are_cut_as_they_say() -> None:
    three = cut(read((ROOT / "examples" / "network12.qasm").read_bytes()))
    assert (three.mode, len(three.fragments)) == ("product", 3)
    assert all(not fragment.depends_on for fragment in three.fragments)
    program = read((ROOT / "examples" / "feedforward.qasm").read_bytes())
    assert [fragment.depends_on for fragment in cut(program).fragments] == [(), ("f1",)]
    assert program.registers == (("sent", 2), ("got", 2))
    assert set(run_circuit(RunCall(canonical(program), 200, 1, "network")).counts) == {"0000", "1111"}


def test_openqasm_2_and_qpy_say_the_same() -> None:
    two = read(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[1];\nopaque teleport a,b;\nbell_pair q[0],q[1];\n'
        "cnot q[0],q[1];\ncz q[0],q[1];\nteleport q[0],q[1];\nmeasure q[0] -> c[0];\n",
        "QASM2",
    )
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(1, "c"))
    circuit.append(Gate("bell_pair", 2, []), [0, 1])
    circuit.cx(0, 1)
    circuit.cz(0, 1)
    circuit.append(Gate("teleport", 2, []), [0, 1])
    circuit.measure(0, 0)
    data = in_qpy(circuit)
    assert prescan("QPY", data, LIMITS).services == ("bell_pair", "teleport")
    assert names(two) == names(read(data, "QPY"))
    assert [name for name, _ in names(two)][:4] == ["bell_pair", "cnot", "cz", "teleportation"]


@pytest.mark.parametrize(
    ("source", "services"),
    [
        ("// bell_pair q[0], q[1];\n/* teleport q[0], q[1]; */ x q[0];", ()),
        ("gate cnot a, b { cz a, b; }\ncnot q[0], q[1];", ()),
        ("cz q[0], q[1];", ()),
        ("bit[2] distillation;", ()),
        ("if (c[0] == true) { teleport q[0], q[1]; }", ("teleport",)),
        ("for uint i in [0:1] { distillation q[i]; }", ("distillation",)),
        ("gate pair a, b { bell_pair a, b; }\npair q[0], q[1];", ("bell_pair",)),
    ],
)
def test_the_pre_scan_tells_which_aliases_a_source_uses(source: str, services: tuple[str, ...]) -> None:
    text = f"{STD}qubit[2] q;\nbit[1] c;\n{source}{END}"
    assert prescan("QASM3", text.encode(), LIMITS).services == services


def test_no_good_circuit_of_other_backends_uses_an_alias() -> None:
    for path in sorted((CIRCUITS / "good").iterdir()):
        assert prescan(path.suffix[1:].upper(), path.read_bytes(), LIMITS).services == (), path.name  # type: ignore[arg-type]


def test_a_gate_of_the_sources_own_stays_its_own_whatever_it_is_called() -> None:
    own = read(f"{STD}gate cnot a, b {{ cz a, b; }}\nqubit[2] q;\nbit[1] c;\ncnot q[0], q[1];{END}")
    assert names(own)[0] == ("cz", (0, 1))
    odd = read(
        "OPENQASM 3.0;\ngate x a { U(0, 0, 0.5) a; }\ngate cz a, b { x b; }\n"
        f"qubit[2] q;\nbit[1] c;\ncz q[0], q[1];{END}"
    )
    assert [name for name, _ in names(odd)] == ["u", "measurement_feedforward"]
    two = read("OPENQASM 2.0;\ngate h a { U(0,0,0.5) a; }\nqreg q[1];\ncreg c[1];\nh q[0];\nmeasure q -> c;\n", "QASM2")
    assert two.operations[0].name == "u"


def test_a_gate_made_of_aliases_is_those_aliases() -> None:
    made = read(f"{STD}gate pair a, b {{ bell_pair a, b; swap a, b; }}\nqubit[2] q;\nbit[1] c;\npair q[1], q[0];{END}")
    assert names(made)[:4] == [("bell_pair", (1, 0)), ("cnot", (1, 0)), ("cnot", (0, 1)), ("cnot", (1, 0))]


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("inv @ teleport q[0], q[1];", 5),
        ("gate g a, b { h a; bell_pair a, b; }\ngate k a, b { g a, b; }\npow(2) @ k q[0], q[1];", 7),
        ("ctrl @ distillation q[0], q[1];", 5),
    ],
)
def test_a_modified_alias_is_refused_with_its_line(statement: str, line: int) -> None:
    error = refused(f"{STD}qubit[2] q;\nbit[1] c;\n{statement}{END}")
    assert isinstance(error, CircuitInvalid)
    assert error.line == line
    assert "modifier" in error.detail


def test_a_modified_alias_in_qpy_is_refused() -> None:
    for made in (Gate("teleport", 2, []).control(1, annotated=True), Gate("teleport", 2, []).inverse(annotated=True)):
        circuit = QuantumCircuit(3, 1)
        circuit.append(made, range(made.num_qubits))
        circuit.measure(0, 0)
        with pytest.raises(CircuitInvalid, match="modifier"):
            read(in_qpy(circuit), "QPY")


def test_an_alias_with_more_operands_than_it_takes_is_refused() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.append(Gate("syndrome_extraction", 2, []), [0, 1])
    circuit.measure(0, 0)
    with pytest.raises(CircuitInvalid, match="takes 1 qubits, 2 are given"):
        read(in_qpy(circuit), "QPY")
    error = refused(f"{STD}qubit[2] q;\nbit[1] c;\ndistillation q[0], q[1];{END}")
    assert error.code == "circuit_invalid"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("teleport q[0];", "teleport takes 2 qubits, 1 are given"),
        ("teleport q[0], q[1], q[2];", "teleport takes 2 qubits, 3 are given"),
        ("bell_pair\nq;", "bell_pair takes 2 qubits, 1 are given"),
        ("distillation q[0], q[1];", "distillation takes 1 qubit, 2 are given"),
        ("teleport q[0], q[ 0 ];", "teleport takes 2 different qubits"),
        ("teleport(0.3) q[0], q[1];", "teleport takes no angles"),
        ("if (c[0]) { h q[0]; teleport q[0]; }", "teleport takes 2 qubits"),
        ("gate own a { syndrome_extraction a, a; }", "syndrome_extraction takes 1 qubit, 2 are given"),
    ],
)
def test_an_alias_with_other_operands_than_it_takes_is_refused_with_its_line(statement: str, said: str) -> None:
    error = refused(f"{STD}qubit[3] q;\nbit[1] c;\n// bell_pair q[0];\n{statement}{END}")
    assert isinstance(error, CircuitInvalid)
    assert said in error.detail
    assert error.line == STD.count("\n") + 4


def test_a_gate_of_the_sources_own_takes_what_the_source_says() -> None:
    own = "gate distillation a, b { cx a, b; }\n"
    program = read(f"{STD}{own}qubit[2] q;\nbit[1] c;\ndistillation q[0], q[1];{END}")
    assert [operation.name for operation in program.operations][:1] == ["cnot"]


BRANCH = STD + "qubit[2] q;\nbit[2] c;\nc[0] = measure q[0];\nc[1] = measure q[1];\n"


@pytest.mark.parametrize(
    ("branch", "conditions"),
    [
        ("if (c[0]) x q[0];", [((0, 1),)]),
        ("if (!c[1]) x q[0];", [((1, 0),)]),
        ("if (c[0] == 1) { x q[0]; }", [((0, 1),)]),
        ("if (c[0] != 1) { x q[0]; }", [((0, 0),)]),
        ("if (c == 2) { x q[0]; y q[1]; }", [((0, 0), (1, 1)), ((0, 0), (1, 1))]),
        ("if (c[0:1] == 1) { x q[0]; }", [((0, 1), (1, 0))]),
        ("if (c == 7) { x q[0]; }", []),
        ("if (c[0] == true) { x q[0]; } else { y q[0]; }", [((0, 1),), ((0, 0),)]),
        ("if (c[0] == true) { if (c[1] == false) { x q[0]; } }", [((0, 1), (1, 0))]),
        ("if (c[0] == true) { if (c[0] == false) { x q[0]; } }", []),
    ],
)
def test_branches_become_conditions(branch: str, conditions: list[Any]) -> None:
    program = read(BRANCH + branch)
    assert [operation.condition for operation in program.operations[2:]] == conditions


def test_expressions_in_qpy_become_conditions_where_they_are_equalities() -> None:
    circuit = QuantumCircuit(1, 2)
    circuit.measure([0, 0], [0, 1])
    a, b = circuit.clbits
    with circuit.if_test(expr.logic_and(a, expr.logic_not(b))):
        circuit.x(0)
    with circuit.if_test(expr.equal(circuit.cregs[0], 2)):
        circuit.y(0)
    assert [one.condition for one in read(in_qpy(circuit), "QPY").operations[2:]] == [
        ((0, 1), (1, 0)),
        ((0, 0), (1, 1)),
    ]
    for odd in (expr.logic_or(a, b), expr.less(circuit.cregs[0], 2), expr.not_equal(circuit.cregs[0], 2)):
        other = QuantumCircuit(*circuit.qregs, *circuit.cregs)
        other.measure(0, 0)
        with other.if_test(odd):
            other.x(0)
        with pytest.raises(ProgramUnsupported, match="no equality"):
            read(in_qpy(other), "QPY")


@pytest.mark.parametrize(
    ("statement", "said", "line"),
    [
        ("for uint i in [0:1] { x q[i]; }", "a for loop", 7),
        ("while (c[0] == true) { x q[0]; c[0] = measure q[0]; }", "a while loop", 7),
        ("switch (c) { case 1 { x q[0]; } }", "a switch", 7),
        ("if (c == 1) { x q[0]; }\nelse { y q[0]; }", "the else of a condition on several bits", 8),
        ("if (c[0] == true) { c[0] = measure q[1]; x q[1]; }", "a branch that measures into a bit of its own", 7),
        ("x q[0];\nif (c[0] && c[1]) { x q[0]; }", "&& in a condition", 8),
        ("if (c > 1) { x q[0]; }", "> in a condition", 7),
        ("if ((c + 1) == 2) x q[0];", "+ in a condition", 7),
    ],
)
def test_what_a_network_cannot_run_is_named_with_its_line(statement: str, said: str, line: int) -> None:
    error = refused(BRANCH + statement)
    assert error.code == "program_unsupported"
    assert said in error.detail
    assert f"(line {line})" in error.detail


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("if (c != 0) { x q[0]; }", "a condition compares a bit with true or false, or a register with a number"),
        ("measure q[0];", "a measurement names no bit that it goes into"),
        ('include "qelib1.inc";', "an include is not allowed"),
    ],
)
def test_what_the_reader_refuses_is_said_with_its_line(statement: str, said: str) -> None:
    error = refused(BRANCH + statement)
    assert (error.code, error.detail) == (
        "circuit_invalid",
        f"the QASM3 source cannot be read at line 7: {said}",
    )


def test_an_include_in_other_quotes_and_arithmetic_beside_a_condition_are_read() -> None:
    source = "OPENQASM 3;\ninclude 'stdgates.inc';\nqubit q;\nbit[2] c;\nc[0] = measure q;\nif (c[0]) rx(pi / 2) q;"
    assert [operation.name for operation in read(source + "\nc[1] = measure q;").operations][1] == "rx"


def test_errors_of_the_reader_keep_their_lines_though_aliases_are_declared() -> None:
    error = refused("OPENQASM 3;\nqubit[2] q;\nbit[1] c;\nbell_pair q[0], q[1];\nfoo q[0];" + END)
    assert isinstance(error, CircuitInvalid)
    assert error.line == 5
    assert refused(f"{STD}qubit[2] q;\nbell_pair q[0], q[1];\n").detail == "no classical bits are measured"


def test_a_program_is_bounded() -> None:
    many = "x q[0];\n" * (OPERATIONS + 1)
    assert isinstance(refused(f"{STD}qubit[2] q;\nbit[1] c;\n{many}{END}"), CircuitTooComplex)
    grown = "ccx q[0], q[1], q[2];\n" * (OPERATIONS // 10)
    assert isinstance(refused(f"{STD}qubit[3] q;\nbit[1] c;\n{grown}{END}"), CircuitTooComplex)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_what_is_translated_is_the_same_unitary(qubits: int, depth: int, seed: int) -> None:
    circuit = random_circuit(qubits, depth, seed=seed)
    measured = QuantumCircuit(qubits, 1)
    measured.compose(circuit, range(qubits), inplace=True)
    measured.measure(0, 0)
    program = read(in_qpy(measured), "QPY")
    bare = to_qiskit(whole(Program("QPY", qubits, 1, program.operations[:-1], (), ())))
    bare.remove_final_measurements()
    kept = QuantumCircuit(qubits)
    kept.compose(bare, range(qubits), inplace=True)
    assert Operator(kept).equiv(Operator(circuit))


def test_the_state_before_measurement_is_qiskits_own() -> None:
    def analysed(source: bytes, model: AliasModel = "discard") -> Exact:
        fields = ("statevector", "measured_probabilities", "bloch_vectors")
        request = ExactRequest("QASM3", source, {}, "p2p", fields, alias_model=model)
        return analyse_circuit(ExactCall(request, LIMITS))

    moved = STD + "qubit[2] q;\nbit[2] c;\nry(0.8) q[0];\nx q[1];\nteleport q[0], q[1];\nc = measure q;\n"
    discarded, swapped = analysed(moved.encode()), analysed(moved.encode(), "swap")
    cos, sin = np.cos(0.4), np.sin(0.4)
    assert np.allclose(np.abs([complex(*pair) for pair in discarded.amplitudes]), [cos, 0, sin, 0])
    assert np.allclose([complex(*pair) for pair in swapped.amplitudes], [0, cos, 0, sin])
    assert discarded.outcomes == pytest.approx({"00": cos**2, "10": sin**2})
    torn = analysed(
        b"OPENQASM 3.0;\nqubit[3] q;\nbit[3] c;\nbell_pair q[0], q[1];\nteleport q[2], q[1];\nc = measure q;\n"
    )
    assert torn.label == "exact_ideal"
    assert torn.amplitudes == ()
    assert torn.bloch[0] == pytest.approx((0, 0, 0))
    example = analysed((ROOT / "examples" / "network.qasm").read_bytes())
    assert np.allclose([abs(complex(*pair)) for pair in example.amplitudes], [np.sqrt(0.5), 0, np.sqrt(0.5), 0])


@pytest.mark.timeout(240)
async def test_bombs_end_in_a_code_behind_the_walls_and_good_circuits_are_read() -> None:
    async with Pool(1, engine="network", require_walls=False) as pool:
        for path in sorted([*(CIRCUITS / "bombs").iterdir(), *(CIRCUITS / "good").iterdir()]):
            form: Format = path.suffix[1:].upper()  # type: ignore[assignment]
            ended = await _through(pool, path.read_bytes(), form)
            if path.name == "forty-qubits.qasm3":
                assert ended == "artefact"  # whether a node has so many is the planner's to say
                continue
            assert (
                ended in ("circuit_invalid", "circuit_too_complex")
                if path.parent.name == "bombs"
                else (ended in ("artefact", "program_unsupported"))
            ), path.name


async def _through(pool: Pool, source: bytes, form: Format) -> str:
    try:
        prescan(form, source, LIMITS)
        reply, _ = await pool.call(call(source, form), BOUNDS)
    except (CircuitInvalid, CircuitTooComplex) as error:
        return error.code
    except ChildLost:
        return "circuit_too_complex"
    if isinstance(reply, Refusal):
        return reply.code
    assert isinstance(reply, Artefact)
    return "artefact"
