# SPDX-License-Identifier: Apache-2.0
"""Programs, estimators, analysis and workflows on a running plane (G1, N15, S9)."""

from __future__ import annotations

import io
import json
import math
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ledger.verify import verify
from tests.e2e.plane import EXAMPLES, Plane, bell, changed, encoded, long_running

H2_GROUND = -1.857274  # the least eigenvalue of the observable in examples/h2.json
FIELDS = [
    "statevector",
    "probabilities",
    "measured_probabilities",
    "observable_expectations",
    "reduced_density_matrices",
    "bloch_vectors",
    "entanglement_entropy",
    "fidelity",
    "top_basis_states",
]


def example(name: str, **changes: Any) -> dict[str, Any]:
    """An example spec, changed."""
    return changed(json.loads((EXAMPLES / name).read_bytes()), **changes)


def run(plane: Plane, spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job, COMPLETED and its bundle valid, and its result."""
    job = plane.run(spec)
    assert job["state"] == "COMPLETED", job
    report = verify(plane.bundle(job["job_id"]), plane.trust(), datetime.now(UTC))
    assert report.verdict == "valid", report
    return job, plane.get(f"/jobs/{job['job_id']}/result")


def qasm(qubits: int, *lines: str) -> str:
    """A circuit over q and c."""
    head = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{qubits}] q;", f"bit[{qubits}] c;"]
    return encoded("\n".join([*head, *lines]))


def test_a_sweep_of_two_circuits_under_three_parameter_sets_is_one_job(plane: Plane) -> None:
    """Issue 4, item 5: one hold, six executions, one bundle; counts of each as its angle says."""
    job, result = run(plane, example("sweep.json"))
    items = result["quantum_result"]["items"]
    assert [(one["circuit"], one["parameters"]) for one in items] == [(c, p) for c in (0, 1) for p in (0, 1, 2)]
    for one in items:
        theta = (0.0, 1.0471975511965976, math.pi)[one["parameters"]]
        ones = one["counts"].get("11" if one["circuit"] else "1", 0)
        expected = math.sin(theta / 2) ** 2
        assert abs(ones / 1000 - expected) <= 5 * math.sqrt(max(expected * (1 - expected), 1e-9) / 1000)
        assert sum(one["counts"].values()) == one["shots"] == 1000
    assert [one["seed"] for one in result["fragment_results"]] == [42 + n for n in range(6)]
    assert {one["status"] for one in result["fragment_results"]} == {"completed"}
    assert job["cost"]["basis"] == "charged"
    alone = plane.run(example("rotation.json"))
    assert Decimal(job["cost"]["amount"]) > 4 * Decimal(alone["cost"]["amount"])
    told = plane.cli("result", job["job_id"], user="engineer")
    assert told.code == 0
    assert len(told.out.splitlines()) == sum(len(one["counts"]) for one in items)


def test_an_estimator_finds_the_energy_of_hydrogen_within_its_error(plane: Plane) -> None:
    """N15: two bases for five strings; value, standard error and label of each observable."""
    job, result = run(plane, example("h2.json", execution__analysis=["observable_expectations"]))
    measured = result["quantum_result"]["observable_expectations"]
    sampled = [one for one in measured if one["label"] == "sampled"]
    exact = {one["observable"]: one["value"] for one in measured if one["label"] == "exact_ideal"}
    energy, parity = sampled
    assert exact[energy["observable"]] == pytest.approx(H2_GROUND, abs=1e-5)
    assert 0 < energy["standard_error"] < 0.01
    assert abs(energy["value"] - H2_GROUND) <= 5 * energy["standard_error"]
    assert energy["shots"] == 8000
    assert (parity["value"], parity["standard_error"], parity["shots"]) == (-1.0, 0.0, 4000)
    assert {one["basis"] for one in result["fragment_results"]} == {"XX", "ZZ"}
    told = plane.cli("result", job["job_id"], user="engineer")
    assert told.code == 0
    assert "sampled" in told.out


def test_a_precision_is_reached(plane: Plane) -> None:
    spec = example("h2.json", execution__shots=None)
    spec["program"] |= {"precision": 0.01, "observables": ["XX", "ZZ"]}
    _, result = run(plane, spec)
    bought = result["quantum_result"]["precision"]
    assert (bought["shots"], bought["capped"]) == (10_000, False)
    assert all(one["standard_error"] <= 0.01 for one in result["quantum_result"]["observable_expectations"])


def test_every_field_of_the_analysis_is_exact_and_labelled(plane: Plane) -> None:
    """N15: pre-measurement, against what a bell state is known to be."""
    job, result = run(plane, bell(execution__analysis=FIELDS))
    found = result["quantum_result"]
    half = pytest.approx(0.5)
    amplitudes = [complex(*one) for one in found["statevector"]["amplitudes"]]
    assert amplitudes == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    assert found["probabilities"]["values"] == {"00": half, "11": half}
    assert found["measured_probabilities_exact"]["values"] == {"00": half, "11": half}
    values = {one["observable"]: one["value"] for one in found["observable_expectations"]}
    assert values == {"IZ": pytest.approx(0), "ZI": pytest.approx(0), "ZZ": pytest.approx(1), "XX": pytest.approx(1)}
    assert np.allclose(np.array(found["reduced_density_matrices"]["matrices"])[..., 0], np.eye(2) / 2)
    assert np.allclose(found["bloch_vectors"]["vectors"], 0)
    assert found["entanglement_entropy"]["of_each_qubit"] == [pytest.approx(1), pytest.approx(1)]
    assert found["measured_qubits"] == [0, 1]
    assert {one["state"] for one in found["top_basis_states_exact"]["states"]} == {"00", "11"}
    exact = ("statevector", "probabilities", "reduced_density_matrices", "bloch_vectors", "entanglement_entropy")
    assert {found[name]["label"] for name in exact} == {"exact_ideal"}
    fidelity = found["fidelity"]
    assert (fidelity["label"], fidelity["reference"]) == ("sampled", "exact_ideal")
    assert fidelity["value"] > 0.99
    assert "no tomography" in fidelity["note"]
    assert found["labels"]["measured_probabilities"] == "sampled"
    assert set(found["standard_errors"]["measured_probabilities"]) == set(found["counts"])
    bundle = json.loads(plane.bundle(job["job_id"]))
    assert "analysis" in {part["name"] for part in bundle["artefacts"]}


def test_the_output_hash_knows_nothing_of_the_analysis(plane: Plane) -> None:
    """Decision 12: what was measured is measured integers, whatever is computed beside it."""
    results = []
    for fields in (None, FIELDS):
        job, _ = run(plane, bell(execution__analysis=fields, execution__seed=5))
        content = msgspec.convert(json.loads(plane.bundle(job["job_id"]))["contents"]["result"], bytes)
        results.append(json.loads(content)["counts"])
    assert results[0] == results[1]


def test_states_beyond_ten_qubits_are_files_and_beyond_twenty_refused(plane: Plane, tmp_path: Path) -> None:
    """Issue 4, item 8."""
    source = qasm(12, "h q[0];", *(f"cx q[{n}], q[{n + 1}];" for n in range(11)), "c = measure q;")
    asked = ["statevector", "probabilities"]
    job, result = run(plane, bell(circuit__source=source, execution__analysis=asked))
    names = [file["name"] for file in result["quantum_result"]["files"]]
    assert names == ["statevector.npy", "probabilities.npy"]
    assert result["quantum_result"]["statevector"] == {"label": "exact_ideal", "file": "statevector.npy"}
    path = tmp_path / "state.npy"
    taken = plane.cli("result", job["job_id"], "--file", names[0], "-o", str(path), user="engineer")
    assert taken.code == 0, taken.err
    state = np.load(path, allow_pickle=False)
    assert np.allclose(np.abs(state[[0, -1]]) ** 2, 0.5)
    assert state.shape == (4096,)
    served = plane.http("GET", f"/api/v1/jobs/{job['job_id']}/result/files/probabilities.npy")
    assert np.load(io.BytesIO(served.body), allow_pickle=False).sum() == pytest.approx(1)
    assert plane.http("GET", f"/api/v1/jobs/{job['job_id']}/result/files/spec").code == "not_found"
    assert plane.http("GET", f"/api/v1/jobs/{job['job_id']}/result/files/spec", user="outsider").code == "not_found"
    large = qasm(21, "h q[0];", "c = measure q;")
    answer = plane.submit(bell(circuit__source=large, execution__analysis=asked))
    assert (answer.status, answer.code, answer.fields) == (400, "program_unsupported", ["execution.analysis"])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("h q[0];", "c[0] = measure q[0];", "x q[0];", "c[1] = measure q[0];"), "in its middle"),
        (("c[0] = measure q[0];", "if (c[0]) { x q[1]; }", "c[1] = measure q[1];"), "control flow"),
        (("h q[0];", "reset q[0];", "c = measure q;"), "resets a qubit"),
    ],
)
def test_where_there_is_no_one_state_the_counts_come_without_it(
    plane: Plane, lines: tuple[str, ...], reason: str
) -> None:
    job, result = run(plane, bell(circuit__source=qasm(2, *lines), execution__analysis=["statevector"]))
    (refused,) = result["quantum_result"]["refused"]
    assert refused["field"] == "statevector"
    assert reason in refused["reason"]
    assert "statevector" not in result["quantum_result"]
    gaps = json.loads(plane.bundle(job["job_id"]))["gaps"]
    assert {"field": "analysis.statevector", "reason": refused["reason"]} in gaps


def test_counts_of_very_many_outcomes_are_a_file(plane: Plane) -> None:
    source = qasm(18, *(f"h q[{n}];" for n in range(18)), "c = measure q;")
    job, result = run(plane, bell(circuit__source=source, execution__shots=12_000))
    found = result["quantum_result"]
    (file,) = found["files"]
    assert (found["counts"], file["name"]) == ({}, "counts.json")
    served = plane.http("GET", f"/api/v1/jobs/{job['job_id']}/result/files/counts.json")
    counts = json.loads(served.body)["counts"]
    assert (len(counts), sum(counts.values())) == (file["outcomes"], 12_000)


def test_a_program_that_is_canceled_keeps_what_had_finished(plane: Plane) -> None:
    """Issue 4, item 5: COMPLETED with the reason, charged for what ran."""
    slow = long_running()["circuit"]
    quick = {"format": "QASM3", "source": qasm(1, "c = measure q;")}
    spec = bell(circuit=None)
    spec["program"] = {"kind": "sampler", "circuits": [quick, quick, slow, quick]}
    answer = plane.submit(spec)
    assert answer.status == 202, answer
    job_id = answer.json["job_id"]
    plane.until(job_id, "EXECUTING")
    # The slow item is the third; nothing tells from outside that it runs, but the first two are done within moments.
    plane.http("GET", f"/api/v1/jobs/{job_id}?wait=2")
    assert plane.http("POST", f"/api/v1/jobs/{job_id}/cancel").status == 202
    job = plane.end_of(job_id)
    assert job["state"] == "COMPLETED", job
    assert job["partial"].endswith("of 4 items finished: canceled on request")
    assert verify(plane.bundle(job_id), plane.trust(), datetime.now(UTC)).verdict == "valid"
    statuses = [one["status"] for one in plane.get(f"/jobs/{job_id}/result")["fragment_results"]]
    assert statuses[0] == "completed"
    assert statuses[2] == "canceled"


def test_too_many_items_are_refused_with_the_number(plane: Plane) -> None:
    spec = example("sweep.json", program__parameters=[{"theta": float(n)} for n in range(501)])
    answer = plane.submit(spec)
    assert (answer.status, answer.code, answer.fields) == (400, "spec_invalid", ["program"])
    assert "1002 items" in answer.json["detail"]
    assert "at most 1000" in answer.json["detail"]


def test_the_jobs_of_a_workflow_are_tied_in_lists_entries_and_evidence(plane: Plane) -> None:
    """S9: several envelopes under one workflow id, steps in the caller's own words."""
    name = f"vqe-{uuid.uuid4().hex[:8]}"
    tied = {"id": name, "session": "run-1"}
    jobs = [run(plane, bell(workflow=tied | {"step": step}))[0] for step in (0, 1)]
    listed = plane.get(f"/jobs?workflow={name}")
    assert [job["job_id"] for job in listed] == [job["job_id"] for job in reversed(jobs)]
    assert [job["workflow"]["step"] for job in listed] == [1, 0]
    shown = plane.cli("jobs", "list", "--workflow", name, "--json", user="engineer").json
    assert shown == listed
    assert plane.cli("jobs", "show", jobs[0]["job_id"], user="engineer").out.count(name) == 1
    assert plane.get("/jobs?workflow=another") == []
    bundle = json.loads(plane.bundle(jobs[1]["job_id"]))
    spec = json.loads(msgspec.convert(bundle["contents"]["spec"], bytes))
    assert spec["workflow"] == tied | {"step": 1}


def test_a_session_is_refused_where_no_backend_has_one(plane: Plane) -> None:
    answer = plane.submit(bell(execution__session=True))
    assert (answer.code, answer.fields) == ("spec_invalid", ["execution.session"])
    answer = plane.submit(bell(execution__session=True, workflow={"id": "w"}))
    assert (answer.code, answer.fields) == ("program_unsupported", ["execution.session"])
