# SPDX-License-Identifier: Apache-2.0
"""The job spec: what is valid stays itself, what isn't names the field (G1, N13)."""

from __future__ import annotations

import base64
import json
import string
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from control_plane.jobs import observables, program
from control_plane.jobs.accepted import canonical, from_canonical
from control_plane.jobs.reading import parse
from control_plane.jobs.schema import schema
from control_plane.jobs.spec import (
    MAX_EXECUTIONS,
    BackendConstraints,
    Circuit,
    EvidenceRequirements,
    Execution,
    Governance,
    JobSpec,
    Program,
    SpecInvalid,
    needed,
    source_bytes,
)
from control_plane.strict import MAX_NESTING, MAX_VALUES, Invalid
from ledger.canonical import dumps
from tests.control_plane.jobs.desk import bell

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
# The document of requirement G1, as it stands; its source is elided there and a bell here.
G1: dict[str, Any] = {
    "job_id": "qcos-job-2026-01-09-a7f3",
    "circuit": {
        "format": "QASM3",
        "source": bell()["circuit"]["source"],
        "compiler_version": "qiskit-1.0.0",
    },
    "execution": {
        "shots": 1000,
        "backend_constraints": {
            "min_qubits": 20,
            "max_depth": 100,
            "allowed_providers": ["aws-braket", "ibm-quantum"],
        },
    },
    "governance": {
        "project": "material-simulation-q1-2026",
        "cost_center": "CC-RD-42",
        "classification": "internal-restricted",
        "purpose": "production-benchmark",
    },
    "evidence_requirements": {"level": "full", "retention_days": 2555},
}

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
parameters = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)
circuits = st.builds(
    Circuit,
    format=st.sampled_from(["QASM3", "QASM2", "QPY"]),
    source=st.binary(min_size=1, max_size=40).map(lambda data: base64.b64encode(data).decode()),
    compiler_version=st.none() | texts,
    parameters=parameters,
)
constraints = st.builds(
    BackendConstraints,
    min_qubits=st.none() | st.integers(1, 100),
    max_depth=st.none() | st.integers(1, 100),
    allowed_providers=st.none() | st.lists(names, min_size=1, max_size=3).map(tuple),
    backend=st.none() | names,
)
governance = st.builds(
    Governance,
    project=names,
    classification=names,
    purpose=names,
    cost_center=st.none() | names,
    justification=st.none() | texts,
)
evidence = st.builds(
    EvidenceRequirements, level=st.sampled_from(["full", "standard"]), retention_days=st.integers(1, 36_500)
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program of one format; an estimator's observables have one width and something to measure."""
    kind: Literal["sampler", "estimator"] = draw(st.sampled_from(["sampler", "estimator"]))
    form = draw(st.sampled_from(["QASM3", "QASM2", "QPY"]))
    width = draw(st.integers(1, 4))
    paulis = st.text("IXYZ", min_size=width, max_size=width)
    sums = st.lists(st.tuples(st.sampled_from(["+", "-", "+0.5*", "- 2e-3 * "]), paulis), min_size=1, max_size=3)
    texts = st.lists(sums.map(lambda terms: " ".join(sign + pauli for sign, pauli in terms)), max_size=2)
    return Program(
        kind=kind,
        circuits=tuple(
            msgspec.structs.replace(circuit, format=form)
            for circuit in draw(st.lists(circuits, min_size=1, max_size=3))
        ),
        parameters=tuple(draw(st.lists(parameters, max_size=3))),
        observables=("Z" * width, *draw(texts)) if kind == "estimator" else (),
        precision=draw(st.none() | st.floats(0.05, 1)),
    )


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Any spec that `parse` would let through."""
    program = draw(st.none() | programs())
    shots = None if program is not None and program.precision is not None else draw(st.integers(1, 1000))
    return JobSpec(
        job_id=draw(st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)),
        circuit=None if program is not None else draw(circuits),
        program=program,
        execution=Execution(
            shots=shots,
            seed=draw(st.none() | st.integers(0, 2**31 - 1)),
            backend_constraints=draw(constraints),
        ),
        governance=draw(governance),
        evidence_requirements=draw(evidence),
    )


def refused(document: Any) -> Invalid:
    """How `parse` refuses it."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Invalid) as caught:
        parse(body)
    return caught.value


@given(specs())
def test_the_canonical_form_keeps_the_whole_spec(spec: JobSpec) -> None:
    """I6: what is stored and hashed reads back as the same spec, and has one form only."""
    written = dumps(canonical(spec))
    assert from_canonical(written) == spec
    assert dumps(canonical(from_canonical(written))) == written


@given(specs())
def test_what_is_written_as_json_is_read_as_itself_and_passes_the_schema(spec: JobSpec) -> None:
    """G1: the published schema takes what the plane takes."""
    body = msgspec.json.encode(spec)
    assert parse(body) == spec
    Draft202012Validator(schema()).validate(json.loads(body))


@given(specs())
def test_executions_are_the_product_that_price_and_quota_use(spec: JobSpec) -> None:
    """G1: circuits x parameter sets x bases x shots, and as many items as are run."""
    listed = program.items(spec)
    assert spec.executions == spec.items * spec.shots
    assert spec.shots == (spec.execution.shots or needed(spec.program or Program("sampler", ())))
    if spec.single is not None:
        assert (spec.items, listed) == (1, ())
        return
    asked = spec.program
    assert asked is not None
    assert len(listed) == spec.items
    assert [item.number for item in listed] == list(range(spec.items))
    product = {(item.circuit, item.parameters, item.basis) for item in listed}
    assert len(product) == spec.items
    assert {circuit for circuit, _, _ in product} == set(range(len(asked.circuits)))
    assert {basis for _, _, basis in product} == set(observables.bases(asked.observables) or (None,))


@given(specs())
def test_a_single_circuit_is_the_same_short_or_long(spec: JobSpec) -> None:
    """G1: a parameter set overrules the circuit's own values, name by name."""
    found = spec.single
    if found is None:
        return
    assert found.source == spec.circuits[0].source
    if spec.program is not None and spec.program.parameters:
        assert found.parameters == spec.circuits[0].parameters | spec.program.parameters[0]


def test_the_document_of_g1_is_valid_as_it_stands() -> None:
    """G1."""
    spec = parse(json.dumps(G1).encode())
    assert spec.job_id == "qcos-job-2026-01-09-a7f3"
    assert (spec.executions, spec.execution.backend_constraints.min_qubits) == (1000, 20)
    assert spec.evidence_requirements == EvidenceRequirements("full", 2555)
    Draft202012Validator(schema()).validate(G1)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_each_example_is_valid_and_can_be_submitted_twice(path: Path) -> None:
    document = json.loads(path.read_bytes())
    assert parse(path.read_bytes()).job_id is None
    Draft202012Validator(schema()).validate(document)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"surprise": 1}, "surprise"),
    "an unknown field below": ({"execution__retries": 3}, "execution.retries"),
    "a wrong type": ({"execution__shots": "1000"}, "execution.shots"),
    "a boolean for a number": ({"execution__shots": True}, "execution.shots"),
    "a fraction for a count": ({"execution__shots": 1.5}, "execution.shots"),
    "no shots": ({"execution__shots": 0}, "execution.shots"),
    "negative shots": ({"execution__shots": -5}, "execution.shots"),
    "too many shots": ({"execution__shots": 1_000_001}, "execution.shots"),
    "a seed beyond 31 bits": ({"execution__seed": 2**31}, "execution.seed"),
    "an unknown format": ({"circuit__format": "CIRQ"}, "circuit.format"),
    "no base64": ({"circuit__source": "not base64!"}, "circuit.source"),
    "base64 of nothing": ({"circuit__source": ""}, "circuit.source"),
    "an empty project": ({"governance__project": ""}, "governance.project"),
    "a project with a newline": ({"governance__project": "demo\n"}, "governance.project"),
    "a project with a path": ({"governance__project": "../demo"}, "governance.project"),
    "a NUL in a text": ({"governance__justification": "a\x00b"}, "governance.justification"),
    "an unknown level": ({"evidence_requirements__level": "none"}, "evidence_requirements.level"),
    "no retention": ({"evidence_requirements__retention_days": 0}, "evidence_requirements.retention_days"),
    "no provider at all": ({"execution__backend_constraints": {"allowed_providers": []}}, "allowed_providers"),
    "a job id with a slash": ({"job_id": "a/b"}, "job_id"),
    "a job id with a newline": ({"job_id": "a\n"}, "job_id"),
    "a long job id": ({"job_id": "a" * 129}, "job_id"),
    "a parameter that is text": ({"circuit__parameters": {"theta": "1"}}, "circuit.parameters"),
    "null for an object": ({"execution": None}, "execution"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(name: str) -> None:
    """G1: a precise error that names the field."""
    changes, field = BAD[name]
    fault = refused(bell(**changes))
    assert any(field in row["field"] for row in fault.errors), fault.errors
    assert all(row["message"] for row in fault.errors)


@pytest.mark.parametrize("field", ["execution", "governance"])
def test_what_is_missing_is_named(field: str) -> None:
    document = bell()
    del document[field]
    assert [row["field"] for row in refused(document).errors] == [field]


def test_neither_circuit_nor_program_and_both_are_refused() -> None:
    document = bell()
    circuit = document.pop("circuit")
    program = {"kind": "sampler", "circuits": [circuit]}
    assert refused(document).errors[0]["field"] == "circuit"
    assert refused({**document, "circuit": circuit, "program": program}).errors[0]["field"] == "circuit"
    assert parse(json.dumps({**document, "program": program}).encode()).circuits[0].source == circuit["source"]


def test_shots_and_precision_exclude_one_another() -> None:
    document = bell()
    program = {"kind": "estimator", "circuits": [document.pop("circuit")], "observables": ["ZZ"], "precision": 0.1}
    assert refused({**document, "program": program}).errors[0]["field"] == "execution.shots"
    del document["execution"]["shots"]
    parse(json.dumps({**document, "program": program}).encode())
    del program["precision"]
    assert refused({**document, "program": program}).errors[0]["field"] == "execution.shots"


def test_a_product_of_executions_beyond_the_limit_is_refused() -> None:
    """G1: what is small in each factor can be too much in all."""
    document = bell()
    circuit = document.pop("circuit")
    document["execution"]["shots"] = 1_000_000
    program = {"kind": "sampler", "circuits": [circuit] * (MAX_EXECUTIONS // 1_000_000 + 1)}
    assert refused({**document, "program": program}).errors[0]["field"] == "execution.shots"


AMBIGUOUS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"shots: 100",
    "text after the document": json.dumps(bell()).encode() + b"{}",
    "not UTF-8": json.dumps(bell()).encode().replace(b"benchmark", b"bench\xffmark"),
    "NaN": json.dumps(bell(circuit__parameters={"theta": 0.5})).encode().replace(b"0.5", b"NaN"),
    "Infinity": json.dumps(bell(circuit__parameters={"theta": 0.5})).encode().replace(b"0.5", b"-Infinity"),
    "a key twice": json.dumps(bell()).encode().replace(b'"shots": 1000', b'"shots": 1000, "shots": 1'),
    "an escaped key twice": json.dumps(bell()).encode().replace(b'"shots": 1000', b'"shots": 1, "\\u0073hots": 9'),
    "deep nesting": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a list": b"[]",
    "null": b"null",
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(bell()).encode(),
    "a number beyond floats": json.dumps(bell(circuit__parameters={"t": 1})).encode().replace(b'"t": 1', b'"t": 1e999'),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_readers_could_read_differently_is_refused(name: str) -> None:
    """N13: never a 500."""
    assert refused(AMBIGUOUS[name]).code in {"malformed_json", "spec_invalid"}


def test_nesting_is_bounded_before_anything_is_parsed() -> None:
    assert refused(b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1)).code == "malformed_json"


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(body: bytes) -> None:
    """N13: any bytes are a spec or refused."""
    with pytest.raises(Invalid):
        parse(body)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"",', b"1,", b"["])
def test_hundreds_of_thousands_of_values_are_refused_before_they_are_read(piece: bytes) -> None:
    """N13: two megabytes of nothing kept an API process busy for 0.6 s."""
    found = refused(b'{"a":[' + piece * (2**21 // len(piece)))
    assert (found.code, found.detail) == ("malformed_json", f"more than {MAX_VALUES} values")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(string.printable), st.lists, max_leaves=5))
def test_no_json_makes_the_reader_fail_otherwise(value: Any) -> None:
    document = bell()
    document["execution"] = value
    with pytest.raises(Invalid):
        parse(json.dumps(document).encode())


@pytest.mark.parametrize("source", ["QUJD\n", "QUJ D", "QUI", "QUJD=", "-_==", "QUJDé", "QUJ=", "QR=="])
def test_only_canonical_base64_is_taken(source: str) -> None:
    """RFC 4648 section 4: one text for one circuit, so that one circuit has one hash."""
    with pytest.raises(SpecInvalid):
        source_bytes(Circuit(format="QASM3", source=source))
