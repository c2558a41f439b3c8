# SPDX-License-Identifier: Apache-2.0
"""What is kept of OPA's decision log: words of the policies, and nobody's name, whatever an upload holds (I10)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from control_plane.policy.engine_log import intake

REVISION = "sha256:" + 64 * "a"
EVENT: dict[str, Any] = {
    "labels": {"id": "x"},
    "decision_id": "4ea636a5-2f0b-4b77-9b54-3e1c6e5d7a10",
    "bundles": {"qcos": {"revision": REVISION}},
    "path": "qcos/main/decision",
    "result": {
        "checks": [{"name": "access", "pass": False}, {"name": "quota", "pass": True}],
        "reasons": [{"code": "role_required", "rule": "access.role_required"}],
    },
    "erased": ["/input"],
    "timestamp": "2026-11-21T21:34:43.77569966Z",
    "requested_by": "10.0.0.9:4711",
}


def upload(*events: dict[str, Any]) -> bytes:
    return gzip.compress(json.dumps(events).encode())


def test_of_a_decision_its_checks_and_codes_are_kept() -> None:
    taken = intake.read(upload(EVENT))
    (row,) = taken.rows
    assert (row.revision, row.failed, row.codes) == (REVISION, ("access",), ("role_required",))
    assert (row.decision_id, taken.refused) == (EVENT["decision_id"], 0)
    assert intake.read(json.dumps([EVENT]).encode()) == taken


REFUSED = {
    "an input": {"input": {"principal": {"name": "Ann Author"}}},
    "a code that is a sentence": {"result": {"checks": [], "reasons": [{"code": "Ann Author may not", "rule": "x"}]}},
    "a check that is a sentence": {"result": {"checks": [{"name": "Ann", "pass": False}], "reasons": []}},
    "an answer as it was": {"result": "Ann Author"},
    "another revision's form": {"bundles": {"qcos": {"revision": "Ann Author"}}},
    "no bundle": {"bundles": {}},
    "an id that is none": {"decision_id": "Ann Author"},
    "a time without a zone": {"timestamp": "2026-11-21T21:34:43"},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_name_somebody_is_refused_and_counted(change: dict[str, Any]) -> None:
    taken = intake.read(upload(EVENT, EVENT | change))
    assert (len(taken.rows), taken.refused) == (1, 1)
    assert "Ann" not in repr(taken)


def test_what_is_no_log_is_refused() -> None:
    bomb = gzip.compress(b"[" + b" " * (intake.LARGEST + 2) + b"]")
    for content in (b"", b"{}", b"\x1f\x8b", upload(EVENT)[:-9], bomb, json.dumps([EVENT] * 20_001).encode()):
        with pytest.raises(ValueError):
            intake.read(content)
