# SPDX-License-Identifier: Apache-2.0
"""`qcos budget set|show|alerts` (G7)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._plane import plane

FIELDS = ("scope", "period", "limit", "held", "captured", "available", "currency", "mode")
TOLD = ("thresholds", "notify")
_LEGEND = "█ captured ▒ held"


def register(groups: Any) -> None:
    """Add the two commands."""
    budget = groups.add_parser("budget", help="what may be spent: limits, what is left of them, alerts").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    change = budget.add_parser("set", help="set a budget: its limit, mode and thresholds")
    change.add_argument(
        "scope",
        metavar="SCOPE",
        help="tenant:NAME project:NAME cost_center:NAME user:NAME workflow:ID session:NAME provider:NAME",
    )
    change.add_argument("amount", metavar="AMOUNT", help="a decimal, such as 1000.00; of shots or jobs a whole number")
    change.add_argument("currency", metavar="CURRENCY", help="such as USD; or a quota: shots, jobs")
    change.add_argument(
        "--period",
        default="monthly",
        metavar="PERIOD",
        help="monthly (unless told), quarterly, total or rolling:DAYS; of a quota also concurrent: held at a moment",
    )
    change.add_argument(
        "--mode",
        choices=("hard", "soft", "advisory"),
        help="hard stops what doesn't fit (a new budget's mode), soft counts and alarms, advisory informs",
    )
    change.add_argument(
        "--thresholds",
        metavar="PERCENTS",
        help="per cents of the limit to tell of, such as 50,80,100; 80,100 unless told",
    )
    told = change.add_mutually_exclusive_group()
    told.add_argument(
        "--notify",
        metavar="NAMES",
        help='whom to alert: [[notify]] and [[mail]] tables of the settings; nobody with ""',
    )
    told.add_argument(
        "--notify-all", action="store_true", help="alert all tables with budgets = true, as a new budget does"
    )
    change.add_argument("--json", action="store_true", help="one document")
    change.set_defaults(run=_set)
    show = budget.add_parser("show", help="limits, and what is held and captured")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)
    alerts = budget.add_parser("alerts", help="which thresholds were crossed, when, and who was told")
    alerts.add_argument("--json", action="store_true", help="one document")
    alerts.set_defaults(run=_alerts)


def _set(arguments: argparse.Namespace) -> None:
    asked = {name: getattr(arguments, name) for name in ("scope", "amount", "currency", "period")}
    if arguments.mode is not None:
        asked["mode"] = arguments.mode
    if arguments.thresholds is not None:
        asked["thresholds"] = _per_cents(arguments.thresholds)
    if arguments.notify is not None:
        asked["notify"] = [name for name in arguments.notify.split(",") if name]
    if arguments.notify_all:
        asked["notify"] = None
    _print(arguments, plane().ask("PUT", "/api/v1/budgets", asked))


def _per_cents(text: str) -> list[int]:
    from control_plane.errors import Refused

    try:
        return [int(one) for one in text.split(",")] if text else []
    except ValueError:
        raise Refused("usage", "--thresholds: want whole per cents with commas, such as 50,80,100") from None


def _show(arguments: argparse.Namespace) -> None:
    _print(arguments, plane().ask("GET", "/api/v1/budgets"))


def _alerts(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/budgets/alerts")
    if arguments.json:
        tables.document(found)
        return
    heading = ("at", "scope", "period", "window", "alert", "spent", "held", "limit", "currency", "told")
    tables.table(heading, [_alert(one) for one in found])


def _alert(one: dict[str, Any]) -> tuple[Any, ...]:
    kind = f"{one['kind']} {one['threshold']} %" if one["kind"] in ("spent", "committed") else one["kind"]
    told = ", ".join(f"{channel['name']} {channel['state']}" for channel in one["channels"]) or "nobody"
    amounts = (one["captured"], one["held"], one["limit"], one["currency"])
    return (one["at"], one["scope"], one["period"], one["window"], kind, *amounts, told)


def _print(arguments: argparse.Namespace, budgets: list[dict[str, Any]]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(budgets)
    else:
        rows = [[*(budget[name] for name in FIELDS), *_told(budget)] for budget in budgets]
        tables.table(FIELDS + TOLD, rows, [_drawn(budget) for budget in budgets], _LEGEND)


def _told(budget: dict[str, Any]) -> tuple[str, str]:
    """At which per cents whom it alerts: as `budget set` takes them, and in a word where no table is named."""
    notify = budget["notify"]
    names = "all" if notify is None else ",".join(notify) or "nobody"
    return ",".join(map(str, budget["thresholds"])), names


def _drawn(budget: dict[str, Any]) -> str:
    from control_plane import tables

    limit, held, captured = (float(budget[name]) for name in ("limit", "held", "captured"))
    if limit <= 0:
        return ""
    drawn = tables.bar(limit, captured, held, limit - captured - held, width=12)
    return f"{drawn} {100 * (held + captured) / limit:3.0f} %"
