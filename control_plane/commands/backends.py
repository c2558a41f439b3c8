# SPDX-License-Identifier: Apache-2.0
"""`qcos backends list|show|figures|credential`."""

from __future__ import annotations

import argparse
from typing import Any

from control_plane.commands import _credentials as credentials
from control_plane.commands._plane import plane


def register(groups: Any) -> None:
    """Add the commands."""
    backends = groups.add_parser("backends", help="where jobs can run").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    credentials.register(backends)
    listing = backends.add_parser("list", help="backends, and why each is up or down")
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_list)
    one = backends.add_parser("show", help="capability, calibrations, queue and prices of one")
    one.add_argument("backend", metavar="BACKEND")
    one.add_argument("--hours", metavar="N", type=int, default=24, help="of the queue; 24")
    one.add_argument("--json", action="store_true", help="one document")
    one.set_defaults(run=_show)
    figures = backends.add_parser("figures", help="success, queue, price and drift over a period")
    figures.add_argument("--since", metavar="PERIOD", default="30d", help="so many days or hours: 30d, 12h")
    figures.add_argument("--provider", metavar="PROVIDER", help="its backends alone")
    figures.add_argument("--json", action="store_true", help="one document")
    figures.set_defaults(run=_figures)


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/backends")
    if arguments.json:
        tables.document(found)
        return
    rows = [
        (
            b["id"],
            b["provider"],
            b["state"],
            b["qubits"],
            ",".join(b["formats"]),
            b["compliance_zone"],
            b["reason"],
        )
        for b in found
    ]
    tables.table(("backend", "provider", "state", "qubits", "formats", "zone", "reason"), rows)


def _show(arguments: argparse.Namespace) -> None:
    from urllib.parse import quote, urlencode

    from control_plane import tables

    query = urlencode({"hours": arguments.hours})
    found = plane().ask("GET", f"/api/v1/backends/{quote(arguments.backend, safe='')}?{query}")
    if arguments.json:
        tables.document(found)
        return
    queue, calibration = found["queue"], found["calibration"]
    state = f"{found['state']} since {found['since']}" + (f": {found['reason']}" if found["reason"] else "")
    waits = f"{queue['depth']} waiting, {queue['seconds']:g} s" if queue["depth"] is not None else "unknown"
    pairs = [
        ("backend", found["id"]),
        ("provider", found["provider"]),
        ("state", state),
        ("qubits", found["qubits"]),
        ("shots", f"at most {found['max_shots']}" if found["max_shots"] is not None else None),
        ("simulator", found["simulator"]),
        ("place", _place(found)),
        ("queue", waits),
        ("calibration", f"{calibration['id']} from {calibration['valid_from']}" if calibration else None),
        ("errors", _errors(calibration["errors"]) if calibration else None),
    ]
    pairs += [(name, _plain(value)) for name, value in found["capability"].items() if name != "walls"]
    tables.facts(pairs)
    heading = ("calibration", "valid from", "found", "last seen", "errors")
    calibrations = [
        (c["id"], c["valid_from"], c["found_at"], c["seen_at"], _errors(c["errors"])) for c in found["calibrations"]
    ]
    tables.table(heading, calibrations)
    tables.table(
        ("at", "state", "waiting", "seconds", "reason"),
        [
            (q["at"], "online" if q["online"] else "offline", q["depth"], f"{q['queue_s']:g}", q["reason"])
            for q in found["queue_history"]
        ],
    )
    tables.table(
        ("price from", "until", "state", "1,000 executions at most", "currency", "rates", "card"),
        [
            (
                *(p["from"], p["until"], "in force" if p["in_force"] else "not in force"),
                *(p["at_most_for_1000"], p["currency"], _rates(p["rates"]), p["rate_card"]),
            )
            for p in found["prices"]
        ],
    )


def _place(found: dict[str, Any]) -> str | None:
    if found["region"] is None:
        return None
    return f"{found['region']}, zone {found['compliance_zone']}{', sovereign' if found['sovereign'] else ''}"


def _errors(errors: dict[str, float | None] | None) -> str | None:
    if errors is None:
        return None
    return ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in errors.items() if value is not None)


def _rates(rates: list[dict[str, Any]]) -> str:
    return ", ".join(map(_rate, rates))


def _rate(line: dict[str, Any]) -> str:
    """A line of a card in words: 0.02 a 10 ms, each that a task started whole."""
    from finops.facts import UNITS

    unit = line["unit"]
    said = f"{line['rate']} a {unit.lower().removesuffix('s') if unit in UNITS.values() else unit}"
    said += "".join(f" ({tier['rate']} above {tier['above']})" for tier in line["tiers"][1:])
    if line["increment"] is not None:
        which = {"up": "started", "half_up": "rounded", "down": "full"}[line["increment"]["rounding"]]
        said += f" by {line['increment']['size']} {which}"
    if line["minimum"] is not None:
        said += f" and at least {line['minimum']}"
    return said


def _plain(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name} {one}" for name, one in value.items())
        case _:
            return str(value)


def _figures(arguments: argparse.Namespace) -> None:
    from urllib.parse import urlencode

    from control_plane import tables

    asked = {"since": arguments.since, "provider": arguments.provider}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = plane().ask("GET", f"/api/v1/backends/figures?{query}")
    if arguments.json:
        tables.document(found)
        return
    heading = (
        "backend",
        "provider",
        "jobs",
        "success",
        "95 % interval",
        "queue p50 s",
        "p95 s",
        "1,000 executions",
        "drift price",
        "drift time",
        "failures",
    )
    tables.table(heading, [_figured(one) for one in found["backends"]])


def _figured(one: dict[str, Any]) -> tuple[Any, ...]:
    low, high = one["success_interval"] or (None, None)
    queue = one["queue_s"] or {"p50": None, "p95": None}
    price = f"{one['price_per_1000']} {one['currency']}" if one["price_per_1000"] is not None else None
    return (
        one["backend"],
        one["provider"],
        one["jobs"],
        _percent(one["success_rate"]),
        None if low is None else f"{_percent(low)} to {_percent(high)}",
        queue["p50"],
        queue["p95"],
        price,
        _percent(one["drift"]["price"], "+"),
        _percent(one["drift"]["run_time"], "+"),
        ", ".join(f"{code} {times}" for code, times in one["failures"].items()) or None,
    )


def _percent(share: float | None, sign: str = "") -> str | None:
    return None if share is None else f"{share:{sign}.1%}"
