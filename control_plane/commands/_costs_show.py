# SPDX-License-Identifier: Apache-2.0
"""`qcos costs show`: spend by any of its dimensions, and what changed most (G7)."""

from __future__ import annotations

import argparse
from typing import Any, Final

from control_plane.commands._plane import plane
from finops.dimensions import DIMENSIONS, NARROWING

_FIGURES: Final = ("spend", "currency", "share", "credits", "jobs", "completed", "cost_per_completed_job")
_MOVED: Final = ("spend", "before", "change", "change_percent", "currency")
_HEADINGS: Final = {"cost_per_completed_job": "per job", "change_percent": "%", "cost_center": "cost center"}


def register(costs: Any) -> None:
    """Add the command."""
    show = costs.add_parser(
        "show",
        help="spend by project, team, user and so on; of this month (UTC) unless told otherwise",
        description=f"Spend by up to four of {', '.join(DIMENSIONS)}. Jobs are those that were charged: one that "
        "failed or was denied costs nothing, and counts in neither `jobs` nor `completed`.",
    )
    show.add_argument(
        "--by", metavar="NAME", action="append", help="by what, several with commas or again; project unless told"
    )
    show.add_argument("--month", metavar="YYYY-MM", help="the month in which lines count (UTC)")
    show.add_argument("--since", metavar="TIME", help="charged from this day or moment on (UTC)")
    show.add_argument("--until", metavar="TIME", help="and before this one")
    show.add_argument("--top", metavar="N", type=_many, help="so many that changed most against the period before")
    for name in NARROWING:
        show.add_argument(f"--{name.replace('_', '-')}", metavar="NAME", help="its costs alone")
    show.add_argument("--limit", metavar="N", type=_many, help="so many rows at most; all unless told")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)


def _many(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted: a number from 1 on")
    return number


def _show(arguments: argparse.Namespace) -> None:
    import itertools
    import json
    from datetime import UTC, datetime
    from urllib.parse import urlencode

    from control_plane import tables
    from control_plane.errors import Refused
    from finops import spending

    by = list(dict.fromkeys(name for part in arguments.by or ["project"] for name in part.split(",")))
    if unknown := [name for name in by if name not in DIMENSIONS]:
        raise Refused("usage", f"--by: no {unknown[0]!r}; there are {', '.join(DIMENSIONS)}")
    if len(by) > spending.MAX_DIMENSIONS:
        raise Refused("usage", f"--by: {len(by)} names; at most {spending.MAX_DIMENSIONS} at a time")
    spending.period(arguments.month, arguments.since, arguments.until, datetime.now(UTC))
    asked = {"by": ",".join(by), "limit": 1000}
    asked |= {name: getattr(arguments, name) for name in ("month", "since", "until", "top", *NARROWING)}
    given = {name: value for name, value in asked.items() if value is not None}
    pages = plane().pages(f"/api/v1/costs?{urlencode(given)}")
    rows = list(itertools.islice((row for page in pages for row in json.loads(page)), arguments.limit))
    if arguments.json:
        tables.document(rows)
        return
    columns = (*by, *(_FIGURES if arguments.top is None else _MOVED))
    cells = [[_cell(name, row[name]) for name in columns] for row in rows]
    most: dict[str, float] = {}
    for row in rows:
        most[row["currency"]] = max(most.get(row["currency"], 0.0), float(row["spend"]))
    drawn = [tables.bar(most[row["currency"]], float(row["spend"])) for row in rows]
    tables.table([_HEADINGS.get(name, name) for name in columns], cells, drawn)


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "share":
            return f"{100 * value:.1f} %"
        case "change_percent":
            return f"{value:+.1f}"
        case "change":
            return value if value.startswith("-") or value == "0" else f"+{value}"
        case _:
            return value
