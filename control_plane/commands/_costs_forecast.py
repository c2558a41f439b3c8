# SPDX-License-Identifier: Apache-2.0
"""`qcos costs forecast|anomalies`: what the month will have cost, and days out of line (G7, G14)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._plane import plane
from finops.dimensions import KEPT

_LEGEND = "█ so far ▒ low ░ high"


def register(costs: Any) -> None:
    """Add the commands."""
    forecast = costs.add_parser("forecast", help="what the month will have cost, and when budgets run out")
    forecast.add_argument("--month", metavar="YYYY-MM", help="a month that isn't over (UTC); this one unless told")
    forecast.add_argument(
        "--by", choices=KEPT, metavar="NAME", help=f"by one of {', '.join(KEPT)}; all together unless told"
    )
    forecast.add_argument("--scope", metavar="KIND:NAME", help="its spend alone, as project:NAME")
    forecast.add_argument("--json", action="store_true", help="one document")
    forecast.set_defaults(run=_forecast)
    anomalies = costs.add_parser("anomalies", help="days whose spend is out of line")
    anomalies.add_argument(
        "--by",
        choices=KEPT,
        metavar="NAME",
        default="project",
        help=f"by one of {', '.join(KEPT)}; project unless told",
    )
    anomalies.add_argument("--scope", metavar="KIND:NAME", help="its spend alone, as project:NAME")
    anomalies.add_argument(
        "--days", metavar="N", type=int, default=7, help="so many complete days to yesterday; 7 unless told"
    )
    anomalies.add_argument(
        "--rate", metavar="R", type=float, default=0.05, help="of false alarms a day; 0.05 unless told"
    )
    anomalies.add_argument("--json", action="store_true", help="one document")
    anomalies.set_defaults(run=_anomalies)


def _forecast(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = _asked("forecast", arguments, ("month", "by", "scope"))
    if arguments.json:
        tables.document(found)
        return
    by = () if arguments.by is None else (arguments.by,)
    heading = (
        *by,
        "so far",
        "currency",
        f"end of {found['month']}",
        "within 80 %",
        "within 95 %",
        "a day",
        "within 80 %",
        "",
    )
    groups = found["groups"]
    rows = [[*(group[name] for name in by), *_line(group)] for group in groups]
    tables.table(heading, rows, [_drawn(group, groups) for group in groups], _LEGEND)
    if found["reason"] is not None:
        tables.facts([("reason", found["reason"])])
    if found["budgets"]:
        tables.apart()
        names = ("scope", "period", "available", "currency", "earliest", "expected", "latest", "reason")
        heading = (*names[:4], "spent: earliest", *names[5:7], "")
        tables.table(heading, [[budget[name] for name in names] for budget in found["budgets"]])


def _line(group: dict[str, Any]) -> list[Any]:
    said = group["forecast"]
    if said is None:
        return [group["captured"], group["currency"], None, None, None, None, None, group["reason"]]
    within = [" to ".join(said[name]) for name in ("within_80", "within_95", "a_day_within_80")]
    return [group["captured"], group["currency"], said["month_end"], within[0], within[1], said["a_day"], within[2], ""]


def _drawn(group: dict[str, Any], groups: list[dict[str, Any]]) -> str:
    """What is charged, and from there to the ends of the interval of 80 %; beside others of its currency."""
    from control_plane import tables

    def ends(one: dict[str, Any]) -> tuple[float, ...]:
        said = one["forecast"]
        charged = float(one["captured"])
        return (charged, charged, charged) if said is None else (charged, *map(float, said["within_80"]))

    most = max(ends(one)[2] for one in groups if one["currency"] == group["currency"])
    charged, low, high = ends(group)
    return tables.bar(most, charged, low - charged, high - low)


def _anomalies(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = _asked("anomalies", arguments, ("by", "scope", "days", "rate"))
    if arguments.json:
        tables.document(found)
        return
    names = ("day", found["by"], "spend", "usual", "currency", "direction", "p_value")
    tables.table(names, [[one[name] for name in names] for one in found["anomalies"]])
    if found["reason"] is not None:
        tables.facts([("reason", found["reason"])])
    else:
        chance = f"{found['looks']} looks; by chance alone {found['expected_false_alarms']:g} days alarm on average"
        tables.facts([("looked at", chance)])


def _asked(what: str, arguments: argparse.Namespace, names: tuple[str, ...]) -> Any:
    from urllib.parse import urlencode

    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return plane().ask("GET", f"/api/v1/costs/{what}?{urlencode(given)}")
