# SPDX-License-Identifier: Apache-2.0
"""The registry as people see it: which backend, why, at what price; figures of own jobs; routes of dry runs (G14)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.plane import Plane, bell

LISTED = {"id", "provider", "state", "qubits", "formats", "region", "compliance_zone", "reason"}


@pytest.fixture(scope="module")
def done(plane: Plane) -> Any:
    """A completed bell on aer."""
    return plane.run(bell(execution__backend_constraints={"backend": "aer"}))


def test_a_list_names_each_backend_and_why_it_is_up_or_down(plane: Plane) -> None:
    found = plane.cli("backends", "list", "--json", user="engineer").json
    assert all(set(one) >= LISTED for one in found)
    assert next(one for one in found if one["id"] == "aer")["state"] == "online"
    assert all(one["reason"] for one in found if one["state"] != "online")


def test_one_backend_is_shown_with_capability_calibration_queue_and_prices(plane: Plane, done: Any) -> None:
    found = plane.cli("backends", "show", "aer", "--json", user="engineer").json
    assert (found["id"], found["state"], found["simulator"]) == ("aer", "online", True)
    assert {"QASM3", "QASM2"} <= set(found["capability"]["formats"])
    assert found["calibration"]["errors"] == {"one_qubit": 0, "two_qubit": 0, "readout": 0}
    assert found["calibration"]["hash"] in {one["hash"] for one in found["calibrations"]}
    assert found["queue_history"]
    assert all(one["online"] for one in found["queue_history"][-1:])
    (price,) = (one for one in found["prices"] if one["in_force"])
    assert price["at_most_for_1000"] == "0.52"
    bill = plane.cli("rates", "price", "aws-braket", "braket-local", "--fact", "simulator_seconds=2", user="engineer")
    assert bill.out.splitlines()[-1].startswith("0.423 USD by card own"), bill.err  # 0.32 + 0.09 + 0.013
    shown = plane.cli("backends", "show", "aer", user="engineer")
    assert (shown.code, "sha256:" in shown.out) == (0, True)
    assert done["backend"] == "aer"


def test_prices_are_for_who_may_see_rates(plane: Plane) -> None:
    assert plane.get("/backends/aer", user="user")["prices"] == []


@pytest.mark.parametrize("name", ["nothing", "a%00b", "..%2Fjobs"])
def test_a_backend_that_is_not_there_is_not_found(plane: Plane, name: str) -> None:
    assert plane.http("GET", f"/api/v1/backends/{name}", user="engineer").code == "not_found"


def test_figures_are_of_the_tenants_own_jobs(plane: Plane, done: Any) -> None:
    """I7: another tenant, on the same backend, has no more than its own."""
    found = plane.cli("backends", "figures", "--since", "1d", "--json", user="finops").json
    figures = next(one for one in found["backends"] if one["backend"] == done["backend"])
    assert figures["completed"] >= 1
    assert 0 < figures["success_interval"][0] <= figures["success_rate"] <= figures["success_interval"][1] <= 1
    assert figures["queue_s"]["p50"] <= figures["queue_s"]["p95"]
    theirs = sum(one["jobs"] for one in plane.get("/backends/figures", user="outsider")["backends"])
    assert theirs <= len(plane.get("/jobs?limit=100", user="outsider")) < 100
    assert plane.get("/backends/figures?provider=nobody", user="outsider")["backends"] == []
    assert plane.get("/backends/figures?provider=nobody", user="finops")["backends"] == []
    assert plane.cli("backends", "figures", user="auditor").code == 0


@pytest.mark.parametrize("since", ["0d", "31", "-1d", "367d", "9999h", "d", "1w", "%00"])
def test_a_period_that_is_none_is_refused_by_name(plane: Plane, since: str) -> None:
    answer = plane.http("GET", f"/api/v1/backends/figures?since={since}", user="finops")
    assert (answer.code, answer.fields) == ("request_invalid", ["since"])


def test_who_may_see_no_costs_sees_no_figures(plane: Plane) -> None:
    assert plane.http("GET", "/api/v1/backends/figures", user="user").status == 403


def test_a_dry_run_shows_every_backend_and_why(plane: Plane) -> None:
    """G9: the losers with their reasons, before anything is stored."""
    ran = plane.cli("submit", "-", "--dry-run", "--json", user="engineer", given=json.dumps(bell()).encode())
    listed = {one["id"] for one in plane.get("/backends")}
    assert {line["backend"] for line in ran.json["route"]} == listed
    assert all(line["reason"] for line in ran.json["route"])
    assert [line["verdict"] for line in ran.json["route"]].count("chosen") == 1


def test_a_price_above_the_jobs_own_bound_refuses_it_and_stores_nothing(plane: Plane) -> None:
    """The bound is the asker's own word: no denial, no entry, and it says what each backend costs."""
    spec = bell(execution__max_price={"amount": "0.01", "currency": "USD"})
    answer = plane.submit(spec)
    assert (answer.status, answer.code) == (422, "max_price_exceeded")
    assert "aer costs up to 0.52" in answer.json["detail"]
    other = plane.submit(bell(execution__max_price={"amount": "1", "currency": "EUR"}))
    assert (other.code, other.fields) == ("spec_invalid", ["execution.max_price.currency"])
    wrong = plane.submit(bell(execution__max_price={"amount": "-1", "currency": "USD"}))
    assert wrong.fields == ["execution.max_price.amount"]


@pytest.mark.parametrize("objective", ["cheapest", "fastest", "best", "balanced"])
def test_an_objective_is_kept_and_told(plane: Plane, objective: str) -> None:
    spec = bell(execution__objective=objective, execution__backend_constraints={"allowed_providers": ["aer"]})
    job = plane.run(spec)
    assert job["state"] == "COMPLETED"
    chosen = next(line["reason"] for line in job["route"] if line["verdict"] == "chosen")
    assert chosen.startswith(objective) or objective == "balanced"
