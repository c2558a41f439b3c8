# SPDX-License-Identifier: Apache-2.0
"""What nodes ask flows from their enrolment to quote, hold, gate, charge and evidence (N14, G6, G7, I3)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hal_drivers.p2p.faults import Fault, write_faults
from tests.own_plane import OwnPlane, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]  # a plane and two labs start for the first of them
PAIR = "OPENQASM 3; qubit[2] q; bit[2] c; bell_pair q[0], q[1]; c = measure q;"
TARIFF = {1000: Decimal("0.60"), 5000: Decimal("1.08")}
"""0.48 a task and 0.00012 a shot."""


class Priced:
    """A plane whose network is two labs' nodes: `cheap` asks 0.01 and 0.0001 a shot, `dear` 0.05 and 0.001."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.plane = OwnPlane(home / "plane", config="[network]\nenabled = true\nprobe_s = 3600\n", QCOS_WORKERS="1")
        stack.enter_context(self.plane.running())
        self.plane.ask("login", "--as", "admin")
        bootstrap = self.plane.http("GET", "/api/v1/bootstrap/libp2p")[1]
        self.homes = {name: home / name for name in ("cheap", "dear")}
        started = {name: self._start(stack, name, json.dumps(bootstrap)) for name in self.homes}
        self.ids: dict[str, str] = {}
        for name, fragment, shot in (("cheap", "0.01", "0.0001"), ("dear", "0.05", "0.001")):
            out = started[name].stdout
            assert out is not None
            self.ids[name] = json.loads(out.readline())["node_id"]
            facts = {"organisation": name, "region": "eu", "compliance_zone": "onprem", "sovereign": True}
            prices = {"price_per_fragment": fragment, "price_per_shot": shot, "currency": "USD"}
            self._post("", {"peer_id": self.ids[name]} | facts | prices)
            self._post(f"/{self.ids[name]}/action", {"action": "approve"})
        until(self._judged, "both are judged in all that they offer", 200, every_s=0.2)
        self.plane.ask("login", "--as", "engineer")
        until(self._online, "the backend is online", every_s=0.2)

    def _start(self, stack: ExitStack, name: str, bootstrap: str) -> subprocess.Popen[str]:
        address = next(word for word in json.loads(bootstrap)["listen_addrs"])
        words = ("node", "run", "--home", str(self.homes[name]), "--bootstrap", address, "--capacity", "4")
        command = self.plane.command(*words, "--fault-file", "--json")
        made = subprocess.Popen(command, env=self.plane.environment, stdout=subprocess.PIPE, text=True)
        assert made.stdout is not None
        stack.callback(made.stdout.close)
        stack.callback(made.wait)
        stack.callback(made.kill)
        return made

    def _post(self, path: str, body: dict[str, Any]) -> None:
        status, answer = self.plane.http("POST", f"/api/v1/enrollment/peers{path}", body)
        assert status < 300, answer

    def _judged(self) -> bool:
        judged = self.plane.query("SELECT count(DISTINCT (peer_id, service)) FROM network.quality")[0][0]
        peers = self.plane.http("GET", "/api/v1/discovery/peers")[1]
        return judged == 14 and [peer["state"] for peer in peers] == ["online"] * 2

    def _online(self) -> bool:
        return any(
            one["state"] == "online" for one in self.plane.http("GET", "/api/v1/backends")[1] if one["id"] == "p2p"
        )

    def spec(self, folder: Path, shots: int) -> str:
        spec = {
            "circuit": {"format": "QASM3", "source": base64.b64encode(PAIR.encode()).decode()},
            "execution": {"shots": shots},
            "governance": {"project": "demo", "classification": "internal", "purpose": "benchmark"},
        }
        path = folder / f"{shots}.json"
        path.write_text(json.dumps(spec))
        return str(path)

    def money(self) -> tuple[Decimal, Decimal]:
        (budget,) = self.plane.ask("budget", "show")
        return Decimal(budget["held"]), Decimal(budget["captured"])

    def fees(self, job_id: str, folder: Path) -> str:
        """What `verify` says of them."""
        self.plane.ask("evidence", "get", job_id, "-o", str(folder / "bundle.json"))
        self.plane.ask("trust", "export", "-o", str(folder / "trust.json"))
        report = self.plane.ask("verify", str(folder / "bundle.json"), "--trust", str(folder / "trust.json"))
        assert report["verdict"] == "valid", report["reason"]
        return next((str(one["detail"]) for one in report["checks"] if one["name"] == "node_fees"), "")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Priced]:
    with ExitStack() as stack:
        yield Priced(tmp_path_factory.mktemp("priced"), stack)


def test_a_job_holds_what_the_dearest_may_ask_and_pays_who_ran_it(priced: Priced, tmp_path: Path) -> None:
    plane, spec = priced.plane, priced.spec(tmp_path, 1000)
    quote = plane.ask("submit", spec, "--dry-run")["cost"]
    most = TARIFF[1000] + 2 * (Decimal("0.05") + 1000 * Decimal("0.001"))
    assert (Decimal(quote["amount"]), quote["basis"]) == (most, "upper_bound"), (
        "a fragment a qubit, each at the dearest"
    )
    _, before = priced.money()
    job = plane.ask("submit", spec, "--wait")
    paid = TARIFF[1000] + Decimal("0.01") + 1000 * Decimal("0.0001")
    assert (job["state"], Decimal(job["cost"]["amount"]), Decimal(job["cost"]["held"])) == ("COMPLETED", paid, most)
    assert priced.money() == (Decimal(0), before + paid)
    (ran,) = plane.ask("result", job["job_id"])["fragment_results"]
    assert ran["node"] == priced.ids["cheap"]
    assert priced.fees(job["job_id"], tmp_path) == "0.11 of the 0.11 that the accepted nodes ask for"


def test_a_fallback_is_paid_at_its_price_and_who_was_tried_in_vain_is_not(priced: Priced, tmp_path: Path) -> None:
    faults = priced.homes["cheap"] / "faults.json"
    try:
        write_faults(faults, (Fault("stray_bits"),))
        job = priced.plane.ask("submit", priced.spec(tmp_path, 1000), "--wait")
    finally:
        write_faults(faults, ())
    (ran,) = priced.plane.ask("result", job["job_id"])["fragment_results"]
    assert [one["node"] for one in ran["attempts"]] == [priced.ids["cheap"], priced.ids["dear"]]
    assert Decimal(job["cost"]["amount"]) == TARIFF[1000] + Decimal("1.05")
    assert priced.fees(job["job_id"], tmp_path) == "1.05 of the 1.05 that the accepted nodes ask for"


def test_the_gate_refuses_a_plan_whose_nodes_may_ask_for_more_than_is_passed_on(priced: Priced, tmp_path: Path) -> None:
    """The cheap one would do, but its fallback's 5.05 are above the rate card's cap of 5."""
    _, before = priced.money()
    said = priced.plane.run("submit", priced.spec(tmp_path, 5000), "--wait", "--json")
    assert said.returncode == 1
    job: dict[str, Any] = priced.plane.ask("jobs", "show", json.loads(said.stdout)["job_id"])
    assert (job["state"], job["error"]["code"]) == ("FAILED", "price_changed")
    assert "may ask for 5.05 USD, the rate card passes on up to 5" in job["error"]["detail"]
    assert (Decimal(job["cost"]["held"]), Decimal(job["cost"]["amount"])) == (TARIFF[5000] + 5, Decimal(0))
    assert priced.money() == (Decimal(0), before)
    assert "fragments" not in job, "no node has received anything"
    priced.fees(job["job_id"], tmp_path)
