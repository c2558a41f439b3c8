# SPDX-License-Identifier: Apache-2.0
"""Which later decisions were judged on figures that a flip would have changed (G2). Pure.

A job more or less changes the shots of its project and its team on that UTC day, and its budgets for the rest of their
window. By how much can't be known: what it would have run to was never measured. So reached decisions are counted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Literal


class Changed:
    """The places whose figures would be others from some moment on."""

    def __init__(self) -> None:
        self._usage: set[tuple[str, str, str]] = set()
        self._budgets: dict[tuple[str, str], str] = {}

    def by(self, document: Mapping[str, Any], at: str) -> None:
        """A flip: the job with this document, decided at this moment, would have been let in, or kept out."""
        self._usage.update(_usage(document, at))
        for budget in document.get("budgets", ()):
            self._budgets[budget["scope"], budget["period"]] = at  # the last: the nearest to what comes after

    def reaches(self, document: Mapping[str, Any], at: str) -> Iterator[Literal["usage", "budget"]]:
        """Which figures of this later document would be others."""
        if not self._usage.isdisjoint(_usage(document, at)):
            yield "usage"
        if any(self._spent(budget["scope"], budget["period"], at) for budget in document.get("budgets", ())):
            yield "budget"

    def _spent(self, scope: str, period: str, at: str) -> bool:
        since = self._budgets.get((scope, period))
        return since is not None and _same_window(period, since, at)


def _usage(document: Mapping[str, Any], at: str) -> Iterator[tuple[str, str, str]]:
    yield "project", document["job"]["project"], at[:10]
    team = document["principal"]["team"]
    if team is not None:
        yield "team", team, at[:10]


def _same_window(period: str, before: str, at: str) -> bool:
    """Whether two moments lie in one window of a budget; a period that isn't known counts as one window."""
    if period == "monthly":
        return before[:7] == at[:7]
    if period == "quarterly":
        return before[:4] == at[:4] and (int(before[5:7]) - 1) // 3 == (int(at[5:7]) - 1) // 3
    if period.startswith("rolling:"):
        between = dt.datetime.fromisoformat(at) - dt.datetime.fromisoformat(before)
        return between <= dt.timedelta(days=int(period.removeprefix("rolling:")))
    return True
