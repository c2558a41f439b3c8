# SPDX-License-Identifier: Apache-2.0
"""`qcos costs estimates`: whether estimates hold what they promise (G7)."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands._plane import plane

_HEADINGS = ("backend", "jobs", "judged", "inside", "below", "above", "stated", "covered", "95 %", "width", "")


def register(costs: Any) -> None:
    """Add the command."""
    command = costs.add_parser(
        "estimates", help="how many charges fell into the intervals that their jobs were given, by backend"
    )
    command.add_argument("--since", metavar="PERIOD", default="30d", help="so many days (30d) or hours (12h)")
    command.add_argument("--json", action="store_true", help="one document")
    command.set_defaults(run=_estimates)


def _estimates(arguments: argparse.Namespace) -> None:
    from urllib.parse import urlencode

    from control_plane import tables

    found = plane().ask("GET", f"/api/v1/costs/estimates?{urlencode({'since': arguments.since})}")
    if arguments.json:
        tables.document(found)
        return
    tables.table(_HEADINGS, [_row(one) for one in found["backends"]])


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    counted = (one[name] for name in ("backend", "jobs", "judged", "inside", "below", "above"))
    if one["coverage"] is None:
        return (*counted, _share(float(one["stated"])), None, None, None, "nothing was promised yet")
    low, high = one["coverage_interval"]
    width = None if one["width"] is None else f"± {100 * one['width'] / 2:.1f} %"
    said = "drift" if one["drift"] else ""
    covered = (_share(one["coverage"]), f"{_share(low)} to {_share(high)}")
    return (*counted, _share(float(one["stated"])), *covered, width, said)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
