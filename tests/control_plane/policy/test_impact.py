# SPDX-License-Identifier: Apache-2.0
"""What a candidate would have done is told in flips and money, and what can't be told is counted (G2)."""

from __future__ import annotations

import datetime as dt
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from control_plane.policy.decision import Decision, Reason
from control_plane.policy.impact import Impact, Tally, unacknowledged
from control_plane.policy.impact_html import html
from control_plane.policy.impact_markdown import markdown
from control_plane.policy.impact_text import lines
from control_plane.policy.recorded import Recorded, Spoke
from control_plane.policy.windows import Changed
from tests.control_plane.policy.sample import document

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def recorded(number: int, *denied: str, at: str = "2026-11-20T10:00:00.000Z", **changes: Any) -> Recorded:
    """A decision of the sample document: denied for these codes, or allowed."""
    judged = document(**changes)
    return Recorded(
        decision_id=f"00000000-0000-0000-0000-{number:012}",
        job_id=f"job-{number}",
        at=at,
        project=judged["job"]["project"],
        allow=not denied,
        reasons=tuple(Spoke(code, "hard", f"{code} spoke", "quota/shots.rego:1") for code in denied),
        backends=() if denied else ("aer",),
        policy_revision="sha256:" + "0" * 64,
        state="DENIED" if denied else "COMPLETED",
        backend=None if denied else "aer",
        held=None,
        charged=None if denied else "0.1",
        currency="USD",
        gone=None,
        input=judged,
    )


def said(*denied: str, backends: tuple[str, ...] = ("aer",)) -> Decision:
    """A candidate's answer."""
    return Decision(
        id="d",
        allow=not denied,
        checks=(),
        reasons=tuple(Reason(code, "hard", f"{code} speaks", "quota/shots.rego:1") for code in denied),
        backends=() if denied else backends,
        obligations=(),
        policies_applied=(),
        policy_revision="sha256:" + "1" * 64,
        engine="opa",
        input_hash="sha256:" + "2" * 64,
        decided_at=NOW,
    )


def told(tally: Tally) -> Impact:
    """The report."""
    return tally.told(candidate="sha256:" + "1" * 64, in_force=None, since=None, until=None)


def test_flips_are_told_with_their_money_by_project_and_reason() -> None:
    tally = Tally()
    price = {"amount": "2.5", "currency": "USD", "micros": 2_500_000}
    tally.judged(recorded(1, "team_shots", price=price), said(), reproduced=True)
    tally.judged(
        recorded(2, "team_shots", "budget_exceeded", price=price, job__project="other"), said(), reproduced=True
    )
    tally.judged(recorded(3, price=price), said("depth"), reproduced=True)
    tally.judged(recorded(4), said(), reproduced=None)
    report = told(tally)
    assert (report.recorded, report.replayed) == (4, 4)
    assert (report.let_in.count, report.let_in.upper) == (2, {"USD": "5.0"})
    assert [(line.name, line.count) for line in report.let_in.by_reason] == [("team_shots", 2), ("budget_exceeded", 1)]
    assert [group.key for group in report.let_in.groups] == ["demo:team_shots", "other:budget_exceeded+team_shots"]
    assert (report.kept_out.count, report.kept_out.charged) == (1, {"USD": "0.1"})
    assert report.kept_out.shown[0].why == "depth speaks"
    shown = "\n".join(lines(report, "candidate"))
    assert shown.index("DENY → ALLOW") < shown.index("ALLOW → DENY")
    assert "5.00 USD" in shown
    assert msgspec.convert(msgspec.to_builtins(report), Impact) == report


def test_what_is_not_known_is_counted_and_is_no_flip() -> None:
    tally = Tally()
    tally.lost(recorded(1), "erased")
    tally.lost(recorded(2), "older_form")
    tally.unsound(recorded(3), "the policy's decision is undefined")
    tally.not_reproduced(recorded(4, "team_shots"))
    tally.judged(recorded(5, "team_shots"), said(), reproduced=None)
    report = told(tally)
    unclear = report.unclear
    counted = (unclear.erased, unclear.older_form, unclear.unsound, unclear.not_reproduced, unclear.unchecked)
    assert counted == (1, 1, 1, 1, 1)
    assert (report.recorded, report.replayed, report.let_in.count) == (5, 1, 1)
    assert report.unclear.faults == ("job-3: the policy's decision is undefined",)


def test_answers_that_stay_tell_what_changed_about_them() -> None:
    tally = Tally()
    tally.judged(recorded(1), said(backends=("ibm",)), reproduced=True)
    tally.judged(recorded(2, "team_shots"), said("depth"), reproduced=True)
    same = told(tally).same
    assert (same.allowed, same.denied, same.other_backends, same.moved, same.other_reasons) == (1, 1, 1, 1, 1)


