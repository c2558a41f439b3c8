# SPDX-License-Identifier: Apache-2.0
"""The slice of the limits that one decision is judged by: `data/limits.json`, a project, a team, a department. Pure.

Resolved here and not in Rego: a rule that falls back to a default when a key is missing would turn a lost key into an
allow (I5); and a document then holds what it was judged by, however many projects there are
(docs/decisions/0006-limits-in-the-input.md). What a project states goes before the plane's, a team's or department's
own line before `*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

BY_TEAM = {"team_shots_per_day": "shots_per_day"}
BY_DEPARTMENT = {"purposes_by_department": "purposes"}
"""Tables of the limits by team or department, and what their values are called in a document."""


class LimitsInvalid(ValueError):
    """The limits have another shape; `place` is where, below `limits`."""

    def __init__(self, place: tuple[str | int, ...], reason: str) -> None:
        """Say where and why."""
        super().__init__(reason)
        self.place = place
        self.reason = reason


def resolve(limits: Any, project: str, team: str | None, department: str | None) -> dict[str, Any]:
    """The `limits` of an input document; raises LimitsInvalid."""
    try:
        own = limits["projects"].get(project, {})
        held: dict[str, Any] = {**limits["default"], **own}
        of_team: dict[str, Any] = {"name": team}
        of_department: dict[str, Any] = {"name": department}
        for tables, name, into in ((BY_TEAM, team, of_team), (BY_DEPARTMENT, department, of_department)):
            for table, called in tables.items():
                lines = held.pop(table)
                into[called] = lines.get(name, lines["*"])
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise LimitsInvalid((), f"{type(fault).__name__} {fault}") from fault
    return {**held, "team": of_team, "department": of_department}


def combinations(limits: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """Projects, teams and departments by which each line of the limits is used once, and one that none names."""
    default = limits["default"]
    for project, own in [("", default), *limits["projects"].items()]:
        teams = {name for table in BY_TEAM for name in own.get(table, {})} - {"*"}
        departments = {name for table in BY_DEPARTMENT for name in own.get(table, {})} - {"*"}
        yield project, None, None
        for team, department in zip_longest(sorted(teams), sorted(departments)):
            yield project, team, department
