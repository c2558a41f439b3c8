# SPDX-License-Identifier: Apache-2.0
"""Which job a line of an invoice bills: found by name, else by device, time and shots; never guessed (G7). Pure.

A line that bills more than any one job of its device and time is a sum of several: it stands for all of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Final

from finops import money
from finops.findings import By, ChargedLine, Finding, KnownJob, alone
from finops.invoices.lines import InvoiceLine

MOST_CANDIDATES: Final = 10
LEAST_SUMMED: Final = timedelta(hours=1)
"""Providers sum up what was used in an hour, a day or a month; a shorter line is of one task."""


class Jobs:
    """Jobs by their id, by the vendor's names of their tasks, and by when they ran."""

    def __init__(self, jobs: Sequence[KnownJob], slack: timedelta) -> None:
        self.jobs = {job.job_id: job for job in jobs}
        self.slack = slack
        self.by_vendor: defaultdict[str, list[str]] = defaultdict(list)
        for job in jobs:
            for name in job.vendor_ids:
                self.by_vendor[name].append(job.job_id)
        ran = [(job.started_at, job.ended_at, job) for job in jobs]
        self.ran = sorted(
            ((start, end, job) for start, end, job in ran if start is not None and end is not None),
            key=lambda one: (one[0], one[2].job_id),
        )
        self.starts = [start for start, _, _ in self.ran]
        self.longest = max((end - start for start, end, _ in self.ran), default=timedelta(0))
        self.looked: dict[tuple[object, ...], tuple[int, tuple[str, ...]]] = {}

    def find(self, line: InvoiceLine) -> tuple[str, By] | Finding:
        """The id of the job that the line bills and by what it was found, or why there is none."""
        by: By = "vendor_id"
        named = self.by_vendor.get(line.vendor_id or "", [])
        if not named and line.job_id in self.jobs:
            by, named = "job_id", [line.job_id]
        count, few = len(named), tuple(named)
        if not named:
            by, (count, few) = "device_and_time", self._looked(line)
        match count:
            case 1:
                return few[0], by
            case 0:
                return alone(line, "unknown_job", "billed, and no job of this plane fits")
            case _:
                return alone(line, "ambiguous", f"{count} jobs fit", tuple(sorted(few)[:MOST_CANDIDATES]))

    def _looked(self, line: InvoiceLine) -> tuple[int, tuple[str, ...]]:
        """How many jobs are near the line, and the first of them; looked up once for all lines that ask the same."""
        shots = line.quantity if line.meter == "shots" else None
        asked = (line.device, line.start, line.end, shots, line.vendor_id is None)
        if asked not in self.looked:
            near = sorted(job.job_id for job in self._near(line))
            self.looked[asked] = len(near), tuple(near[:MOST_CANDIDATES])
        return self.looked[asked]

    def _near(self, line: InvoiceLine) -> Iterator[KnownJob]:
        """The jobs that ran on the line's device in its time, with as many shots as it bills.

        A line that names a task is of none whose name the vendor told us: that has another one.
        """
        if line.start is None or line.end is None:
            return
        first = bisect_left(self.starts, line.start - self.slack - self.longest)
        for start, end, job in self.ran[first : bisect_right(self.starts, line.end + self.slack)]:
            named_else = line.vendor_id is not None and job.vendor_ids
            elsewhere = line.device is not None and line.device not in job.devices
            other_shots = line.meter == "shots" and line.quantity not in (None, job.shots)
            then = start <= line.end + self.slack and line.start - self.slack <= end
            if then and not (named_else or elsewhere or other_shots):
                yield job

    def summed(
        self, line: InvoiceLine, taken: Collection[tuple[str, str | None]], *, told: bool = False
    ) -> dict[str, tuple[ChargedLine, ...]] | None:
        """What the jobs were charged that the line bills together; None where it may be of one job, or of none.

        `taken` are jobs and meters that other lines bill; without a meter a line bills all that none else does. `told`
        says that it is a sum: then it may be less than one job.
        """
        named = line.vendor_id or line.job_id
        if line.kind != "usage" or named or line.start is None or line.end is None:
            return None
        if line.end - line.start < LEAST_SUMMED:
            return None
        found: dict[str, tuple[ChargedLine, ...]] = {}
        for _, _, job in self.ran[bisect_left(self.starts, line.start) : bisect_left(self.starts, line.end)]:
            here = line.device is None or line.device in job.devices
            if here and job.currency == line.currency and (job.job_id, None) not in taken:
                mine = (one for one in job.lines if line.meter in (None, one.meter))
                if ours := tuple(one for one in mine if (job.job_id, one.meter) not in taken):
                    found[job.job_id] = ours
        return found if found and (told or all(_more(line, ours) for ours in found.values())) else None


def _more(line: InvoiceLine, ours: Sequence[ChargedLine]) -> bool:
    """Whether the line bills more than these: more units of its meter, or more money where it has none."""
    ran = [one.quantity for one in ours if one.quantity is not None]
    if line.meter is None or line.quantity is None or len(ran) < len(ours):
        return line.amount > money.total(one.amount for one in ours)
    return line.quantity > money.total(ran)
