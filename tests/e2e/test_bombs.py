# SPDX-License-Identifier: Apache-2.0
"""Circuits made to break a parser, sent through the API: each is refused by its code, and the plane goes on (N13)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.plane import Plane, bell, encoded

BOMBS = sorted((Path(__file__).parents[1] / "vectors" / "circuits" / "bombs").iterdir())
FORMATS = {".qasm2": "QASM2", ".qasm3": "QASM3", ".qpy": "QPY"}
CODES = ("circuit_too_complex", "circuit_invalid")


@pytest.mark.parametrize("share", [0, 1, 2, 3])
def test_each_bomb_is_refused_by_its_code_and_a_bell_runs_after_them(plane: Plane, share: int) -> None:
    """Together, as an attacker would send them."""
    queued: dict[str, str] = {}
    for file in BOMBS[share::4]:
        spec = bell(circuit__source=encoded(file.read_bytes()), circuit__format=FORMATS[file.suffix])
        answer = plane.submit(json.dumps(spec).encode())
        if answer.status == 202:
            queued[answer.json["job_id"]] = file.name
        else:
            assert answer.status == 400, file.name
            assert answer.code in CODES, file.name
    for job_id, name in queued.items():
        job = plane.end_of(job_id)
        assert job["state"] == "FAILED", name
        assert job["error"]["code"] in CODES, name
        assert job["cost"]["amount"] == "0", name
    assert plane.run(bell())["state"] == "COMPLETED"
    restarts = {process["name"]: process["restarts"] for process in plane.cli("status", "--json").json["processes"]}
    assert set(restarts.values()) == {0}
