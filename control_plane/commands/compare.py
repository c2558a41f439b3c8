# SPDX-License-Identifier: Apache-2.0
"""`qcos compare`: one job on several backends, each governed as any other, and one report (G14)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, write

LIMIT_S = 600.0
LISTED = 16


def register(groups: Any) -> None:
    """Add the command."""
    compare = groups.add_parser("compare", help="the same job on several backends, and one report")
    compare.add_argument("file", metavar="FILE", type=Path, help="a job spec, or a circuit (.qasm, .qpy)")
    compare.add_argument("--backends", metavar="A,B,…", required=True, help="two ids of `backends list` or more")
    compare.add_argument("--shots", metavar="N", type=int, help="in place of the spec's")
    compare.add_argument("--margin", metavar="D", type=float, help="the distance up to which two are equal; 0.1")
    compare.add_argument("--limit", metavar="S", type=float, default=LIMIT_S, help="seconds to wait for all; 600")
    compare.add_argument("--html", metavar="FILE", type=Path, help="write the report as a page of its own, too")
    compare.add_argument("--json", action="store_true", help="one document")
    compare.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    import random
    import secrets
    from datetime import UTC, datetime

    from control_plane import tables
    from control_plane.commands._spec import read_body
    from control_plane.compare import gather, page, report
    from ledger.canonical import timestamp

    names = _names(arguments)
    margin = report.MARGIN if arguments.margin is None else arguments.margin
    client = plane()
    spec = gather.read_spec(read_body(client, arguments.file), str(arguments.file))
    workflow = f"compare-{secrets.token_hex(6)}"
    specs = {name: gather.pinned(spec, name, shots=arguments.shots, workflow=workflow) for name in names}
    rows = gather.run(client, specs, arguments.limit)
    found = report.document(
        rows,
        name=arguments.file.name,
        workflow=workflow,
        at=timestamp(datetime.now(UTC)),
        margin=margin,
        chance=random.Random,
    )
    if arguments.html is not None:
        write(arguments.html, page.page(found).encode())
    if arguments.json:
        tables.document(found)
    else:
        _tell(found)
        cheapest = report.cheapest(rows)
        facts = [("verdict", f"{found['verdict']['word']}: {found['verdict']['because']}")]
        facts += [("cheapest", ", ".join(cheapest))] if cheapest else []
        facts += [("page", str(arguments.html))] if arguments.html is not None else []
        tables.facts(facts)
    return 0 if found["pairs"] else 1


def _names(arguments: argparse.Namespace) -> list[str]:
    from control_plane.errors import Refused

    names = [name.strip() for name in arguments.backends.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) != len(names):
        raise Refused("usage", "--backends wants two ids or more, each once: aer,braket-local")
    if arguments.margin is not None and not 0 < arguments.margin <= 1:
        raise Refused("usage", "--margin wants a number above 0, at most 1")
    if not 0 < arguments.limit <= 86_400:
        raise Refused("usage", "--limit wants seconds, at most 86400")
    return names


def _tell(found: dict[str, Any]) -> None:
    from control_plane import tables

    heads = ("backend", "provider", "state", "shots", "cost", "queue s", "run s", "depth", "method", "noise", "bundle")
    tables.table(heads, [_row(row) for row in found["backends"]])
    failed = [(row["backend"], row["error"]) for row in found["backends"] if row["error"]]
    if failed:
        tables.table(("backend", "why not"), [(name, f"{why['code']}: {why['detail']}") for name, why in failed])
    if found["outcomes"]:
        names = list(found["outcomes"][0]["shares"])
        rows = [
            (one["outcome"], *(f"{s['share']:.4f} ({s['low']:.3f}-{s['high']:.3f})" for s in one["shares"].values()))
            for one in found["outcomes"][:LISTED]
        ]
        tables.table(("outcome", *names), rows)
    tables.table(("pair", "verdict", "distance", "at most", "p", "because"), [_pair(pair) for pair in found["pairs"]])


def _pair(pair: dict[str, Any]) -> tuple[str, ...]:
    numbers = f"{pair['distance']:.4f}", f"{pair['upper']:.4f}", f"{pair['p_value']:.3f}"
    return (f"{pair['a']} {pair['b']}", pair["verdict"], *numbers, pair["because"])


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    from control_plane import tables

    cost = f"{row['cost']['amount']} {row['cost']['currency']}" if row["cost"] else None
    times = (None if row[name] is None else f"{row[name]:.3f}" for name in ("queue_s", "run_s"))
    shots = row["shots"] or None
    facts = (row["depth"], row["method"], row["noise"], row["bundle_id"])
    return (row["backend"], row["provider"], tables.state(row["state"]), shots, cost, *times, *facts)
