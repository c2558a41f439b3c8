# SPDX-License-Identifier: Apache-2.0
"""One job a backend, each governed as any other: submitted pinned, waited for, read back with its evidence (G14).

Enters a spec's bytes and backend ids; leaves a `report.Row` each. A refusal, a failure or a job that doesn't end in
time is a row that says so. Nothing here judges.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from control_plane.client import Answered, Client
from control_plane.compare.report import Row
from control_plane.errors import Refused

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})
WAIT_S = 30.0


def pinned(spec: Mapping[str, Any], backend: str, *, shots: int | None, workflow: str | None) -> dict[str, Any]:
    """The spec for one backend: its own pin and id give way, its other constraints stay."""
    execution = dict(spec.get("execution") or {})
    constraints = dict(execution.get("backend_constraints") or {})
    execution["backend_constraints"] = constraints | {"backend": backend}
    if shots is not None:
        execution["shots"] = shots
    made = {name: value for name, value in spec.items() if name != "job_id"} | {"execution": execution}
    return made | {"workflow": {"id": workflow}} if workflow is not None else made


def read_spec(body: bytes, name: str) -> dict[str, Any]:
    """The job spec; refused unless it has one distribution to compare."""
    try:
        spec = json.loads(body)
    except ValueError:
        spec = None
    if not isinstance(spec, dict) or not isinstance(spec.get("execution", {}), dict):
        raise Refused("unusable_input", f"{name} is no job spec")
    if spec.get("program") is not None:
        raise Refused("unusable_input", f"{name}: compare takes a job of one circuit, not a program")
    return spec


def run(client: Client, specs: Mapping[str, Mapping[str, Any]], limit_s: float) -> list[Row]:
    """Submit all, then wait for all, for `limit_s` at the most; a row each, in the order of `specs`."""
    providers = {one["id"]: one["provider"] for one in client.ask("GET", "/api/v1/backends")}
    jobs: dict[str, dict[str, Any] | Answered] = {}
    for backend, spec in specs.items():
        try:
            jobs[backend] = client.ask("POST", "/api/v1/jobs", json.dumps(spec).encode())
        except Answered as refused:
            jobs[backend] = refused
    until = time.monotonic() + limit_s
    rows = []
    for backend, job in jobs.items():
        provider = providers.get(backend)
        if isinstance(job, Answered):
            rows.append(_refused(backend, provider, job))
        else:
            try:
                rows.append(_row(client, backend, provider, _ended(client, job, until)))
            except Answered as refused:
                rows.append(_refused(backend, provider, refused, job["job_id"]))
    return rows


def _ended(client: Client, job: dict[str, Any], until: float) -> dict[str, Any]:
    while job["state"] not in ENDED or job["evidence"] is None or job["evidence"]["state"] != "sealed":
        wait_s = min(WAIT_S, until - time.monotonic())
        if wait_s <= 0:
            break
        job = client.ask("GET", f"/api/v1/jobs/{quote(job['job_id'], safe='')}?wait={wait_s:.1f}", limit_s=WAIT_S + 30)
    return job


def _refused(backend: str, provider: str | None, problem: Answered, job_id: str | None = None) -> Row:
    document = problem.document
    return Row(
        backend=backend,
        provider=provider,
        job_id=document.get("job_id") or job_id,
        state=document.get("state") or "REFUSED",
        error={"code": problem.code, "detail": str(document.get("detail", ""))},
    )


def _row(client: Client, backend: str, provider: str | None, job: dict[str, Any]) -> Row:
    base: dict[str, Any] = {"backend": backend, "provider": provider, "job_id": job["job_id"], "state": job["state"]}
    if job["state"] != "COMPLETED":
        error = job.get("error") or {"code": "unfinished", "detail": f"still {job['state']} when the time was over"}
        bundle_id = (job.get("evidence") or {}).get("bundle_id")
        return Row(**base, error=error, bundle_id=bundle_id, cost=_cost(job))
    path = f"/api/v1/jobs/{quote(job['job_id'], safe='')}"
    measured = client.ask("GET", f"{path}/result")["quantum_result"]
    bundle = client.ask("GET", f"{path}/evidence")
    if not isinstance(measured.get("counts"), dict):
        error = {"code": "no_counts", "detail": "the counts are a file: too many outcomes to compare one by one"}
        return Row(**base, error=error, bundle_id=bundle["bundle_id"], cost=_cost(job))
    return Row(**base, **_measured(job, measured, bundle))


def _measured(job: dict[str, Any], measured: dict[str, Any], bundle: dict[str, Any]) -> dict[str, Any]:
    ran = bundle["execution_metadata"]
    carried = bundle["contents"].get("execution")
    facts = json.loads(base64.b64decode(carried)) if carried is not None else {}
    metadata = facts.get("metadata") or {}
    return {
        "counts": measured["counts"],
        "shots": measured["shots"],
        "partial": bundle["partial"],
        "cost": _cost(job),
        "queue_s": ran["queue_time_ms"] / 1000,
        "run_s": _seconds(ran["start_time"], ran["end_time"]),
        "qubits": facts.get("qubits"),
        "depth": facts.get("depth"),
        "gates": facts.get("gates_after"),
        "method": ran["method"],
        "noise": metadata.get("noise_model"),
        "seed": ran["seed"],
        "calibration": facts.get("calibration"),
        "bundle_id": bundle["bundle_id"],
        "evidence": bundle["evidence_level"],
    }


def _cost(job: dict[str, Any]) -> dict[str, str] | None:
    cost = job["cost"]
    if cost["basis"] != "charged":
        return None
    return {"amount": cost["amount"], "currency": cost["currency"]}


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
