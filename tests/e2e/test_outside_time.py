# SPDX-License-Identifier: Apache-2.0
"""A plane with an outside time-stamping authority: openssl's, over HTTP on loopback (decision 3, G3)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.verify import Report, verify
from tests.outside_time import OutsideTime, make_authority, needs_openssl
from tests.own_plane import OwnPlane, until

pytestmark = needs_openssl
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def outside() -> Iterator[OutsideTime]:
    """The authority, in a short folder, for its plane's sockets lie below it."""
    room = Path(tempfile.mkdtemp(prefix="qcos-t-"))
    make_authority(room)
    with OutsideTime(room).serving() as serving:
        yield serving
    shutil.rmtree(room)


def configured(outside: OutsideTime, *, with_it: bool = True) -> OwnPlane:
    """The plane of the folder, as its administrator wrote the settings."""
    named = f"tsa_url = '{outside.url}'\ntsa_certificates = '{outside.room / 'chain.pem'}'\n" if with_it else ""
    return OwnPlane(outside.room / "home", config="workers = 1\n" + named)


def exported(plane: OwnPlane, outside: OutsideTime) -> bytes:
    file = outside.room / "trust.json"
    plane.ask("trust", "export", "-o", str(file))
    return file.read_bytes()


def bundle(plane: OwnPlane, outside: OutsideTime, job_id: str) -> bytes:
    file = outside.room / "bundle.json"
    plane.ask("evidence", "get", job_id, "-o", str(file))
    return file.read_bytes()


def ran(plane: OwnPlane) -> Any:
    return plane.ask("submit", str(EXAMPLES / "bell.json"), "--wait")


def state(plane: OwnPlane, job_id: str) -> str:
    return str(plane.http("GET", f"/api/v1/jobs/{job_id}")[1]["state"])


def judge(data: bytes, trust: bytes) -> Report:
    return verify(data, trust, datetime.now(UTC))


def test_evidence_of_a_plane_with_an_outside_authority_has_external_time(outside: OutsideTime) -> None:
    """G3: both stamp, the trust file lists both, the job waits for both, and what came before stays valid."""
    with configured(outside, with_it=False).running() as plane:
        plane.ask("login", "--as", "engineer")
        before = bundle(plane, outside, ran(plane)["job_id"])

    with configured(outside).running() as plane:
        plane.ask("login", "--as", "engineer")
        during = bundle(plane, outside, ran(plane)["job_id"])
        outside.answering = False
        waiting = plane.ask("submit", str(EXAMPLES / "bell.json"))["job_id"]
        until(lambda: state(plane, waiting) == "SEALING", "the job has run")
        asked = outside.asked
        until(lambda: outside.asked > asked, "the sealer asks for a token")
        status, problem = plane.http("GET", f"/api/v1/jobs/{waiting}/evidence")
        assert (status, problem["code"], state(plane, waiting)) == (409, "evidence_pending", "SEALING")
        outside.answering = True
        until(lambda: state(plane, waiting) == "COMPLETED", "the missing token is asked for again")
        late = bundle(plane, outside, waiting)
        trust = exported(plane, outside)

    stamped = [stamp["operator"] for stamp in json.loads(during)["signatures"]["timestamp_authority"]]
    assert stamped == ["self", "external"] * 2
    assert [entry["operator"] for entry in json.loads(trust)["tsa"]] == ["self", "external"]
    for data, assurance in ((before, "self_issued"), (during, "external_time"), (late, "external_time")):
        report = judge(data, trust)
        assert (report.verdict, report.assurance) == ("valid", assurance), report.reason

    with configured(outside, with_it=False).running() as plane:
        plane.ask("login", "--as", "engineer")
        after = bundle(plane, outside, ran(plane)["job_id"])
        trust = exported(plane, outside)
    assert json.loads(trust)["tsa"][1]["valid_until"] is not None
    for data, assurance in ((before, "self_issued"), (during, "external_time"), (after, "self_issued")):
        report = judge(data, trust)
        assert (report.verdict, report.assurance) == ("valid", assurance), report.reason
