# SPDX-License-Identifier: Apache-2.0
"""The page about a job's evidence, as somebody gets it from a running plane: made once, judged by others (G3, G4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from control_plane.db import Database, conninfo
from tests.documents import PASSED, attached, judge
from tests.e2e.plane import Answer, Plane, bell
from tests.e2e.test_evidence import denied

UNICODE = "Prüfung für Ωμέγα 量子 \u202e) Tj endobj"


def completed(plane: Plane) -> Any:
    return plane.run(bell(governance__justification=UNICODE))


def issued(plane: Plane) -> list[dict[str, Any]]:
    """What the ledger tells of every document that was issued."""
    with psycopg.connect(conninfo(Database.of_home(plane.home / "db").audit)) as conn:
        rows = conn.execute(
            "SELECT leaf FROM ledger.entry WHERE kind = 'evidence:document:issued' ORDER BY index"
        ).fetchall()
    return [json.loads(bytes(leaf)) for (leaf,) in rows]


@pytest.mark.parametrize("end", [completed, denied])
def test_a_job_has_one_document_whose_hash_is_in_the_ledger(plane: Plane, end: Callable[[Plane], Any]) -> None:
    """Two who ask at once get the same bytes; the bundle in it is the one that `bundle` gives."""
    job = end(plane)["job_id"]

    def ask(_: int) -> Answer:
        return plane.http("GET", f"/api/v1/jobs/{job}/evidence?format=pdf")

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first.status == second.status == 200, (first, second)
    assert first.headers["content-type"] == "application/pdf"
    assert first.body == second.body
    file = plane.folder / "page.pdf"
    assert plane.cli("evidence", "get", job, "--format", "pdf", "-o", str(file), user="engineer").code == 0
    assert file.read_bytes() == first.body
    assert judge(first.body, plane.trust()).indication == PASSED
    assert attached(first.body) == {"evidence.json": plane.bundle(job)}
    (told,) = [leaf for leaf in issued(plane) if leaf["body"]["job_id"] == job]
    assert told["tenant"] == "demo"
    assert told["body"]["sha256"] == "sha256:" + hashlib.sha256(first.body).hexdigest()


def test_another_tenants_document_does_not_exist(plane: Plane) -> None:
    """I7: nor is it made for whoever asks."""
    job = plane.run(bell())["job_id"]
    assert plane.http("GET", f"/api/v1/jobs/{job}/evidence?format=pdf", user="outsider").code == "not_found"
    assert not [leaf for leaf in issued(plane) if leaf["body"]["job_id"] == job]
