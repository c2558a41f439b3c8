# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document against a running plane, by schemathesis: no request made from it, and none made to break it, is
answered otherwise than it says (G1, N13).

All of its checks: no 5xx, status, media type, headers and schema as documented, wrong data refused, right data taken,
methods and credentials not ignored, links followed. `make fuzz-http` gives each role `QCOS_FUZZ_S` seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.plane import Plane

ROOT = Path(__file__).parents[2]
OPERATIONS = sum(len(item) for item in json.loads((ROOT / "docs" / "openapi.json").read_bytes())["paths"].values())
SECONDS = os.environ.get("QCOS_FUZZ_S")
pytestmark = pytest.mark.timeout(1_200 if SECONDS else 180)


@pytest.fixture(scope="module")
def own() -> Iterator[Plane]:
    """A plane of its own: requests made from the document set budgets that other tests' jobs would meet."""
    plane = Plane(QCOS_WORKERS="1", QCOS_WAIT_LIMIT_S="1", QCOS_RATE_BURST="100000", QCOS_RATE_REQUESTS_PER_S="10000")
    plane.start()
    yield plane
    plane.stop()


@pytest.mark.parametrize("role", ["engineer", "admin", "auditor", "outsider", "nobody"])
def test_a_plane_answers_as_its_document_says(own: Plane, role: str) -> None:
    bound = ["--max-time", SECONDS] if SECONDS else ["--phases", "examples,coverage", "--max-examples", "5"]
    signed_in = [] if role == "nobody" else ["--header", f"Authorization: Bearer {own.tokens[role]}"]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
            *("run", f"{own.status['url']}/api/v1/openapi.json", *bound, *signed_in),
            # One worker: two threads that parse Python at a time are more than CPython 3.11's ast can take.
            *("--seed", "1", "--generation-database", "none", "--workers", "1", "--no-color"),
        ],
        cwd=own.folder,
        capture_output=True,
        check=False,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert f"Tested: {OPERATIONS}\n" in ran.stdout, ran.stdout[-2000:]


def test_after_all_of_it_ledger_and_rows_agree(own: Plane) -> None:
    assert own.http("GET", "/api/v1/ready", user=None).json["ready"]
    assert own.cli("ledger", "verify", "--json").json["ok"] is True
    assert json.loads(own.cli("ledger", "replay", "--compare", "--json").out)["differences"] == []
