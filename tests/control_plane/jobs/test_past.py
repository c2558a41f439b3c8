# SPDX-License-Identifier: Apache-2.0
"""A tenant's own last jobs, as routing counts them: only what was the backend's doing speaks against it (G9, I7)."""

from __future__ import annotations

from typing import Any

from control_plane.jobs.past import RECENT, Past, fold


def job(backend: str | None = "a", final: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    plain = {"code": None, "wait_s": 1.0, "recent": True, "route": None}
    return {"backend": backend, "final": final, **plain, **more}


def moved(backend: str, code: str) -> dict[str, Any]:
    return {"backend": backend, "verdict": "chosen", "failed": {"code": code, "detail": ""}}


def test_only_the_backends_own_faults_count_as_failures() -> None:
    rows = [
        job(),
        job(final="FAILED", code="backend_failed"),
        job(final="UNCERTAIN", code="outcome_unknown"),
        job(final="FAILED", code="circuit_invalid"),
        job(final="CANCELED", code="canceled"),
        job(None, final="DENIED", code="policy_denied"),
    ]
    assert fold(rows) == {"a": Past(1, 3, 1.0)}


def test_an_attempt_that_failed_over_counts_where_it_failed() -> None:
    """What a backend can't express is no fault of it."""
    rows = [job("b", route=[moved("a", "backend_failed"), moved("c", "program_unsupported"), {"backend": "b"}])]
    assert fold(rows) == {"a": Past(0, 1), "b": Past(1, 1, 1.0)}


def test_the_queue_is_the_median_of_the_last_waits_of_the_hour() -> None:
    recent = [job(wait_s=wait) for wait in (1.0, 2.0, 9.0)]
    old = [job(wait_s=500.0, recent=False)] * 50
    assert fold([*recent, *old])["a"].queue_s == 2.0
    assert fold([job(wait_s=1.0)] * RECENT + [job(wait_s=99.0)] * RECENT)["a"].queue_s == 1.0
    assert fold(old)["a"].queue_s == 0.0
