# SPDX-License-Identifier: Apache-2.0
"""The slice of the limits that one decision is judged by: `data/limits.json`, a project, a team, a department. Pure.

Resolved here and not in Rego: a rule that falls back to a default when a key is missing would turn a lost key into an
allow (I5); and a document then holds what it was judged by, however many projects there are
(docs/decisions/0006-limits-in-the-input.md). What a project states goes before the plane's, a team's or department's
own line before `*`. What `tenants` says of the asker's tenant, and of its project, only ever restricts that (G11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from control_plane.policy.document import WEEKDAYS

BY_TEAM = {
    "team_shots_per_day": "shots_per_day",
    "team_running_jobs": "running_jobs",
    "team_max_qubits": "max_qubits",
    "team_max_depth": "max_depth",
}
BY_DEPARTMENT = {"purposes_by_department": "purposes", "hours_by_department": "hours"}
"""Tables of the limits by team or department, and what their values are called in a document."""
_TABLES = ((BY_TEAM, "team"), (BY_DEPARTMENT, "department"))

ALWAYS = "always"
DAY = 24 * 60

_DAY = "|".join(WEEKDAYS)
_HOURS = re.compile(rf"(?:({_DAY})(?:-({_DAY}))? )?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)


class LimitsInvalid(ValueError):
    """The limits have another shape."""

    def __init__(self, reason: str) -> None:
        """Say what is wrong."""
        super().__init__(reason)
        self.reason = reason


def resolve(
    limits: Any, project: str, team: str | None, department: str | None, tenant: str | None = None
) -> dict[str, Any]:
    """The `limits` of an input document; raises LimitsInvalid."""
    found = _of_plane(limits, project, team, department)
    try:
        own = limits.get("tenants", {}).get(tenant, {})
        for layer in (own.get("default", {}), own.get("projects", {}).get(project, {})):
            found = _restricted(found, layer, team, department)
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise LimitsInvalid(f"{type(fault).__name__} {fault}") from fault
    return found


def _restricted(
    found: Mapping[str, Any], layer: Mapping[str, Any], team: str | None, department: str | None
) -> dict[str, Any]:
    """What is found, and what the layer says: of two numbers the smaller, of two lists what both allow."""
    made: dict[str, Any] = dict(found)
    for name, value in layer.items():
        table = next((one for one in _TABLES if name in one[0]), None)
        if table is None:
            made[name] = _both(name, made[name], value)
            continue
        names, into, who = table[0], table[1], team if table[1] == "team" else department
        line = value.get(who, value.get("*"))
        if line is not None:
            called = names[name]
            made[into] = {**made[into], called: _both(called, made[into][called], line)}
    return made


def _both(name: str, one: Any, other: Any) -> Any:
    """What two limits of one kind allow. A purpose is allowed by its beginning: then the longer of two is by both."""
    if not isinstance(one, list):
        return min(one, other)
    if "*" in one or "*" in other:
        return sorted(set(other if "*" in one else one))
    if name != "purposes":
        return sorted(set(one) & set(other))
    longer = {a if a.startswith(b) else b for a in one for b in other if a.startswith(b) or b.startswith(a)}
    return sorted(longer)


def _of_plane(limits: Any, project: str, team: str | None, department: str | None) -> dict[str, Any]:
    try:
        own = limits["projects"].get(project, {})
        held: dict[str, Any] = {**limits["default"], **own}
        of_team: dict[str, Any] = {"name": team}
        of_department: dict[str, Any] = {"name": department}
        for tables, name, into in ((BY_TEAM, team, of_team), (BY_DEPARTMENT, department, of_department)):
            for table, called in tables.items():
                if table in held:  # a revision from before the table has rules that don't ask for it
                    lines = held.pop(table)
                    into[called] = lines.get(name, lines["*"])
        if "hours" in of_department:
            of_department["hours"] = hours(of_department["hours"])
    except LimitsInvalid:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise LimitsInvalid(f"{type(fault).__name__} {fault}") from fault
    return {**held, "team": of_team, "department": of_department}


def combinations(limits: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str | None, str | None]]:
    """Projects, teams, departments and tenants by which each line is used once, and some that none names."""
    for line in _lines([("", limits["default"]), *limits["projects"].items()]):
        yield *line, None
    for tenant, own in limits.get("tenants", {}).items():
        for line in _lines([("", own.get("default", {})), *own.get("projects", {}).items()]):
            yield *line, tenant


def _lines(
    projects: Sequence[tuple[str, Mapping[str, Any]]],
) -> Iterator[tuple[str, str | None, str | None]]:
    for project, own in projects:
        teams = {name for table in BY_TEAM for name in own.get(table, {})} - {"*"}
        departments = {name for table in BY_DEPARTMENT for name in own.get(table, {})} - {"*"}
        yield project, None, None
        for team, department in zip_longest(sorted(teams), sorted(departments)):
            yield project, team, department


def hours(lines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Spans by weekday for each beginning of a purpose, the longest first, and `*` last; raises LimitsInvalid."""
    order = sorted(lines, key=lambda purpose: (purpose == "*", -len(purpose), purpose))
    return [_hours(purpose, tuple(lines[purpose])) for purpose in order]


@lru_cache(maxsize=4096)
def _hours(purpose: str, texts: tuple[str, ...]) -> dict[str, Any]:
    days: dict[str, list[dict[str, int]]] = {}
    for text in texts:
        if text != ALWAYS:
            for day, begins, ends in _spans(text):
                days.setdefault(day, []).append({"begins": begins, "ends": ends})
    return {"purpose": purpose, "always": ALWAYS in texts, "days": days, "said": ", ".join(texts)}


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Of `mon-fri 08:00-18:00`; one that ends before it begins goes on into the next day."""
    read = _HOURS.fullmatch(text)
    if read is None:
        raise LimitsInvalid(f"{text!r} is no hours: {ALWAYS}, 08:00-18:00 or mon-fri 22:00-06:00 (UTC)")
    first, last, *clock = read.groups()
    begins, ends = int(clock[0]) * 60 + int(clock[1]), int(clock[2]) * 60 + int(clock[3])
    if begins == ends or ends > DAY:
        raise LimitsInvalid(f"{text!r} is no span of a day: it ends when it begins, or after 24:00")
    start = WEEKDAYS.index(first) if first else 0
    stop = WEEKDAYS.index(last or first) if first else 6
    for number in range(start, start + (stop - start) % 7 + 1):
        if begins < ends:
            yield WEEKDAYS[number % 7], begins, ends
        else:
            yield WEEKDAYS[number % 7], begins, DAY
            if ends:
                yield WEEKDAYS[(number + 1) % 7], 0, ends
