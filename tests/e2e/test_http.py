# SPDX-License-Identifier: Apache-2.0
"""The API as outside checks call it: admission, waiting, idempotency, denials, tenants, paging, the log (contracts)."""

from __future__ import annotations

import base64
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import EXAMPLES, Plane, bell

DOCS = Path(__file__).parents[2] / "docs"


def fresh() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/circuits/submit"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_submission_is_accepted_with_202_on_either_path_and_transport(plane: Plane, path: str, unix: bool) -> None:
    answer = plane.http("POST", path, json.dumps(bell()).encode(), unix=unix)
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["state"] == "QUEUED"
    assert plane.end_of(answer.json["job_id"])["state"] == "COMPLETED"


def test_the_unix_socket_asks_for_the_same_credentials(plane: Plane) -> None:
    assert plane.http("GET", "/api/v1/whoami", user=None, unix=True).code == "token_missing"
    assert plane.http("GET", "/api/v1/whoami", unix=True).json["subject"] == "engineer"


@pytest.mark.parametrize("name", ["bell.json", "ghz.json", "rotation.json", "sweep.json", "h2.json"])
def test_each_example_runs_twice(plane: Plane, name: str) -> None:
    spec = (EXAMPLES / name).read_bytes()
    assert {plane.run(spec)["state"], plane.run(spec)["state"]} == {"COMPLETED"}


def test_the_document_of_g1_is_valid_as_it_stands_but_for_its_circuit(plane: Plane) -> None:
    """G1: it is well formed; here nobody has given its project a budget."""
    spec = {
        "job_id": fresh(),
        "circuit": {"format": "QASM3", "source": bell()["circuit"]["source"], "compiler_version": "qiskit-1.0.0"},
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
    assert plane.submit(spec).code == "budget_missing"


def test_wait_answers_with_the_end(plane: Plane) -> None:
    answer = plane.submit(bell(), query="?wait=30")
    assert (answer.status, answer.json["state"]) == (200, "COMPLETED")
    looked = plane.http("GET", f"/api/v1/jobs/{answer.json['job_id']}?wait=30")
    assert looked.json == answer.json


def test_an_idempotency_key_submits_once(plane: Plane) -> None:
    key, spec = fresh(), bell()
    first = plane.submit(spec, Idempotency_Key=key)
    second = plane.submit(spec, Idempotency_Key=key)
    assert first.status == 202
    assert second.status in (200, 202)
    assert first.json["job_id"] == second.json["job_id"]
    assert plane.submit(bell(execution__shots=7), Idempotency_Key=key).code == "idempotency_conflict"
    of_another = plane.submit(spec, "user", Idempotency_Key=key)
    assert of_another.status == 202
    assert of_another.json["job_id"] != first.json["job_id"]
    assert plane.submit(spec, "outsider", Idempotency_Key=key).code == "budget_missing"


def test_a_denial_under_an_idempotency_key_stays_the_same_denial(plane: Plane) -> None:
    key, spec = fresh(), bell(governance__purpose="production-run")
    first, second = (plane.submit(spec, "user", Idempotency_Key=key) for _ in range(2))
    assert first.status == second.status == 403
    assert first.json["job_id"] == second.json["job_id"]


def test_a_job_id_is_used_once_in_its_tenant(plane: Plane) -> None:
    name = fresh()
    assert plane.submit(bell(job_id=name)).status == 202
    again = plane.submit(bell(job_id=name))
    assert (again.status, again.code, again.fields) == (409, "duplicate_job_id", ["job_id"])
    elsewhere = plane.submit(bell(job_id=name, governance__project="other"), "outsider")
    assert elsewhere.status == 202
    assert plane.end_of(name)["state"] == plane.end_of(name, "outsider")["state"] == "COMPLETED"


def test_a_denial_names_job_decision_and_reasons(plane: Plane) -> None:
    answer = plane.submit(bell(governance__purpose="production-benchmark"), "user")
    assert (answer.status, answer.code) == (403, "policy_denied")
    said = answer.json
    assert said["decision_id"] == said["decision"]["id"]
    assert "role_required" in [reason["code"] for reason in said["reasons"]]
    job = plane.get(f"/jobs/{said['job_id']}", "user")
    assert job["state"] == "DENIED"
    assert job["decision"] == said["decision"]
    assert job["cost"]["held"] is None


def test_over_budget_is_refused_and_costs_nothing(plane: Plane) -> None:
    project = plane.project("0.60")
    job = plane.run(bell(governance__project=project))
    answer = plane.submit(bell(governance__project=project))
    assert (answer.status, answer.code) == (403, "budget_exceeded")
    assert {"job_id", "decision_id", "reasons"} <= set(answer.json)
    (budget,) = [one for one in plane.get("/budgets", "admin") if one["scope"] == f"project:{project}"]
    assert (budget["held"], budget["limit"]) == ("0", "0.6")
    assert Decimal(budget["captured"]) == Decimal(job["cost"]["amount"]) > 0


def test_a_project_without_a_budget_is_refused(plane: Plane) -> None:
    answer = plane.submit(bell(governance__project=fresh()))
    assert (answer.status, answer.code) == (403, "budget_missing")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/evidence"),
        ("POST", "/cancel"),
        ("POST", "/hold"),
        ("POST", "/resume"),
    ],
)
def test_another_tenants_job_does_not_exist(plane: Plane, method: str, path: str) -> None:
    """I7: to the byte the same answer as for a job that nobody has."""
    job = plane.run(bell())["job_id"]
    nobodys = "x" * len(job)
    seen = plane.http(method, f"/api/v1/jobs/{job}{path}", user="outsider")
    absent = plane.http(method, f"/api/v1/jobs/{nobodys}{path}", user="outsider")
    assert (seen.status, seen.code) == (404, "not_found")

    def without_ids(document: Any) -> str:
        del document["request_id"]
        return json.dumps(document).replace(job, nobodys)

    assert without_ids(seen.json) == without_ids(absent.json)
    assert job not in [one["job_id"] for one in plane.get("/jobs?limit=1000", "outsider")]


