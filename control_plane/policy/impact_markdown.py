# SPDX-License-Identifier: Apache-2.0
"""An impact as Markdown, for a comment under a change of policy. Pure.

Texts of jobs (projects, reasons' messages) are escaped: what somebody named a project makes no heading, link or table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from control_plane.policy.impact import Impact, Line, Side
from control_plane.policy.impact_text import UNCLEAR, many, money, short, unclear

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~@&])")
_SHOWN = 10


def markdown(impact: Impact, name: str) -> str:
    """The report, for a candidate that is called so."""
    return "\n".join(_lines(impact, name)) + "\n"


def _lines(impact: Impact, name: str) -> Iterator[str]:
    yield f"## Impact of {_text(name)}"
    yield ""
    recorded = many(impact.recorded, "recorded decision")
    yield f"`{short(impact.candidate)}` on {recorded}, {impact.since} to {impact.until}."
    yield ""
    yield from _table(
        ("", "decisions", "at most", "charged"),
        [
            ("**DENY → ALLOW**", f"**{impact.let_in.count:,}**", money(impact.let_in.upper), ""),
            ("ALLOW → DENY", f"{impact.kept_out.count:,}", money(impact.kept_out.upper), _charged(impact.kept_out)),
            ("stay the same", f"{impact.same.allowed + impact.same.denied:,}", "", ""),
        ],
    )
    for title, side in (("DENY → ALLOW", impact.let_in), ("ALLOW → DENY", impact.kept_out)):
        if side.count:
            yield from _side(title, side)
    told = unclear(impact)
    if told:
        yield "### What can't be told exactly"
        yield ""
        yield from _table(("decisions", ""), [(f"{count:,}", UNCLEAR[member]) for member, count in told])
    control = impact.control
    yield f"{control.agreed:,} of {control.checked:,} made again by their own revision came out as recorded."
    yield from _others(impact)


def _side(title: str, side: Side) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    for heading, found in (("project", side.by_project), ("reason", side.by_reason)):
        yield from _table((heading, "decisions", "at most"), [_row(line) for line in found[:_SHOWN]])
    yield f"<details><summary>The dearest {min(side.count, _SHOWN)}</summary>"
    yield ""
    yield from _table(
        ("job", "project", "at most", "why it is denied"),
        [
            (f"`{flip.job_id}`", _text(flip.project), _amount(flip.upper, flip.currency), _text(flip.why))
            for flip in side.shown[:_SHOWN]
        ],
    )
    yield "</details>"
    yield ""


def _row(line: Line) -> tuple[str, str, str]:
    return _text(line.name), f"{line.count:,}", money(line.upper)


def _amount(amount: str | None, currency: str | None) -> str:
    return money({currency: amount}) if amount is not None and currency is not None else ""


def _charged(side: Side) -> str:
    return money(side.charged) if side.charged else ""


def _others(impact: Impact) -> Iterator[str]:
    if impact.unclear.faults:
        yield ""
        yield "The candidate's answers that weren't sound:"
        yield ""
        yield from (f"- {_text(fault)}" for fault in impact.unclear.faults)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _text(text: str) -> str:
    """Plain text: every sign that Markdown gives a meaning stands for itself, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())[:300])
