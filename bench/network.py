# SPDX-License-Identifier: Apache-2.0
"""`make bench-network`: what planning over the network costs, reading apart, and how it grows (N4, N18)."""

from __future__ import annotations

from bench import planning
from bench.record import Figures, Run, main


def measure(run: Run) -> None:
    """Planning alone needs no plane."""
    planning.measure(run)
    run.say("planning is measured")


def tables(figures: Figures) -> dict[str, str]:
    """Each part's."""
    return planning.tables(figures)


if __name__ == "__main__":
    main("network", measure, tables)