def test_evidence_comes_in_the_form_that_was_asked_for(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    path = f"/api/v1/jobs/{job}/evidence"
    assert plane.http("GET", f"{path}?format=bundle").body == plane.http("GET", path).body
    for unknown in ("docx", "", "null", "BUNDLE"):
        refused = plane.http("GET", f"{path}?format={unknown}")
        assert (refused.status, refused.code, refused.fields) == (400, "request_invalid", ["format"])


def test_roles_see_what_their_permissions_name(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    assert plane.http("GET", f"/api/v1/jobs/{job}/result", user="auditor").status == 200
    assert plane.http("GET", f"/api/v1/jobs/{job}/evidence", user="auditor").status == 200
    assert plane.http("GET", f"/api/v1/jobs/{job}", user="finops").status in (403, 404)
    assert plane.http("GET", f"/api/v1/jobs/{job}/result", user="admin").status in (403, 404)
    assert plane.http("POST", f"/api/v1/jobs/{job}/cancel", user="auditor").code == "forbidden"
    denied = plane.submit(bell(), "auditor")
    assert (denied.status, denied.code) == (403, "policy_denied")
    body = json.dumps({"scope": "project:demo", "amount": "1", "currency": "USD"}).encode()
    assert plane.http("PUT", "/api/v1/budgets", body, user="engineer").code == "forbidden"


def test_jobs_are_listed_in_pages_and_by_state_and_project(plane: Plane) -> None:
    project = plane.project("50")
    ids = {plane.run(bell(governance__project=project))["job_id"] for _ in range(3)}
    plane.run(bell(governance__project=project, circuit__source="aGVsbG8="))
    mine = f"/api/v1/jobs?project={project}"
    assert {job["job_id"] for job in plane.http("GET", f"{mine}&state=COMPLETED").json} == ids
    assert len(plane.http("GET", f"{mine}&state=FAILED").json) == 1
    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = plane.http("GET", f"{mine}&limit=1{cursor}")
        assert len(page.json) == 1
        seen += [job["job_id"] for job in page.json]
        cursor = f"&cursor={page.headers.get('x-next-cursor', '')}"
    assert len(set(seen)) == 4
    assert "x-next-cursor" not in page.headers
    assert [job["job_id"] for job in plane.http("GET", mine).json] == seen


def test_the_log_can_be_read_by_any_signed_in_tenant(plane: Plane) -> None:
    note = plane.http("GET", "/api/v1/ledger/checkpoint", user="outsider")
    assert note.status == 200
    assert note.headers["content-type"].startswith("text/plain")
    origin, size, root = note.body.decode().split("\n")[:3]
    assert origin == "qcos/dev/dev"
    assert len(base64.b64decode(root)) == 32
    width = min(int(size), 256)
    path = "/api/v1/ledger/tile/0/000" + ("" if width == 256 else f".p/{width}")
    tile = plane.http("GET", path, user="outsider")
    assert (tile.status, len(tile.body)) == (200, 32 * width)
    assert plane.http("GET", "/api/v1/ledger/tile/0/999", user="outsider").code == "not_in_log"
    assert plane.http("GET", "/api/v1/ledger/checkpoint", user=None).code == "token_missing"


def test_the_published_documents_are_the_committed_bytes(plane: Plane) -> None:
    served = plane.http("GET", "/api/v1/openapi.json", user=None)
    assert served.body == (DOCS / "openapi.json").read_bytes()
    schema = plane.http("GET", "/api/v1/schemas/job-spec.json", user=None)
    assert schema.json == json.loads((DOCS / "job-spec.schema.json").read_bytes())


def test_health_and_readiness_need_no_credentials(plane: Plane) -> None:
    assert plane.http("GET", "/", user=None).json["name"] == "qcos"
    assert plane.http("GET", "/api/v1/health", user=None).status == 200
    ready = plane.http("GET", "/api/v1/ready", user=None)
    assert ready.status == 200
    assert all(check["ok"] for check in ready.json["checks"].values())
    assert {"database", "sealer", "clock", "timestamps", "backends", "policy"} == ready.json["checks"].keys()
