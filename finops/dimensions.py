# SPDX-License-Identifier: Apache-2.0
"""What charged lines are told apart by (G7). Names alone: a help text of the command line loads nothing else."""

from typing import Final

KEPT: Final = ("project", "team", "user", "cost_center", "backend", "provider", "purpose", "classification")
"""What each line is of; a day's spend is told by these."""

DIMENSIONS: Final = (*KEPT, "day", "month", "meter", "job")
"""All by which spend is grouped."""

NARROWING: Final = tuple(name for name in KEPT if name != "user")
"""Those of which one value may be asked for alone. People stand in lines by pseudonym."""
