# SPDX-License-Identifier: Apache-2.0
"""One spec on several backends: governed on each, several prices, bundles that verify, one report (G14)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import Plane, bell

WANTED = ("aer", "braket-local", "ibm-fake")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "bell.json"
    path.write_text(json.dumps(bell(execution={"shots": 1000, "seed": 42})))
    return path


@pytest.fixture(scope="module")
def there(plane: Plane) -> list[str]:
    """The simulators of profile dev, all of them there: `make setup` brings what they need."""
    online = {one["id"] for one in plane.get("/backends") if one["state"] == "online"}
    assert online >= set(WANTED)
    return list(WANTED)


@pytest.fixture(scope="module")
def found(plane: Plane, spec: Path, there: list[str]) -> Any:
    names = ",".join([*there, "nowhere"])
    page = str(spec.with_suffix(".html"))
    ran = plane.cli("compare", str(spec), "--backends", names, "--html", page, "--json", user="engineer")
    assert ran.code == 0, ran.err
    return ran.json


def test_each_backend_has_its_own_price_and_a_denial_is_a_row(found: Any, there: list[str]) -> None:
    by_name = {one["backend"]: one for one in found["backends"]}
    prices = {by_name[name]["cost"]["amount"] for name in there}
    assert len(prices) == len(there)
    assert all(sum(by_name[name]["counts"].values()) == 1000 for name in there)
    assert all(by_name[name]["depth"] >= 2 and by_name[name]["calibration"]["id"] for name in there)
    assert (by_name["nowhere"]["state"], by_name["nowhere"]["error"]["code"]) == ("DENIED", "policy_denied")


def test_honest_simulators_are_equal_within_the_margin(found: Any, there: list[str]) -> None:
    """The same counts within statistical error."""
    assert len(found["pairs"]) == len(there) * (len(there) - 1) // 2
    assert {pair["verdict"] for pair in found["pairs"]} == {"equal"}


def test_each_bundle_verifies_and_all_are_of_one_workflow(
    plane: Plane, found: Any, there: list[str], tmp_path: Path
) -> None:
    (tmp_path / "trust.json").write_bytes(plane.trust())
    for one in found["backends"]:
        if one["backend"] in there:
            (tmp_path / "bundle.json").write_bytes(plane.bundle(one["job_id"]))
            ran = plane.cli("verify", str(tmp_path / "bundle.json"), "--trust", str(tmp_path / "trust.json"), "--json")
            assert ran.json["verdict"] == "valid", ran.json
    listed = plane.get(f"/jobs?workflow={found['workflow']}")
    assert {job["job_id"] for job in listed} == {one["job_id"] for one in found["backends"]}


def test_the_page_is_written_and_the_table_told(plane: Plane, found: Any, spec: Path) -> None:
    assert found["verdict"]["word"] in spec.with_suffix(".html").read_text()
    ran = plane.cli("compare", str(spec), "--backends", "aer,nowhere", "--shots", "10", user="engineer")
    assert (ran.code, "nothing to compare" in ran.out) == (1, True)


@pytest.mark.parametrize("names", ["aer", "aer,aer", "aer,", ","])
def test_fewer_than_two_backends_is_a_usage_fault(plane: Plane, spec: Path, names: str) -> None:
    ran = plane.cli("compare", str(spec), "--backends", names, user="engineer")
    assert (ran.code, ran.err.partition(":")[0]) == (2, "usage")
