# SPDX-License-Identifier: Apache-2.0
"""Days whose spend is out of line, with a false-alarm rate that is stated and holds (G7, G14).

Contract: enter the daily spend of each key (a project, a backend, …) over the same days, and a rate. Each day that is
looked at is compared with the days before it, at most 91: a key's day is scored by how far it is from the median of its
weekday's, without what the key's days grow by, in units of the key's own spread; the day's score is the largest of any
key's, so that the number of keys looked at is no matter. Where such a score is among the `rate` highest of its days,
the day alarms, and every key whose own score is that high is named. On days that differ by chance alone a day so alarms
with at most that probability (conformal: a rank among days that could as well have come in another order), however many
keys there are. N days looked at have N chances: on average rate × N false alarms, which the answer states. Fewer days
before than 1/rate are not enough, and that is the answer.

Measured on null data and on planted spikes in tests/finops/test_anomalies.py. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from statistics import median
from typing import Final, Literal

from msgspec import Struct

LEAST_DAYS: Final = 14
MOST_DAYS: Final = 91
WEEK: Final = 7
_SPREAD: Final = 1.4826  # of the median deviation, where days are Gaussian


class Anomaly(Struct, frozen=True):
    """One key's day: what it spent, what its weekday's median is, and the part of days that are as far out."""

    day: int
    key: str
    spend: Decimal
    usual: Decimal
    direction: Literal["above", "below"]
    p_value: float


class Looked(Struct, frozen=True):
    """What came of looking: `day` of an anomaly counts from the first day given; `looks` are keys × days."""

    anomalies: tuple[Anomaly, ...]
    rate: float
    days: int
    looks: int
    expected_false_alarms: float


def least_days(rate: float) -> int:
    """How many days there must be before the first that is looked at."""
    return max(LEAST_DAYS, math.ceil(1 / rate - 1e-9) - 1)


def look(series: Mapping[str, Sequence[Decimal]], days: int, rate: float) -> Looked | None:
    """Look at the last `days` days of the series, which are equally long; None where there is not enough data."""
    length = len(next(iter(series.values()), ()))
    if days < 1 or length - days < least_days(rate):
        return None
    keys = sorted(series)
    floats = {key: [float(amount) for amount in series[key]] for key in keys}
    found: list[Anomaly] = []
    for day in range(length - days, length):
        first = max(0, day - MOST_DAYS)
        scores = {key: _scores(floats[key][first : day + 1]) for key in keys}
        highest = [max(scores[key][place] for key in keys) for place in range(day + 1 - first)]
        for key in keys:
            score = scores[key][-1]
            # The key's score among the days' highest of any key: right for all keys at once.
            p_value = sum(other >= score for other in highest) / len(highest)
            if score > 0 and p_value <= rate:
                usual = _usual(floats[key][first : day + 1])
                above = floats[key][day] > usual
                shown = Decimal(repr(round(usual, 6)))
                direction: Literal["above", "below"] = "above" if above else "below"
                found.append(Anomaly(day, key, series[key][day], shown, direction, round(p_value, 6)))
    return Looked(tuple(found), rate, days, days * len(keys), rate * days)


def _scores(values: Sequence[float]) -> list[float]:
    """How far each day is from its weekday's median, in units of how far days are as a rule.

    The last day is one of all here: what is usual is no matter of which day is looked at, so that ranks are fair.
    """
    level = _level(values)
    usual = [median(level[place % WEEK :: WEEK]) for place in range(min(WEEK, len(values)))]
    off = [abs(value - usual[place % WEEK]) for place, value in enumerate(level)]
    spread = max(_SPREAD * median(off), math.fsum(off) / len(off))
    return [one / spread if spread > 0 else 0.0 for one in off]


def _level(values: Sequence[float]) -> list[float]:
    """The days without their growth: the median of what days grew by in a week, which no burst or step moves."""
    slope = _slope(values)
    return [value - slope * (place - len(values) + 1) for place, value in enumerate(values)]


def _slope(values: Sequence[float]) -> float:
    grown = [after - before for before, after in zip(values, values[WEEK:], strict=False)]
    return median(grown) / WEEK if grown else 0.0


def _usual(values: Sequence[float]) -> float:
    level = _level(values)
    return max(0.0, median(level[(len(values) - 1) % WEEK :: WEEK]))
