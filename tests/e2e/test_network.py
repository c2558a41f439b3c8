# SPDX-License-Identifier: Apache-2.0
"""Issue 5, "Done when": both examples over five nodes, one of them killed in the middle; evidence says who ran what."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.own_plane import OwnPlane, until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlane]:
    made = OwnPlane(tmp_path_factory.mktemp("network") / "home", QCOS_NODES="5", QCOS_WORKERS="1")
    with made.running():
        made.ask("login", "--as", "engineer")
        until(lambda: any(b["id"] == "p2p" and b["state"] == "online" for b in made.ask("backends", "list")), "online")
        yield made


def _verified(plane: OwnPlane, job_id: str, folder: Path) -> dict[str, str]:
    """Each check of the job's evidence that speaks of nodes, with what it found."""
    plane.ask("evidence", "get", job_id, "-o", str(folder / "bundle.json"))
    plane.ask("trust", "export", "-o", str(folder / "trust.json"))
    report = plane.ask("verify", str(folder / "bundle.json"), "--trust", str(folder / "trust.json"))
    assert report["verdict"] == "valid", report["reason"]
    return {check["name"]: check["detail"] for check in report["checks"]}


def _nodes(checks: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("node:"): said for name, said in checks.items() if name.startswith("node:")}


@pytest.mark.parametrize(("example", "fragments"), [("network", 1), ("network12", 3)])
def test_an_example_runs_on_the_network_and_evidence_says_which_node_ran_what(
    plane: OwnPlane, tmp_path: Path, example: str, fragments: int
) -> None:
    job = plane.ask("submit", str(EXAMPLES / f"{example}.qasm"), "--wait")
    assert (job["state"], job["backend"]) == ("COMPLETED", "p2p")
    result = plane.ask("result", job["job_id"])
    assert sum(result["quantum_result"]["counts"].values()) == 1000
    ran = result["fragment_results"]
    assert [one["status"] for one in ran] == ["completed"] * fragments
    assert result["quantum_result"]["fidelity_estimate"]["label"] == "estimated"
    assert 0.5 < result["quantum_result"]["fidelity_estimate"]["value"] <= 1
    checks = _verified(plane, job["job_id"], tmp_path)
    said = _nodes(checks)
    for one in ran:
        assert one["observed_fidelity"] > 0.9
        assert one["fragment_id"] in said[one["node"]]
    assert checks["fragments"].startswith(f"{fragments} joined")
    listed = {node["node_id"] for node in plane.ask("node", "list")}
    assert said.keys() <= listed
    assert set(job["decision"]["allowed_nodes"]) == listed


@pytest.mark.faults
def test_a_node_that_dies_in_the_middle_costs_the_job_nothing_and_stands_in_its_evidence(
    plane: OwnPlane, tmp_path: Path
) -> None:
    """N7: a node is stopped, gets work, and is killed with it; a fallback of the plan does it."""
    spec = str(EXAMPLES / "network12.qasm")
    for _ in range(10):
        pids = {node["node_id"]: node["pid"] for node in plane.ask("node", "list")}
        victim = plane.ask("plan", spec)["plan"]["assignments"][0]["primary"]
        os.kill(pids[victim], signal.SIGSTOP)
        job_id = plane.ask("submit", spec)["job_id"]
        until(partial(_primaries, plane, job_id), "it is planned")
        os.kill(pids[victim], signal.SIGKILL)
        job = until(partial(_ended, plane, job_id), "it ended")
        assert job["state"] == "COMPLETED", job["error"]
        if victim in _primaries(plane, job_id):
            break
        until(lambda: all(node["state"] == "online" for node in plane.ask("node", "list")), "all are back")
    checks = _verified(plane, job_id, tmp_path)
    said = _nodes(checks)
    assert "received" in said[victim]
    assert "ran" not in said[victim]
    ran = plane.ask("result", job_id)["fragment_results"]
    assert {one["node"] for one in ran}.isdisjoint({victim})
    tried = [attempt for one in ran for attempt in one["attempts"] if attempt["node"] == victim]
    assert tried
    assert all(attempt["error"] is not None for attempt in tried)


def _ended(plane: OwnPlane, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = plane.ask("jobs", "show", job_id)
    return job if job["state"] in ("COMPLETED", "FAILED") else None


def _primaries(plane: OwnPlane, job_id: str) -> set[str]:
    """Whom the job's plan sends its fragments first; nobody while there is none."""
    rows: list[tuple[Any, ...]] = plane.query(f"SELECT plan FROM network.plan WHERE job_id = '{job_id}'")
    return {one["primary"] for (plan,) in rows for one in plan["assignments"]}
