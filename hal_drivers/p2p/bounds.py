# SPDX-License-Identifier: Apache-2.0
"""Exact one-sided confidence bounds of a probability (Clopper and Pearson, 1934). Pure.

``lower(k, n, alpha)`` is the p at which k or more of n have probability ``alpha``: whatever the truth is, it is below
this bound with probability ``alpha`` at most. No approximation by a normal curve is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 60
"""Bisections of [0, 1]: beyond the precision of a double."""


def lower(successes: int, trials: int, alpha: float) -> float:
    """The one-sided lower bound at confidence 1 - alpha."""
    if successes == 0:
        return 0.0
    return _root(lambda p: at_least(successes, trials, p) < alpha)


def upper(successes: int, trials: int, alpha: float) -> float:
    """The one-sided upper bound at confidence 1 - alpha."""
    return 1.0 - lower(trials - successes, trials, alpha)


def at_least(successes: int, trials: int, p: float) -> float:
    """The probability of so many or more of ``trials``."""
    if successes <= 0:
        return 1.0
    if successes > trials or p <= 0:
        return 0.0
    return 1.0 if p >= 1 else _beta(successes, trials - successes + 1, p)


def _root(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return low


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction on the side where that converges fast."""
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0), tiny)
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away(1.0 + term * d, tiny)
            c = _away(1.0 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _away(value: float, tiny: float) -> float:
    return tiny if abs(value) < tiny else value
