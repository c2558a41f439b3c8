# SPDX-License-Identifier: Apache-2.0
"""`make bench-network`: what planning over the network costs, reading apart, and how it grows; what a remote fragment
costs beside its arithmetic, how soon another node takes over from one that was killed, and what ten thousand adverts
take, in the registry alone and in the fabric's process (N1, N2, N4, N6, N7, N18).
"""

from __future__ import annotations

from bench import fabric, fragments, hearing, planning
from bench.record import Figures, Run, main


def measure(run: Run) -> None:
    """Planning alone needs no plane."""
    planning.measure(run)
    run.say("planning is measured")
    hearing.measure(run)
    run.say("hearing is measured")
    fabric.measure(run)
    run.say("the fabric is measured")
    fragments.measure(run)


def tables(figures: Figures) -> dict[str, str]:
    """Each part's."""
    parts = (planning, hearing, fabric, fragments)
    return {name: text for part in parts for name, text in part.tables(figures).items()}


if __name__ == "__main__":
    main("network", measure, tables)
