# SPDX-License-Identifier: Apache-2.0
"""The pre-scan refuses what is plainly too large, lets good circuits pass, and never raises anything else
(N13)."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Qubit

from hal_drivers.base import Format
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex
from hal_drivers.prescan import Limits, prescan

CIRCUITS = Path(__file__).parent.parent / "vectors" / "circuits"
LIMITS = Limits(qpy=True)
QASM3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


def form_of(path: Path) -> Format:
    return path.suffix[1:].upper()  # type: ignore[return-value]


@pytest.mark.parametrize("path", sorted((CIRCUITS / "good").iterdir()), ids=lambda path: path.name)
def test_good_circuits_pass(path: Path) -> None:
    prescan(form_of(path), path.read_bytes(), LIMITS)


def test_declared_sizes_are_summed() -> None:
    source = QASM3 + "qubit[3] a;\nqubit b;\n// qubit[900] no;\n/* qubit[900] no; */ bit[0x10] c;\n"
    scan = prescan("QASM3", source.encode(), LIMITS)
    assert (scan.qubits_declared, scan.clbits_declared) == (4, 16)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("qubit[1_001] q;", 3),
        ("qubit[600] a;\nqubit[600] b;", 4),
        ("for uint i in [0:100000] { x q; }", 3),
        ("for int i in [100000:-1:-1] { x q; }", 3),
        ("ctrl(13) @ x q;", 3),
        ("negctrl ( 30 ) @ x q;", 3),
        ("x" + "(" * 33 + ")" * 33 + ";", 3),
    ],
)
def test_too_large_is_refused_with_its_line(statement: str, line: int) -> None:
    with pytest.raises(CircuitTooComplex) as caught:
        prescan("QASM3", (QASM3 + statement).encode(), LIMITS)
    assert caught.value.line == line


def test_at_the_limit_passes() -> None:
    for statement in ("qubit[1000] q;", "for uint i in [1:100000] { x q; }", "ctrl(12) @ x q;"):
        prescan("QASM3", (QASM3 + statement).encode(), LIMITS)


@pytest.mark.parametrize(
    "include",
    [
        'include "/etc/passwd";',
        "include '../x.inc';",
        'include/**/"other.inc";',
        "include stdgates.inc;",
        "include",
    ],
)
def test_foreign_includes_are_refused(include: str) -> None:
    with pytest.raises(CircuitInvalid):
        prescan("QASM3", f"OPENQASM 3.0;\n{include}\n".encode(), LIMITS)


@pytest.mark.parametrize(
    ("form", "version"), [("QASM3", "4"), ("QASM3", "2.0"), ("QASM2", "3"), ("QASM2", "20"), ("QASM3", "30.1")]
)
def test_another_version_than_the_format_is_refused_with_its_line(form: Format, version: str) -> None:
    with pytest.raises(CircuitInvalid, match=r"the source says OPENQASM \d+, its format is QASM\d \(line 2\)"):
        prescan(form, f"// OPENQASM 1;\nOPENQASM {version};\n".encode(), LIMITS)


def test_qpy_is_refused_where_it_is_not_switched_on() -> None:
    with pytest.raises(CircuitInvalid, match="not switched on"):
        prescan("QPY", (CIRCUITS / "good" / "bell.qpy").read_bytes(), Limits())


@pytest.mark.parametrize("version", range(13))
def test_qpy_formats_that_could_run_code_are_refused(version: int) -> None:
    data = bytearray((CIRCUITS / "good" / "bell-v13.qpy").read_bytes())
    data[6] = version
    with pytest.raises(CircuitInvalid):
        prescan("QPY", bytes(data), LIMITS)


@pytest.mark.parametrize("version", range(13, qpy.QPY_VERSION + 1))
@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0)])
def test_qpy_of_each_version_is_measured_however_its_registers_list_bits(version: int, places: tuple[int, ...]) -> None:
    circuit = QuantumCircuit([Qubit() for _ in range(3)])
    circuit.add_register(QuantumRegister(bits=[circuit.qubits[at] for at in places], name="of_its_own"))
    circuit.measure_all()
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer, version=version)
    scan = prescan("QPY", buffer.getvalue(), LIMITS)
    assert (scan.qubits_declared, scan.clbits_declared) == (3, 3)


@given(st.binary(max_size=400), st.sampled_from(["QASM2", "QASM3", "QPY"]))
def test_any_bytes_end_in_a_scan_or_a_code(source: bytes, form: Format) -> None:
    with suppress(CircuitInvalid, CircuitTooComplex):
        prescan(form, source, LIMITS)


WORDS = [
    "qubit",
    "qreg q",
    "bit",
    "gate",
    "for",
    "in",
    "include",
    '"',
    "'",
    "//",
    "/*",
    "*/",
    "[",
    "]",
    "{",
    "}",
    "(",
]
WORDS += [")", "ctrl", "@", "9" * 90, "0x", "_", "10:-1:0", "\n", " ", ";", "g", "stdgates.inc", "\xe9"]


@given(st.lists(st.sampled_from(WORDS), max_size=80))
def test_any_words_of_the_language_end_in_a_scan_or_a_code(words: list[str]) -> None:
    with suppress(CircuitInvalid, CircuitTooComplex):
        prescan("QASM3", " ".join(words).encode(), LIMITS)


@given(st.integers(0, 335), st.integers(0, 255))
def test_any_changed_byte_of_qpy_ends_in_a_scan_or_a_code(at: int, value: int) -> None:
    data = bytearray((CIRCUITS / "good" / "bell.qpy").read_bytes())
    data[at] = value
    with suppress(CircuitInvalid, CircuitTooComplex):
        prescan("QPY", bytes(data), LIMITS)


@given(st.integers(1, 40), st.integers(2, 4))
def test_gate_definitions_are_measured_without_expanding_them(depth: int, width: int) -> None:
    body = "".join(f"gate g{i + 1} a {{ {f'g{i} a; ' * width}}}\n" for i in range(depth))
    source = QASM3 + "gate g0 a { h a; }\n" + body
    if width**depth > LIMITS.gates:
        with pytest.raises(CircuitTooComplex):
            prescan("QASM3", source.encode(), LIMITS)
    else:
        prescan("QASM3", source.encode(), LIMITS)
