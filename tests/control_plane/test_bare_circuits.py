# SPDX-License-Identifier: Apache-2.0
"""A bare circuit file is wrapped in a spec that says its language (G1, N3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.commands._spec import read_body


class _Signed:
    """Who asks, of one project."""

    def ask(self, *_: object) -> dict[str, Any]:
        return {"tenant": "demo", "projects": ["demo"]}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("OPENQASM 2.0;", "QASM2"),
        ("// a comment\n/* OPENQASM 3; */\nOPENQASM\t 2;", "QASM2"),
        ("// not OPENQASM 2.0;\nOPENQASM 3;", "QASM3"),
        ("qubit q;", "QASM3"),
    ],
)
def test_the_language_is_what_the_first_statement_says(source: str, wanted: str, tmp_path: Path) -> None:
    file = tmp_path / "circuit.qasm"
    file.write_text(source)
    assert json.loads(read_body(_Signed(), file))["circuit"]["format"] == wanted
