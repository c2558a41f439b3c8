# SPDX-License-Identifier: Apache-2.0
"""A provider's invoice of the sample month, with faults planted in it: something to reconcile (G7; `dev` only).

Enters what the ledger charged for the provider's backends in a month. Leaves a CSV file in the form that mapping
`plain` reads, and how many faults of which class stand in it. Nothing but what a vendor would know is told: device,
times, quantities and amounts. Pure.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
from collections.abc import Sequence
from decimal import Decimal

from control_plane.errors import Refused
from finops import money
from finops.charges import Charged

COLUMNS = ("device", "meter", "quantity", "unit", "amount", "currency", "start", "end", "user")
BYPASSES = 3
DEARER = Decimal("1.1")
_SEED = 23
_SHOTS = 1000


def invoice(charges: Sequence[Charged]) -> tuple[str, dict[str, int]]:
    """The file, and its faults by class: bypass jobs, a job that isn't billed, a line too dear, one billed twice."""
    chance = random.Random(_SEED)  # noqa: S311 - to be spread, not to be secret
    jobs = sorted({one.job_id for one in charges if one.job_id is not None})
    if len(jobs) < 3:
        raise Refused("unusable_input", f"an invoice has faults among at least 3 jobs, and {len(jobs)} were charged")
    forgotten, dear, twice = chance.sample(jobs, 3)
    rows: list[tuple[str, ...]] = []
    for one in charges:
        if one.job_id == forgotten:
            continue
        marked = one.meter == "tasks"
        row = _billed(one, DEARER if marked and one.job_id == dear else Decimal(1))
        rows += [row, row] if marked and one.job_id == twice else [row]
    like = [one for one in charges if one.job_id == jobs[0]]
    for number in range(BYPASSES):
        rows += _bypass(like, chance, number)
    rows.sort(key=lambda row: row[COLUMNS.index("start")])
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(rows)
    return written.getvalue(), {"bypass_jobs": BYPASSES, "not_billed_jobs": 1, "dearer_lines": 1, "lines_twice": 1}


def _billed(one: Charged, factor: Decimal) -> tuple[str, ...]:
    with money.exact():
        amount = money.text(one.amount * factor)
    quantity = "" if one.quantity is None else money.text(one.quantity)
    times = (_time(at) for at in (one.started_at, one.ended_at) if at is not None)
    return (one.backend or "", one.meter or "", quantity, one.unit or "", amount, one.currency, *times, "")


def _bypass(like: Sequence[Charged], chance: random.Random, number: int) -> list[tuple[str, ...]]:
    """A job that somebody sent to the vendor at night, past the plane: a task and its shots, at the same prices."""
    day = like[0].charged_at.replace(hour=2, minute=0, second=0, microsecond=0) + dt.timedelta(days=3 * number + 1)
    begun = day + dt.timedelta(seconds=chance.randrange(3600))
    ended = begun + dt.timedelta(seconds=1)
    rows: list[tuple[str, ...]] = []
    for one in like:
        quantity = {"tasks": Decimal(1), "shots": Decimal(_SHOTS)}.get(one.meter or "")
        if quantity is None or one.rate is None:
            continue
        with money.exact():
            amount = money.text(quantity * one.rate)
        told = (one.backend or "", one.meter or "", money.text(quantity), one.unit or "", amount, one.currency)
        rows.append((*told, _time(begun), _time(ended), f"notebook-{number + 1}"))
    return rows


def _time(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
