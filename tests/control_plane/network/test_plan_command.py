# SPDX-License-Identifier: Apache-2.0
"""`qcos plan` shows who would run what, and draws it where it is told to (N4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import pytest

from control_plane.cli import build
from control_plane.errors import Refused
from control_plane.network.planning import shown
from hal_drivers.p2p.plan import Infeasible, PlanConfig
from hal_drivers.p2p.planner import plan
from tests.hal_drivers.p2p.programs import measure, network, program

PROGRAM = program(("bell_pair", (0, 1)), ("distillation", (0,)), measure(0, 0), measure(2, 1), qubits=3, bits=2)


class Answering:
    """A plane that is asked for one plan."""

    asked: ClassVar[list[Any]] = []

    def __init__(self, home: Path) -> None:
        del home

    def ask(self, method: str, path: str, body: bytes = b"", *, limit_s: float = 0) -> Any:
        del limit_s
        if path == "/api/v1/whoami":
            return {"tenant": "demo", "projects": ["demo"]}
        self.asked.append((method, path, json.loads(body)))
        known, config = network(), PlanConfig()
        return json.loads(json.dumps(shown(plan(PROGRAM, known, config, 1, None), PROGRAM, known, config)))


@pytest.fixture
def circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to plan, and the plane that answers."""
    monkeypatch.setattr("control_plane.client.Client", Answering)
    monkeypatch.setattr(Answering, "asked", [])
    file = tmp_path / "c.qasm"
    file.write_text("OPENQASM 3;\n")
    return file


def run(*words: str) -> None:
    arguments = build().parse_args(["plan", *words])
    arguments.run(arguments)


def test_a_plan_is_told_in_rows_and_drawn(circuit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = circuit.with_suffix(".svg")
    run(str(circuit), "--svg", str(picture), "--alias-model", "swap")
    told = capsys.readouterr().out
    rows = [line.split("\t") for line in told.splitlines()]
    assert ["f1", "2", "bell_pair,distillation,measurement_feedforward", "", "n0", "n1,n2"] in rows
    assert "distillation is abstract" in told
    assert ET.fromstring(picture.read_text()).tag.endswith("svg")
    method, path, spec = Answering.asked[0]
    assert (method, path, spec["circuit"]["alias_model"]) == ("POST", "/api/v1/plans", "swap")


def test_a_plan_is_one_document_or_one_picture(circuit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(str(circuit), "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["plan_id"] == found["plan"]["plan_id"]
    assert "alias_model" not in Answering.asked[0][2]["circuit"]
    run(str(circuit), "--svg", "-")
    assert capsys.readouterr().out.startswith("<svg")
    with pytest.raises(Refused, match="No such file"):
        run(str(circuit), "--svg", str(circuit.parent / "none" / "p.svg"))


def test_what_is_missing_is_an_error_with_the_part_as_its_field() -> None:
    drawn = plan(PROGRAM, network(), PlanConfig(), 1, frozenset())
    assert isinstance(drawn, Infeasible)
    with pytest.raises(Refused) as refused:
        shown(drawn, PROGRAM, network(), PlanConfig())
    assert refused.value.code == "plan_infeasible"
    assert [error["field"] for error in refused.value.errors] == ["f1", "f2"]
