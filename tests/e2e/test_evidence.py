# SPDX-License-Identifier: Apache-2.0
"""Evidence of real jobs, judged offline: each way to end is provable, each change is found (G3, G4, I4)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.canonical import dumps
from ledger.errors import UsageError
from ledger.verify import Report, verify
from tests.e2e.plane import Plane, Ran, bell
from tests.e2e.test_control import send, stopped_workers
from tests.ledger.test_verify import mutants


def judge(bundle: bytes, trust: bytes) -> Report:
    return verify(bundle, trust, datetime.now(UTC))


def by_command(plane: Plane, bundle: bytes, trust: bytes) -> Ran:
    files = plane.folder / "judged.json", plane.folder / "judge.json"
    for file, data in zip(files, (bundle, trust), strict=True):
        file.write_bytes(data)
    return plane.cli("verify", str(files[0]), "--trust", str(files[1]), "--json")


def completed(plane: Plane) -> Any:
    return plane.run(bell())


def standard(plane: Plane) -> Any:
    return plane.run(bell(evidence_requirements__level="standard"))


def failed(plane: Plane) -> Any:
    return plane.run(bell(circuit__source="aGVsbG8="))


def too_deep(plane: Plane) -> Any:
    return plane.run(bell(execution__backend_constraints__max_depth=1))


def denied(plane: Plane) -> Any:
    return plane.run(bell(governance__purpose="production-run"), "user")


def canceled(plane: Plane) -> Any:
    with stopped_workers(plane):
        job = plane.submit(bell()).json["job_id"]
        send(plane, job, "cancel")
        return plane.end_of(job)


@pytest.mark.parametrize(
    ("make", "state", "level", "signed"),
    [
        (completed, "COMPLETED", "full", 2),
        (standard, "COMPLETED", "standard", 1),
        (failed, "FAILED", "sealed", 0),
        (too_deep, "FAILED", "sealed", 0),
        (denied, "DENIED", "sealed", 0),
        (canceled, "CANCELED", "sealed", 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_end_of_a_job_has_valid_evidence(
    plane: Plane, make: Callable[[Plane], Any], state: str, level: str, signed: int
) -> None:
    job = make(plane)
    assert job["state"] == state
    data = plane.bundle(job["job_id"], "auditor")
    bundle = json.loads(data)
    assert (bundle["state"], bundle["evidence_level"]) == (state, level)
    assert bundle["job_id"] == job["job_id"]
    signatures = bundle["signatures"]
    given = [signatures["qcos_signature"], signatures["ecdsa_p256_signature"]]
    assert sum(signature is not None for signature in given) == signed
    for stamp in signatures["timestamp_authority"]:
        assert stamp["operator"] == "self"
        base64.b64decode(stamp["token"], validate=True)
    ran = by_command(plane, data, plane.trust())
    assert (ran.code, ran.json["verdict"]) == (0, "valid"), ran.json["reason"]
    assert ran.json["assurance"] == "self_issued"


def test_the_record_answers_what_when_where_who_why_and_what_came_of_it(plane: Plane) -> None:
    """G4, against what was asked and what was answered."""
    job = completed(plane)
    bundle = json.loads(plane.bundle(job["job_id"]))
    spec = bell()
    who = bundle["governance_record"]
    assert (who["actor"], who["team"], who["project"]) == ("user:engineer@demo", "materials", "demo")
    for name in ("classification", "purpose", "justification"):
        assert who[name] == spec["governance"][name]
    assert who["policy_decisions"] == ["allow"]
    assert who["decision_id"] == job["decision"]["id"]
    assert who["policy_revision"] == job["decision"]["policy_revision"]
    assert len(who["policies_applied"]) == len(job["decision"]["checks"])
    where = bundle["execution_metadata"]
    assert (where["backend"], where["region"], where["compliance_zone"]) == (job["backend"], "local", "onprem")
    assert where["shots_executed"] == 1000
    assert where["start_time"] <= where["end_time"]
    counts = plane.get(f"/jobs/{job['job_id']}/result")["quantum_result"]["counts"]
    assert json.loads(base64.b64decode(bundle["contents"]["result"]))["counts"] == counts
    carried = json.loads(base64.b64decode(bundle["contents"]["spec"]))
    assert carried["circuit"]["source"] == spec["circuit"]["source"]
    assert bundle["cost"]["amount"] == job["cost"]["amount"]
    assert bundle["output_hash"].startswith("sha256:")


def test_evidence_and_result_never_change(plane: Plane) -> None:
    job = completed(plane)["job_id"]
    first = json.loads(plane.bundle(job))
    plane.run(bell())
    later = json.loads(plane.bundle(job))
    for document in (first, later):
        del document["proof"]
    assert first == later


def test_each_changed_dropped_or_added_leaf_of_an_exported_bundle_is_named(plane: Plane) -> None:
    """I4: each mutation written again in canonical form is never valid, and names a check or is unusable."""
    trust = plane.trust()
    tree = json.loads(plane.bundle(completed(plane)["job_id"]))
    assert judge(dumps(tree), trust).verdict == "valid"
    tried = 0
    for path, changed in mutants(tree):
        try:
            report = judge(dumps(changed), trust)
        except UsageError:
            continue
        tried += 1
        assert report.verdict != "valid", path
        assert [check for check in report.checks if not check.ok], path
    assert tried > 1000


def test_the_command_names_what_was_changed(plane: Plane) -> None:
    trust = plane.trust()
    data = plane.bundle(completed(plane)["job_id"])

    def after(change: Callable[[Any], object]) -> Ran:
        tree = json.loads(data)
        change(tree)
        return by_command(plane, dumps(tree), trust)

    changes: dict[str, Callable[[Any], object]] = {
        "job_id": lambda tree: tree.update(job_id="another"),
        "shots": lambda tree: tree["execution_metadata"].update(shots_executed=999),
        "project": lambda tree: tree["governance_record"].update(project="elsewhere"),
        "signature": lambda tree: tree["signatures"].update(qcos_signature=None),
        "token": lambda tree: tree["signatures"]["timestamp_authority"].pop(),
        "member": lambda tree: tree.update(approved=True),
        "path": lambda tree: tree["proof"]["path"].append("A" * 43 + "="),
    }
    for name, change in changes.items():
        ran = after(change)
        assert ran.code in (1, 2), name
        assert ran.json["verdict"] != "valid", name
        assert any(not check["ok"] for check in ran.json["checks"]), name
    spaced = by_command(plane, json.dumps(json.loads(data)).encode(), trust)
    assert (spaced.code, spaced.json["checks"][0]["name"]) == (1, "file_canonical")
    assert by_command(plane, b"no bundle", trust).code in (1, 2)
    assert by_command(plane, data, b"no trust file").code == 2
    assert by_command(plane, data, data).code == 2


def test_another_planes_trust_reaches_nothing(plane: Plane, stranger: Plane) -> None:
    """Two development planes have one name and different keys: sound in itself, anchored nowhere."""
    here = plane.bundle(completed(plane)["job_id"])
    there = stranger.bundle(stranger.run(bell())["job_id"])
    assert judge(there, stranger.trust()).verdict == "valid"
    for bundle, trust in ((here, stranger.trust()), (there, plane.trust())):
        ran = by_command(plane, bundle, trust)
        assert ran.code == 1
        assert ran.json["verdict"] in ("unanchored", "invalid")
        assert any(not check["ok"] for check in ran.json["checks"])


def test_a_planes_trust_file_holds_no_secret(plane: Plane) -> None:
    trust = json.loads(plane.trust())
    assert trust["type"] == "urn:qcos:trust:v3"  # it names the chain of the documents
    assert trust["scope"]["profile"] == "dev"
    assert "PRIVATE" not in plane.trust().decode()
    assert all(authority["operator"] == "self" for authority in trust["tsa"])
