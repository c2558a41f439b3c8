# SPDX-License-Identifier: Apache-2.0
"""Did charges fall into the intervals that their jobs were given? What estimates covered, by backend (G7, I7).

Each job keeps its interval, so this judges what was promised then, not what would be now. An interval that was all that
is possible, or a price that the card alone told, promises nothing and isn't judged. `drift`: the stated share lies
above Wilson's interval of the measured one, so that chance hardly explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from control_plane.compare.statistics import wilson
from control_plane.jobs.expected import drifts
from finops import money
from finops.estimate import COVERAGE


def document(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One document a backend; what wasn't judged has no coverage."""
    return [_of(row) for row in rows]


def _of(row: Mapping[str, Any]) -> dict[str, Any]:
    outside = row["below"] + row["above"]
    inside, times = row["judged"] - outside, row["judged"]
    low, high = wilson(inside, times)
    return {
        **{name: row[name] for name in ("backend", "jobs", "judged", "below", "above", "without", "certain")},
        "inside": inside,
        "stated": money.text(COVERAGE),
        "coverage": round(inside / times, 6) if times else None,
        "coverage_interval": [round(low, 6), round(high, 6)] if times else None,
        "width": round(row["width"], 6) if row["width"] is not None else None,
        "drift": drifts(inside, times),
    }
