# SPDX-License-Identifier: Apache-2.0
"""Quiet days alarm as rarely as stated, whatever the number of groups; days that stand out are found (G7, G14)."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from finops.anomalies import Looked, least_days, look
from tests.finops.test_forecast import Shape, bursts, heavy_tail, mostly_zero, trend, weekly

RATE = 0.05
RUNS = 150


def series(shape: Shape, by: random.Random, groups: int, days: int) -> dict[str, list[Decimal]]:
    return {f"p{n}": [Decimal(repr(amount)) for amount in shape(by, days)] for n in range(groups)}


def looked(days: dict[str, list[Decimal]], last: int = 1, rate: float = RATE) -> Looked:
    found = look(days, last, rate)
    assert found is not None
    return found


@pytest.mark.parametrize("groups", [1, 12])
@pytest.mark.parametrize("shape", [weekly, trend, bursts, mostly_zero, heavy_tail])
def test_days_on_which_nothing_happened_alarm_as_rarely_as_stated(shape: Shape, groups: int) -> None:
    """G7: fifty looks at z > 1.96 alarm in 31 of a hundred; here the number of groups is no matter."""
    by = random.Random(11)
    alarms = sum(bool(looked(series(shape, by, groups, 43)).anomalies) for _ in range(RUNS))
    # 5 % of 150 are 7.5; a rate of 5 % gives more than 15 once in a hundred seeds.
    assert alarms <= 15, f"{100 * alarms / RUNS:.1f} % of quiet days alarm"


def test_a_day_that_stands_out_is_found_and_named() -> None:
    by = random.Random(5)
    found = 0
    for _ in range(RUNS):
        days = series(weekly, by, 12, 43)
        days["p7"][-1] = days["p7"][-1] * 4 + 200
        named = {one.key: one for one in looked(days).anomalies}
        found += "p7" in named
        if "p7" in named:
            assert (named["p7"].direction, named["p7"].spend) == ("above", days["p7"][-1])
    assert found >= 0.95 * RUNS, f"{100 * found / RUNS:.0f} % of planted days were found"


def test_a_day_that_fell_silent_is_found_too() -> None:
    by = random.Random(6)
    days = {"p": [Decimal(repr(100 + by.random())) for _ in range(60)]}
    days["p"][-1] = Decimal(0)
    (one,) = looked(days).anomalies
    assert (one.direction, one.day, one.usual > 99) == ("below", 59, True)


def test_spend_that_grows_every_day_alarms_no_more_often_and_its_usual_day_has_grown() -> None:
    """A line of two more a day alarmed on one day in four."""
    by = random.Random(8)
    days = [[Decimal(repr(50 + 2 * day + by.gauss(0, 8))) for day in range(50)] for _ in range(RUNS)]
    assert sum(bool(looked({"p": one}).anomalies) for one in days) <= 15
    (found,) = looked({"p": [*days[0][:-1], Decimal(400)]}).anomalies
    assert found.usual == pytest.approx(Decimal(148), abs=25)


def test_the_answer_says_how_many_alarms_chance_gives() -> None:
    by = random.Random(7)
    answer = looked(series(weekly, by, 3, 60), last=7)
    assert answer.looks == 21
    assert answer.expected_false_alarms == pytest.approx(0.35)


def test_too_few_days_for_the_rate_are_not_enough_data() -> None:
    assert least_days(0.05) == 19
    assert least_days(0.01) == 99
    assert look({"p": [Decimal(1)] * 19}, 1, 0.05) is None
    assert look({"p": [Decimal(1)] * 20}, 1, 0.05) is not None
    assert look({}, 1, 0.05) is None


def test_what_never_varied_never_alarms() -> None:
    assert not looked({"p": [Decimal(3)] * 40, "q": [Decimal(0)] * 40}, last=7).anomalies
