# SPDX-License-Identifier: Apache-2.0
"""What is said of a set of measurements: how many, the middle, the spread. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypeAlias

Spread: TypeAlias = dict[str, float]
"""`n`, `p50`, `p25`, `p75`, `p99`, `min`, `max`, in the unit of what was measured."""


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all lie at or below (nearest rank): one that was measured."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """The figures of at least one measurement; the median of an even number lies between its two middle ones."""
    return {
        "n": len(values),
        "p50": statistics.median(values),
        "p25": quantile(values, 0.25),
        "p75": quantile(values, 0.75),
        "p99": quantile(values, 0.99),
        "min": min(values),
        "max": max(values),
    }


def in_ms(seconds: Sequence[float]) -> Spread:
    """`spread` in milliseconds."""
    return spread([one * 1e3 for one in seconds])
