# SPDX-License-Identifier: Apache-2.0
"""A file's usage is rebuilt from facts and card: zero difference, and one changed digit is found by its line (G7)."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from finops.facts import fact
from finops.focus import reading, recompute
from finops.focus.errors import FocusRefused
from finops.focus.recompute import Proven
from finops.money import text
from finops.rates import charge, parse_card
from tests.finops.focus.sample import file, row

CARD = json.dumps(
    {
        "version": 1,
        "name": "test",
        "revision": 1,
        "currency": "USD",
        "source": "a test",
        "source_date": "2026-11-01",
        "effective_from": "2026-11-01",
        "effective_until": None,
        "precision": "0.01",
        "rounding": "half_even",
        "prices": [
            {
                "provider": "aws-braket",
                "device": "forte-as-sold",
                "meters": [
                    {"meter": "tasks", "unit": "Tasks", "rate": "0.3", "cap": None},
                    {"meter": "shots", "unit": "Shots", "rate": "0.00145", "cap": None},
                ],
            }
        ],
    }
).encode()
FACTS = (fact("tasks", Decimal(1), "measured", "plane"), fact("shots", Decimal(1001), "measured", "plane"))
CHARGE = charge(parse_card(CARD), "aws-braket", FACTS, device="braket-forte", sku="forte-as-sold")
SIGNED = tuple(
    (one.meter, text(one.quantity), one.unit, text(one.rate), text(one.amount), one.source) for one in CHARGE.lines
)
JOB = Proven(
    job_id="job-1",
    bundle_id="00000000-0000-4000-8000-00000000000b",
    entry_id="00000000-0000-4000-8000-000000000001",
    project="demo",
    cost_center="CC-1",
    provider="aws-braket",
    backend="braket-forte",
    facts=FACTS,
    card=CARD,
    signed=SIGNED,
)


def written(form: str = "csv", most: int = 2) -> bytes:
    """The file of that charge."""
    rows = [
        row(line=number, meter=one.meter, quantity=one.quantity, unit=one.unit, rate=one.rate, amount=one.amount)
        | {"purpose": "plain", "product": one.quantity * one.rate, "rate_card": CHARGE.card_hash}
        for number, one in enumerate(CHARGE.lines)
    ]
    return file(rows[:most], form=form)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_of_ours_has_zero_difference(form: str) -> None:
    """Whichever form, whatever name the backend is sold under."""
    found = recompute.compare(reading.lines(written(form)), {"job-1": JOB}, {})
    assert [one.state for one in found] == ["same", "same"], found
    assert recompute.differences(found) == {"USD": "0"}


def test_one_changed_digit_is_found_and_named() -> None:
    """Of each number of the line."""
    whole = written()
    heading, first, second, _ = whole.decode().split("\n")
    for name in reading.DECIMALS[:-1]:
        cells = second.split(",")
        place = heading.split(",").index(name)
        cells[place] = cells[place][:-1] + ("1" if cells[place][-1] != "1" else "2")
        changed = "\n".join((heading, first, ",".join(cells), "")).encode()
        found = recompute.compare(reading.lines(changed), {"job-1": JOB}, {})
        assert [(one.line, one.state) for one in found] == [(1, "same"), (2, "differs")], name
        assert name in found[1].detail


def test_what_is_missing_too_much_or_unproven_is_said() -> None:
    """No line passes for want of evidence."""
    assert [one.state for one in recompute.compare(reading.lines(written(most=1)), {"job-1": JOB}, {})] == [
        "same",
        "missing",
    ]
    twice = recompute.compare([*reading.lines(written()), *reading.lines(written())], {"job-1": JOB}, {})
    assert [one.state for one in twice] == ["same", "same", "extra", "extra"]
    (first, _) = recompute.compare(reading.lines(written()), {}, {"job-1": "its evidence is invalid"})
    assert (first.state, first.detail) == ("unproven", "its evidence is invalid")


@pytest.mark.parametrize("wrong", ["NaN", "1" + "0" * 30, "1e3", "eighty", "Infinity"])
def test_a_number_that_is_none_is_refused_with_line_and_field(wrong: str) -> None:
    """And a file that isn't ours."""
    lines = written().decode().split("\n")
    lines[2] = wrong + lines[2][lines[2].index(",") :]
    with pytest.raises(FocusRefused, match="line 2, BilledCost"):
        reading.lines("\n".join(lines).encode())
    for other in (b"", b"a,b\n1,2\n", b"PAR1junk", b"\xff\xfe"):
        with pytest.raises(FocusRefused):
            reading.lines(other)
