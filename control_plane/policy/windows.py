# SPDX-License-Identifier: Apache-2.0
"""What a flip changes for the decisions after it (G2). Pure.

A job more or less changes the day's shots of its project and its team by what it asks for, since a day's shots count at
admission and never go back: `Shots` carries that on, exactly. It also changes how many jobs are unfinished, and its
budgets for the rest of their window; by how much can't be known, for what the job would have run to was never measured.
So the decisions that this reaches are counted (`Changed`).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypeAlias

Flip: TypeAlias = Literal[-1, 0, 1]
"""1 where a job would be let in, -1 where it would be kept out."""

QUOTA = "quota_exceeded"


class Shots:
    """The day's shots as flips would have left them, by project and by team."""

    def __init__(self) -> None:
        self._more: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def copy(self) -> Shots:
        """Where a page begins."""
        other = Shots()
        other._more.update(self._more)
        return other

    def before(self, document: Mapping[str, Any]) -> tuple[int, int]:
        """How many more the team and the project would have used up before this document's decision."""
        *team, project = (self._more.get(key, 0) for key in _teams(document))
        return sum(team), project

    def flip(self, document: Mapping[str, Any], sign: Literal[1, -1]) -> None:
        """Its job was let in (1), or kept out (-1)."""
        for key in _teams(document):
            self._more[key] += sign * document["job"]["executions"]


def carried(document: Mapping[str, Any], more: tuple[int, int]) -> dict[str, Any]:
    """The document with so many more shots of team and project on its day; never fewer than none."""
    usage = document["usage"]
    return {
        **document,
        "usage": {
            **usage,
            "team_shots_today": max(0, usage["team_shots_today"] + more[0]),
            "project_shots_today": max(0, usage["project_shots_today"] + more[1]),
        },
    }


def likely(document: Mapping[str, Any], more: tuple[int, int], *, counted: bool, codes: Collection[str]) -> Flip:
    """What the day's shots alone say of a document with a candidate's limits: whether its job would be let in or out.

    `counted` is whether its shots count in what was recorded, `codes` are the recorded reasons. A guess of what to ask
    the candidate, which spares asking again; never an answer.
    """
    usage, limits, job = document["usage"], document["limits"], document["job"]
    asked = max(job["shots"], job["executions"])
    fits = (
        usage["team_shots_today"] + more[0] + asked <= limits["team"]["shots_per_day"]
        and usage["project_shots_today"] + more[1] + asked <= limits["project_shots_per_day"]
    )
    if counted:
        return 0 if fits else -1
    return 1 if fits and set(codes) == {QUOTA} else 0


class Changed:
    """The places whose figures would be others from some moment on."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._budgets: dict[tuple[str, str], str] = {}

    def by(self, document: Mapping[str, Any], at: str) -> None:
        """A flip: the job with this document, decided at this moment, would have been let in, or kept out."""
        self._running.add(document["job"]["project"])
        for budget in _budgets(document):
            self._budgets[budget["scope"], budget["period"]] = at  # the last: the nearest to what comes after

    def reaches(self, document: Mapping[str, Any], at: str) -> Iterator[Literal["running", "budget"]]:
        """Which figures of this later document would be others."""
        if document["job"]["project"] in self._running:
            yield "running"
        if any(self._spent(budget["scope"], budget["period"], at) for budget in _budgets(document)):
            yield "budget"

    def _spent(self, scope: str, period: str, at: str) -> bool:
        since = self._budgets.get((scope, period))
        return since is not None and _same_window(period, since, at)


def _budgets(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All that were judged, whatever they count or stop."""
    for member in ("budgets", "lenient_budgets", "quotas"):
        yield from document.get(member, ())


def _teams(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The places where a job's shots count, its team's first, where it has one; its project's last."""
    day = document["time"]["date"]
    team = document["principal"]["team"]
    if team is not None:
        yield "team", team, day
    yield "project", document["job"]["project"], day


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
