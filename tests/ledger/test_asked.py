# SPDX-License-Identifier: Apache-2.0
"""S1, G3: a job's evidence is held against the envelope that asked for it, and against its key's enrolment."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.jobs import accepted, reading
from ledger.asked import agree
from ledger.errors import EvidenceInvalid
from ledger.verify import verify
from tests.control_plane.jobs.desk import bell
from tests.ledger.asking import NAMES, TRUST, bundle, cases, written

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CASES = {name: (good, data) for name, good, data in cases()}


def failed(data: bytes) -> list[str]:
    return [check.name for check in verify(data, TRUST, NOW).checks if not check.ok]


@pytest.mark.parametrize("name", NAMES)
def test_a_real_planes_signed_jobs_are_valid(name: str) -> None:
    report = verify(written(bundle(name)), TRUST, NOW)
    assert report.verdict == "valid", report.reason
    assert {"envelope", "enrolment"} <= {check.name for check in report.checks}


@pytest.mark.parametrize("name", CASES)
def test_another_envelope_in_its_place_is_judged_by_what_it_says(name: str) -> None:
    """The Statement commits to the envelope that came, so each is invalid; here it is for its own reason, or not."""
    good, data = CASES[name]
    assert ("envelope" in failed(data)) is not good


def enrolment(change: Any) -> bytes:
    """The real bundle, its enrolment's leaf changed."""
    found = bundle("jose")
    leaf = json.loads(base64.b64decode(found["proof"]["enrolment"]["leaf"]))
    change(leaf)
    found["proof"]["enrolment"]["leaf"] = base64.b64encode(written(leaf)).decode()
    return written(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda leaf: leaf.update(actor="a-somebody"),
        lambda leaf: leaf.update(tenant="other"),
        lambda leaf: leaf.update(kind="identity:signing_key:revoked"),
        lambda leaf: leaf.update(index=10_000),
        lambda leaf: leaf.update(time="2026-12-24T00:00:00.000Z"),
        lambda leaf: leaf.update(entry_id="00000000-0000-0000-0000-000000000000"),
        lambda leaf: leaf["body"].update(key_id="A" * 43),
        lambda leaf: leaf["body"].update(name="another word"),  # nothing that is looked at: the path finds it
    ],
)
def test_an_enrolment_that_is_not_the_askers_own_is_found(change: Any) -> None:
    assert "enrolment" in failed(enrolment(change))


def test_a_path_that_leads_elsewhere_is_found() -> None:
    found = bundle("jose")
    path = found["proof"]["enrolment"]["path"]
    path[0] = base64.b64encode(bytes(32)).decode()
    assert failed(written(found)) == ["enrolment"]


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64) | st.integers(-(10**6), 10**6)
specs = st.fixed_dictionaries(
    {
        "parameters": st.dictionaries(
            st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=1, max_size=5), numbers, max_size=3
        ),
        "seed": st.none() | st.integers(0, 2**31 - 1),
        "justification": st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=0x2000), max_size=20),
        "retention_days": st.none() | st.integers(1, 400),
    }
)


@given(specs)
def test_what_is_accepted_agrees_with_what_was_asked_for(drawn: dict[str, Any]) -> None:
    """Whatever a spec says and however its numbers are written; and with one number changed it doesn't."""
    asked = copy.deepcopy(bell())
    asked["circuit"]["parameters"] = drawn["parameters"]
    asked["execution"]["seed"] = drawn["seed"]
    asked["governance"]["justification"] = drawn["justification"]
    if drawn["retention_days"] is not None:
        asked["evidence_requirements"] = {"retention_days": drawn["retention_days"]}
    body = json.dumps(asked).encode()
    held = msgspec.json.decode(msgspec.json.encode(accepted.canonical(reading.parse(body))))
    agree(msgspec.json.decode(body), held, "spec", 0)
    asked["execution"]["shots"] = asked["execution"].get("shots", 0) + 1
    with pytest.raises(EvidenceInvalid):
        agree(asked, held, "spec", 0)
