# SPDX-License-Identifier: Apache-2.0
"""Verifiers that this project didn't write take a job's evidence and refuse changed copies (G3, I4).

`make test-verifiers` shows the same as a table, with more bits and with the list of what each doesn't notice.
"""

from __future__ import annotations

import pytest

from tests.e2e.plane import Plane, bell
from tests.verifiers.gather import gathered
from tests.verifiers.stock import VERIFIERS, Evidence, Verifier, tried

STEP = 40


@pytest.fixture(scope="module")
def evidence(plane: Plane) -> Evidence:
    return gathered(plane, plane.run(bell())["job_id"])


@pytest.mark.parametrize("verifier", VERIFIERS, ids=lambda one: f"{one.name}: {one.takes}")
def test_a_stock_verifier_accepts_evidence_and_refuses_changed_copies(verifier: Verifier, evidence: Evidence) -> None:
    """G3, I4: but for what it is known to pass over, which is named with it."""
    if verifier.version() is None:
        pytest.skip(verifier.missing())
    row = tried(verifier, evidence, STEP)
    assert row.accepted
    assert row.unexpected == ()
    assert row.refused > 0
