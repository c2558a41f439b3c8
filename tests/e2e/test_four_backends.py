# SPDX-License-Identifier: Apache-2.0
"""One spec on four unlike backends of one plane: the same counts within a margin, four prices, four proofs (G14)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import bell
from tests.own_plane import OwnPlane, until
from tests.simulator import simulating

BACKENDS = ("aer", "braket-local", "ibm-fake", "remote-aer")
SHOTS = 4000
MARGIN = 0.08
"""Total variation that noise and sampling may make: the fake device's own errors are about 0.03."""
TABLE = """
[[backend]]
id = "remote-aer"
provider = "remote"
region = "lab"
compliance_zone = "onprem"
sovereign = true
url = "{url}"
ca = "{certificate}"
credential = "remote-aer"
"""

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("four-backends")]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with simulating(tmp_path_factory.mktemp("far")) as simulator:
        yield simulator.told


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, far: dict[str, Any]) -> Iterator[OwnPlane]:
    own = OwnPlane(tmp_path_factory.mktemp("four") / "home", config=TABLE.format(**far))
    own.ask("backends", "credential", "set", "remote-aer", "--from-file", far["token_file"])
    with own.running():
        own.ask("login", "--as", "engineer")
        until(lambda: {row["id"] for row in online(own)} >= set(BACKENDS), "all four are online")
        yield own


def online(plane: OwnPlane) -> list[dict[str, Any]]:
    return [row for row in plane.ask("backends", "list") if row["state"] == "online"]


def asked(folder: Path, backend: str) -> str:
    spec = bell()
    spec["execution"] = {"shots": SHOTS} | ({"backend_constraints": {"backend": backend}} if backend else {})
    path = folder / f"{backend or 'any'}.json"
    path.write_text(json.dumps(spec))
    return str(path)


def variation(counts: dict[str, int]) -> float:
    """Total variation between the counts and a perfect bell pair."""
    ideal = {"00": 0.5, "11": 0.5}
    return sum(abs(counts.get(bits, 0) / SHOTS - ideal.get(bits, 0.0)) for bits in {*counts, *ideal}) / 2


def test_one_spec_runs_on_four_backends_and_is_proven_on_each(plane: OwnPlane, tmp_path: Path) -> None:
    trust = str(tmp_path / "trust.json")
    plane.ask("trust", "export", "-o", trust)
    prices = {}
    for backend in BACKENDS:
        job = plane.ask("submit", asked(tmp_path, backend), "--wait")
        assert (job["state"], job["backend"]) == ("COMPLETED", backend)
        prices[backend] = job["cost"]["amount"]
        counts = plane.ask("result", job["job_id"])["quantum_result"]["counts"]
        assert sum(counts.values()) == SHOTS
        assert variation(counts) < MARGIN, f"{backend}: {counts}"
        bundle = tmp_path / f"{backend}.bundle"
        plane.ask("evidence", "get", job["job_id"], "-o", str(bundle))
        assert plane.ask("verify", str(bundle), "--trust", trust)["verdict"] == "valid"
        assert json.loads(bundle.read_bytes())["execution_metadata"]["backend"] == backend
    assert len(set(prices.values())) == len(BACKENDS), prices


def test_one_report_compares_all_four(plane: OwnPlane, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report = plane.ask("compare", asked(tmp_path, ""), "--backends", ",".join(BACKENDS), "--html", str(page))
    rows = {row["backend"]: row for row in report["backends"]}
    assert set(rows) == set(BACKENDS)
    assert all(row["state"] == "COMPLETED" for row in rows.values())
    assert {pair["verdict"] for pair in report["pairs"]} == {"equal"}
    assert "<script" not in page.read_text()
    assert all(name in page.read_text() for name in BACKENDS)


def test_what_a_far_simulator_is_told_with_stays_with_the_worker(plane: OwnPlane, far: dict[str, Any]) -> None:
    """S6: the token is in no file, row or process of the plane but encrypted."""
    token = Path(far["token_file"]).read_text().strip()
    found = [path for path in plane.home.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert found == []
    for process in plane.record.processes:
        for name in ("environ", "cmdline"):
            assert token.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()
    assert (plane.home / "keys").stat().st_mode & 0o077 == 0
