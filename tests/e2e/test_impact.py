# SPDX-License-Identifier: Apache-2.0
"""Decisions made by `qcos demo-data`, and what another limit would have done to them, on a whole plane (G2)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from control_plane.policy.revision import default_folder
from tests.e2e.plane import Plane


def _candidate(folder: Path, name: str, **limits: Any) -> str:
    """A copy of the shipped policies with other limits of the plane."""
    made = folder / name
    shutil.copytree(default_folder(), made, ignore=shutil.ignore_patterns("__*"))
    file = made / "data" / "limits.json"
    document = json.loads(file.read_text())
    document["limits"]["default"] |= limits
    file.write_text(json.dumps(document))
    return str(made)


def test_what_another_limit_would_have_done_is_told_before_it_is_in_force(plane: Plane) -> None:
    """Also I5: more let in fails in CI until somebody has said, by project and reason, that it is meant."""
    made = plane.cli("demo-data", "decisions", "60", "--json").json
    assert made["decisions"] == 60 == made["admitted"] + sum(made["denied"].values())
    rows = plane.get("/policy/decisions?limit=1000", user="auditor")
    mine = [row for row in rows if row["input"] and row["input"]["job"]["justification"] == "made by qcos demo-data"]
    assert {row["state"] for row in mine} <= {"CANCELED", "SEALING", "DENIED"}
    assert len({(row["project"], row["input"]["principal"]["name"]) for row in mine}) > 20
    impact, since = ("policy", "impact"), ("--since", mine[0]["at"])

    unchanged = plane.cli(*impact, str(default_folder()), *since, "--json", user="auditor").json
    assert (unchanged["let_in"]["count"], unchanged["kept_out"]["count"]) == (0, 0)
    assert unchanged["unclear"]["not_reproduced"] == 0 < unchanged["control"]["checked"]

    narrower = _candidate(plane.folder, "narrower", max_shots=1000)
    report = plane.cli(*impact, narrower, *since, "--json", user="auditor").json
    lost = [row for row in mine if row["allow"] and row["input"]["job"]["shots"] > 1000]
    assert report["kept_out"]["count"] >= len(lost) > 0
    assert set(report["kept_out"]["upper"]) == {"USD"}
    assert "ALLOW → DENY" in plane.cli(*impact, narrower, *since, user="auditor").out

    anything = _candidate(plane.folder, "anything", purposes_by_department={"*": ["*"]})
    refused = plane.cli(*impact, anything, *since, "--fail-on-allow", user="auditor")
    keys = [line.split(": ")[1] for line in refused.err.splitlines()]
    assert refused.code == 1, refused
    assert keys, refused
    words = [word for key in keys for word in ("--acknowledge", key)]
    assert plane.cli(*impact, anything, *since, "--fail-on-allow", *words, user="auditor").code == 0


def test_what_cannot_be_meant_is_refused(plane: Plane) -> None:
    folder = str(default_folder())
    assert plane.cli("policy", "impact", folder, "--acknowledge", "nothing", user="auditor").code == 2
    assert plane.cli("policy", "impact", folder, "--since", "soon", user="auditor").code == 2
    assert plane.cli("demo-data", "decisions", "none").code == 2
