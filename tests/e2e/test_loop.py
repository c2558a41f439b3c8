# SPDX-License-Identifier: Apache-2.0
"""The loop of examples/vqe.py, run as it stands against a running plane (S9)."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.plane import EXAMPLES, Plane


def test_the_loop_finds_the_ground_state_of_hydrogen(plane: Plane) -> None:
    project = plane.project("1000.00")
    told = {"QCOS_URL": plane.status["url"], "QCOS_TOKEN": plane.tokens["engineer"]}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "vqe.py"), project],
        env=dict(os.environ) | told,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    workflow = ran.stdout.split()[0]
    listed = plane.get(f"/jobs?workflow={workflow}")
    assert [job["workflow"]["step"] for job in listed] == [5, 4, 3, 2, 1, 0]
    assert {job["state"] for job in listed} == {"COMPLETED"}
