# SPDX-License-Identifier: Apache-2.0
"""Limits are resolved for a project, a team and a department; hours are spans of days in UTC (G2, I5)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.policy.document import WEEKDAYS, Limits
from control_plane.policy.limits import LimitsInvalid, combinations, hours, resolve
from control_plane.policy.revision import load

LIMITS: dict[str, Any] = {**load().data["limits"], "projects": {}}


def spans(text: str) -> dict[str, list[tuple[int, int]]]:
    (line,) = hours({"*": [text]})
    return {day: [(span["begins"], span["ends"]) for span in found] for day, found in line["days"].items()}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sat 09:00-12:30", {"sat": [(540, 750)]}),
        ("mon-wed 00:00-24:00", {day: [(0, 1440)] for day in ("mon", "tue", "wed")}),
        ("sat-mon 08:00-09:00", {day: [(480, 540)] for day in ("sat", "sun", "mon")}),
        ("sun 22:00-06:00", {"sun": [(1320, 1440)], "mon": [(0, 360)]}),
        ("fri 22:00-00:00", {"fri": [(1320, 1440)]}),
        ("08:00-18:00", {day: [(480, 1080)] for day in WEEKDAYS}),
        ("always", {}),
    ],
)
def test_hours_are_spans_of_days(text: str, found: dict[str, list[tuple[int, int]]]) -> None:
    assert spans(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon 08:00-18:00",
        "mon 8:00-18:00",
        "mon 08:00-08:00",
        "mon 08:00-24:01",
        "mon 24:00-25:00",
        "mon",
        "never",
        "08:60-09:00",
        "mon 08:00-18:00 ",
        "mon\n08:00-18:00",
        "mon \u06608:00-18:00",
        "mon-fri",
    ],
)
def test_other_texts_are_no_hours(text: str) -> None:
    with pytest.raises(LimitsInvalid):
        hours({"*": [text]})


def test_the_longest_beginning_comes_first_and_all_others_last() -> None:
    lines = hours({"*": ["always"], "prod": [], "production-": ["sat 09:00-12:30", "always"]})
    assert [(line["purpose"], line["always"], line["said"]) for line in lines] == [
        ("production-", True, "sat 09:00-12:30, always"),
        ("prod", False, ""),
        ("*", True, "always"),
    ]


def test_what_a_project_states_goes_before_the_planes_and_its_own_line_before_all_others() -> None:
    own = {"max_qubits": 5, "team_max_qubits": {"*": 4, "blue": 3}, "regions": ["eu"]}
    limits = {**LIMITS, "projects": {"lab": own}}
    blue = msgspec.convert(resolve(limits, "lab", "blue", None), Limits)
    assert (blue.max_qubits, blue.team.max_qubits, blue.regions) == (5, 3, ("eu",))
    assert msgspec.convert(resolve(limits, "lab", "green", None), Limits).team.max_qubits == 4
    assert msgspec.convert(resolve(limits, "other", "blue", None), Limits).max_qubits == 1024


def test_a_tenants_slice_restricts_its_own_projects_and_nobody_elses() -> None:
    """G11: two tenants with a project of one name; the smaller number counts, and of lists what both allow."""
    own = {
        "default": {"max_qubits": 50, "max_shots": 2**53 - 1, "regions": ["eu", "us"]},
        "projects": {"lab": {"max_qubits": 9, "regions": ["eu", "eu-west"], "team_max_qubits": {"blue": 4}}},
    }
    limits = {**LIMITS, "projects": {"lab": {"max_qubits": 12}}, "tenants": {"acme": own}}
    mine = msgspec.convert(resolve(limits, "lab", "blue", None, "acme"), Limits)
    assert (mine.max_qubits, mine.team.max_qubits, mine.regions) == (9, 4, ("eu",))
    assert mine.max_shots == LIMITS["default"]["max_shots"]
    elsewhere = msgspec.convert(resolve(limits, "other", "green", None, "acme"), Limits)
    assert (elsewhere.max_qubits, elsewhere.team.max_qubits) == (50, 1024)
    for tenant in ("globex", None):
        theirs = msgspec.convert(resolve(limits, "lab", "blue", None, tenant), Limits)
        assert (theirs.max_qubits, theirs.regions) == (12, ("*",))
    assert ("lab", "blue", None, "acme") in list(combinations(limits))


@pytest.mark.parametrize(
    ("plane", "own", "both"),
    [
        (["*"], ["research"], ["research"]),
        (["research"], ["*"], ["research"]),
        (["research", "benchmark"], ["research-a", "prod"], ["research-a"]),
        (["research-a"], ["research"], ["research-a"]),
        (["research"], ["prod"], []),
    ],
)
def test_of_purposes_what_both_allow_is_left(plane: list[str], own: list[str], both: list[str]) -> None:
    """G11, I5: beginnings; nothing in common allows nothing."""
    default = {**LIMITS["default"], "purposes_by_department": {"*": plane}}
    limits = {**LIMITS, "default": default, "tenants": {"acme": {"default": {"purposes_by_department": {"*": own}}}}}
    assert resolve(limits, "lab", None, "physics", "acme")["department"]["purposes"] == both


def test_a_tenants_slice_of_another_shape_is_refused() -> None:
    """I5: never read as no restriction."""
    shapes: list[object] = [{"default": {"max_cubits": 1}}, {"default": {"max_qubits": "3"}}, {"default": 1}, [], "x"]
    for own in shapes:
        with pytest.raises(LimitsInvalid):
            resolve({**LIMITS, "tenants": {"acme": own}}, "lab", None, None, "acme")


def test_limits_from_before_a_table_are_resolved_without_it() -> None:
    """Rules of that time don't ask for it; those of today deny without it."""
    old = {
        key: value for key, value in LIMITS["default"].items() if key not in {"hours_by_department", "team_max_depth"}
    }
    found = resolve({"default": old, "projects": {}}, "demo", None, None)
    assert "hours" not in found["department"]
    assert "max_depth" not in found["team"]


@pytest.mark.parametrize("limits", [None, [], {}, {"default": {}}, {"default": {}, "projects": {"demo": 1}}])
def test_limits_of_another_shape_are_refused(limits: object) -> None:
    with pytest.raises(LimitsInvalid):
        resolve(limits, "demo", None, None)


def test_each_line_is_used_by_some_combination() -> None:
    projects = {"lab": {"team_max_qubits": {"*": 1, "red": 2}}, "plain": {}}
    found = list(combinations({**LIMITS, "projects": projects}))
    assert ("", "students", "research", None) in found
    assert ("lab", "red", None, None) in found
    assert ("plain", None, None, None) in found
