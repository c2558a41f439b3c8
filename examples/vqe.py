# SPDX-License-Identifier: Apache-2.0
"""A variational loop against a plane, with Python alone: the ground state of hydrogen in a few estimator jobs (S9).

    qcos login --as engineer
    python examples/vqe.py [PROJECT]

Each step is one job: the energy at one angle and at the two from which the parameter-shift rule takes the slope, all
under one workflow id. The plane decides, holds, runs, charges and proves each; the optimiser is this script.
`qcos jobs list --workflow ID` shows the steps. QCOS_URL and QCOS_TOKEN name another plane and another person; else it
is the plane on the usual port, and whoever logged in last in QCOS_HOME (./.qcos).
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ENERGY = "-1.052373*II + 0.397937*IZ - 0.397937*ZI - 0.011280*ZZ + 0.180931*XX"
GROUND = -1.857274  # its least eigenvalue
ANSATZ = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] theta;
qubit[2] q;
x q[0];
ry(theta) q[1];
cx q[1], q[0];
"""
STEPS, SHOTS, RATE = 6, 2000, 0.8
HOME = Path(os.environ.get("QCOS_HOME", ".qcos"))


def ask(method: str, path: str, body: object = None) -> Any:
    """One request to the plane; its document."""
    url = os.environ.get("QCOS_URL", "http://127.0.0.1:8470")
    token = os.environ.get("QCOS_TOKEN") or json.loads((HOME / "credentials.json").read_text())["access_token"]
    request = urllib.request.Request(url + "/api/v1" + path, method=method)  # noqa: S310 - the plane's own address
    request.add_header("Authorization", "Bearer " + token)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - as above
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        problem = json.load(refused)
        sys.exit(f"{problem['code']}: {problem['detail']}")


def energies(
    workflow: str, step: int, angles: tuple[float, ...], project: str
) -> tuple[list[tuple[float, float]], Any]:
    """The energy at each angle, with its standard error: one job."""
    source = base64.b64encode(ANSATZ.encode()).decode()
    spec = {
        "program": {
            "kind": "estimator",
            "circuits": [{"format": "QASM3", "source": source}],
            "parameters": [{"theta": angle} for angle in angles],
            "observables": [ENERGY],
        },
        "execution": {"shots": SHOTS, "seed": 1000 * (step + 1)},
        "governance": {"project": project, "classification": "internal", "purpose": "benchmark"},
        "evidence_requirements": {"level": "standard"},
        "workflow": {"id": workflow, "step": step},
    }
    job = ask("POST", "/jobs?wait=60", spec)
    while job["state"] not in ("COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"):
        job = ask("GET", f"/jobs/{job['job_id']}?wait=60")
    if job["state"] != "COMPLETED" or job["partial"]:
        sys.exit(f"{job['job_id']}: {job['state']}: {job['partial'] or job['error']}")
    values = ask("GET", f"/jobs/{job['job_id']}/result")["quantum_result"]["observable_expectations"]
    return [(one["value"], one["standard_error"]) for one in values], job["cost"]


def main() -> None:
    """Descend from 0; print each step, and fail where the end isn't the ground state within five standard errors."""
    project = sys.argv[1] if len(sys.argv) > 1 else "demo"
    workflow = f"vqe-{uuid.uuid4().hex[:8]}"
    theta = 0.0
    for step in range(STEPS):
        angles = (theta, theta + math.pi / 2, theta - math.pi / 2)
        ((value, error), (above, _), (below, _)), cost = energies(workflow, step, angles, project)
        said = f"energy {value:.4f} +- {error:.4f}  {cost['amount']} {cost['currency']}"
        sys.stdout.write(f"{workflow} step {step}: theta {theta:+.4f}  {said}\n")
        theta -= RATE * (above - below) / 2
    off = abs(value - GROUND)
    sys.stdout.write(f"ground state {GROUND}: {off / error:.1f} standard errors away\n")
    sys.exit(0 if off < 5 * error else 1)


if __name__ == "__main__":
    main()
