# SPDX-License-Identifier: Apache-2.0
"""`make bench-finops`: what holding and capturing money costs, whatever there are of budgets and past charges, and how
many whole admissions a hot budget takes, and how long a month of a million charges takes to become a file (I3, G7).
"""

from __future__ import annotations

from bench import admissions, focus_month, holds
from bench.plane import Plane
from bench.record import Figures, Run, main

PARTS = (holds, admissions, focus_month)


def measure(run: Run) -> None:
    """Each part in one plane, whose own worker has nothing to do."""
    with Plane(workers="1", simulators="1") as plane:
        for part in PARTS:
            part.measure(run, plane)
            run.say(f"{part.__name__} is measured")


def tables(figures: Figures) -> dict[str, str]:
    """Each part's."""
    return {name: text for part in PARTS for name, text in part.tables(figures).items()}


if __name__ == "__main__":
    main("finops", measure, tables)
