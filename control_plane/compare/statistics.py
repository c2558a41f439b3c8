# SPDX-License-Identifier: Apache-2.0
"""How alike two measured distributions are: intervals, total variation with a proven bound, a permutation test (G14).

Enters counts; leaves numbers that say what they are worth. Two honest runs differ by more than shot noise, so
equality is judged against a stated margin: `equal` only if the bound on the true distance lies within it, `different`
only if chance alone would hardly make such counts, else `undecided`. Pure: chance enters as an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

Counts: TypeAlias = Mapping[str, int]
Verdict = Literal["equal", "different", "undecided"]
CONFIDENCE = 0.95
PERMUTATIONS = 999
WORK = 400_000  # outcomes times permutations, so that wide distributions end in seconds; fewer permutations are told
FEWEST = 199


class Chance(Protocol):
    """What `random.Random` is."""

    def random(self) -> float:
        """A number from 0 up to 1, without 1."""
        ...


class Compared(Struct, frozen=True):
    """Two distributions side by side. `upper` bounds the true distance at confidence 1 - `alpha`."""

    distance: float
    upper: float
    p_value: float
    permutations: int
    alpha: float
    margin: float
    verdict: Verdict

    @property
    def differs(self) -> bool:
        """Whether chance alone would hardly make such counts."""
        return self.p_value <= self.alpha


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share; (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = successes / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends the formula's own value is exact but for rounding.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return low, 1.0 if successes == trials else min(1.0, middle + half)


def total_variation(a: Counts, b: Counts) -> float:
    """Half the sum of differences of the measured shares: 0 for the same, 1 for nothing in common."""
    n, m = sum(a.values()), sum(b.values())
    if not n or not m:
        raise ValueError
    shares = (abs(a.get(outcome, 0) / n - b.get(outcome, 0) / m) for outcome in a.keys() | b.keys())
    return min(1.0, math.fsum(shares) / 2)


def deviation(n: int, m: int, alpha: float) -> float:
    """By how much the true distance may exceed the measured one, at confidence 1 - alpha (McDiarmid's inequality)."""
    return math.sqrt(math.log(1 / alpha) * (1 / n + 1 / m) / 2)


def permutation_test(a: Counts, b: Counts, chance: Chance, permutations: int = PERMUTATIONS) -> float:
    """How often chance alone makes counts at least as unlike, by the G statistic, had both come from one distribution.

    Exact in level for any number of outcomes: shots are dealt anew to the two, without replacement. G and not the
    distance decides, because rare outcomes of one side alone say much and hardly move the distance.
    """
    outcomes = sorted(a.keys() | b.keys())
    pooled = [a.get(outcome, 0) + b.get(outcome, 0) for outcome in outcomes]
    n = sum(a.values())
    found = _g([a.get(outcome, 0) for outcome in outcomes], pooled)
    least = found - 1e-9 * max(1.0, abs(found))
    extreme = sum(_g(_dealt(pooled, n, chance), pooled) >= least for _ in range(permutations))
    return (1 + extreme) / (1 + permutations)


def compare(a: Counts, b: Counts, *, margin: float, alpha: float, chance: Chance) -> Compared:
    """Judge two distributions against a margin."""
    n, m = sum(a.values()), sum(b.values())
    distance = total_variation(a, b)
    upper = min(1.0, distance + deviation(n, m, alpha))
    # With fewer than 1 / alpha no p could ever be as small as alpha.
    fewest = max(FEWEST, math.ceil(2 / alpha))
    permutations = max(fewest, min(PERMUTATIONS, WORK // max(1, len(a.keys() | b.keys()))))
    p_value = permutation_test(a, b, chance, permutations)
    verdict: Verdict = "equal" if upper <= margin else "different" if p_value <= alpha else "undecided"
    return Compared(distance, upper, p_value, permutations, alpha, margin, verdict)


def _g(dealt: list[int], pooled: list[int]) -> float:
    """Half of G but for what is the same for every deal of these shots."""
    counts = (count for x, total in zip(dealt, pooled, strict=True) for count in (x, total - x) if count > 1)
    return math.fsum(count * math.log(count) for count in counts)


def _dealt(pooled: list[int], n: int, chance: Chance) -> list[int]:
    """How many of each outcome fall to the first, when n of all shots are drawn without replacement."""
    left, dealt, wanted = sum(pooled), [], n
    for count in pooled:
        drawn = hypergeometric(count, left - count, wanted, chance.random())
        dealt.append(drawn)
        left -= count
        wanted -= drawn
    return dealt


def hypergeometric(good: int, bad: int, drawn: int, u: float) -> int:
    """The number of good ones among those drawn, by inversion of `u`, from the most likely value outwards."""
    low, high = max(0, drawn - bad), min(good, drawn)
    if low == high:
        return low
    mode = min(high, max(low, (good + 1) * (drawn + 1) // (good + bad + 2)))
    at_mode = math.exp(_choose(good, mode) + _choose(bad, drawn - mode) - _choose(good + bad, drawn))
    below, above, under, over = mode, mode, at_mode, at_mode
    u -= at_mode
    while u >= 0 and (below > low or above < high):
        if above < high:
            over *= (good - above) * (drawn - above) / ((above + 1) * (bad - drawn + above + 1))
            above += 1
            u -= over
            if u < 0:
                return above
        if below > low:
            under *= below * (bad - drawn + below) / ((good - below + 1) * (drawn - below + 1))
            below -= 1
            u -= under
            if u < 0:
                return below
    return mode


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