def test_decisions_whose_figures_a_flip_would_have_changed_are_counted() -> None:
    tally = Tally()
    tally.judged(recorded(1, "team_shots"), said(), reproduced=True)
    tally.judged(recorded(2), said(), reproduced=True)  # same project and month
    tally.identical(recorded(3, at="2026-12-01T10:00:00.000Z"))  # the next month's budget
    unclear = told(tally).unclear
    assert (unclear.running_after, unclear.budget_after) == (2, 1)


@pytest.mark.parametrize(
    ("period", "at", "reached"),
    [
        ("monthly", "2026-11-30T23:59:59.999Z", True),
        ("monthly", "2026-12-01T00:00:00.000Z", False),
        ("quarterly", "2026-12-31T00:00:00.000Z", True),
        ("quarterly", "2027-01-01T00:00:00.000Z", False),
        ("total", "2030-01-01T00:00:00.000Z", True),
        ("rolling:7", "2026-11-27T10:00:00.000Z", True),
        ("rolling:7", "2026-11-27T10:00:00.001Z", False),
    ],
)
def test_a_flip_reaches_as_far_as_the_budgets_window(period: str, at: str, *, reached: bool) -> None:
    changed = Changed()
    budget = document()["budgets"][0] | {"period": period}
    changed.by(document(budgets=[budget]), "2026-11-20T10:00:00.000Z")
    found = set(changed.reaches(document(budgets=[budget], job__project="p", principal__team=None), at))
    assert ("budget" in found) is reached


def test_only_what_nobody_acknowledged_is_left() -> None:
    tally = Tally()
    tally.judged(recorded(1, "team_shots", "depth"), said(), reproduced=True)
    side = told(tally).let_in
    for words, left in (
        ((), 1),
        (("demo:team_shots",), 1),
        (("demo:team_shots", "demo:depth"), 0),
        (("*:team_shots", "demo:*"), 0),
        (("other:*",), 1),
        (("*:*",), 0),
    ):
        assert len(unacknowledged(side, words)) == left, words


def test_memory_does_not_grow_with_the_flips() -> None:
    tally = Tally()
    for number in range(200):
        tally.judged(recorded(number, "team_shots"), said(), reproduced=True)
        tally.unsound(recorded(number), "fault")
    report = told(tally)
    assert report.let_in.count == 200
    assert (len(report.let_in.shown), len(report.unclear.faults)) == (20, 20)


def _hostile() -> Impact:
    tally = Tally()
    name = "x|y</td><script>alert(1)</script>`# [a](b)"
    tally.judged(recorded(1, "team_shots", job__project=name), said(), reproduced=True)
    tally.unsound(recorded(2, job__project=name), "no </ul> & answer")
    return told(tally)


def test_the_page_runs_nothing_and_loads_nothing_whatever_a_project_is_called() -> None:
    page = html(_hostile(), "<b>candidate</b>")
    tags = {tag for tag, _ in _tags(page)}
    assert not tags & {"script", "iframe", "img", "link", "object", "form"}
    named = {name for _, attributes in _tags(page) for name, _ in attributes}
    assert not [name for name in named if name.startswith("on") or name in {"src", "href", "style"}]
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert page.count("<table>") == page.count("</table>") >= 6


def _tags(page: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    found: list[tuple[str, list[tuple[str, str | None]]]] = []

    class Seen(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, attrs))

    Seen().feed(page)
    return found


def test_bars_show_what_the_table_says() -> None:
    tally = Tally()
    for number in range(6):
        tally.judged(recorded(number, "team_shots", job__project=f"p{number % 2}"), said(), reproduced=True)
    page = html(told(tally), "candidate")
    assert page.count("<rect ") == 3  # two projects and one reason
    assert 'aria-label="decisions by project; the table below has them"' in page


def test_markdown_of_a_hostile_name_is_text() -> None:
    shown = markdown(_hostile(), "candidate")
    assert "<script>" not in shown
    assert "[a](b)" not in shown
    rows = [line for line in shown.splitlines() if line.startswith("| x")]
    assert rows
    assert all(re.sub(r"\\.", "", row).count("|") in {4, 5} for row in rows), rows


def test_a_report_on_nothing_says_so() -> None:
    report = told(Tally())
    assert "0 recorded decisions" in "\n".join(lines(report, "candidate"))
    assert "0 recorded decisions" in html(report, "candidate")
    assert "0 recorded decisions" in markdown(report, "candidate")
