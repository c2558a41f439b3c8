# SPDX-License-Identifier: Apache-2.0
"""`qcos demo-data`: something to try policies and reports on, in profile dev."""

from __future__ import annotations

import argparse
from typing import Any

_MOST = 1_000_000
_LARGEST = 100


def register(groups: Any) -> None:
    """Add the command."""
    data = groups.add_parser("demo-data", help="something to try policies and reports on; profile dev").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    made = data.add_parser("decisions", help="admissions and denials by the pipeline's own code; nothing runs")
    made.add_argument("count", metavar="N", help="how many")
    made.add_argument("--json", action="store_true", help="one document")
    made.set_defaults(run=_decisions)
    month = data.add_parser("month", help="jobs of the last month and this one, run and charged at their own times")
    month.add_argument("--scale", default="1", metavar="X", help="so many times as many jobs (1: some 220)")
    month.add_argument(
        "--invoice", metavar="FILE", help="write a provider's invoice of the last month, with faults in it"
    )
    month.add_argument("--json", action="store_true", help="one document")
    month.set_defaults(run=_month)


def _decisions(arguments: argparse.Namespace) -> None:
    import asyncio
    import sys

    import msgspec

    from control_plane import demo_data, tables
    from control_plane.errors import Refused
    from control_plane.home import running_record
    from control_plane.settings import located

    if not arguments.count.isdecimal() or not 0 < int(arguments.count) <= _MOST:
        raise Refused("usage", f"{arguments.count}: a number from 1 to {_MOST:,}")
    settings = located()
    running_record(settings.home)  # or it is unreachable: nobody would seal what is recorded
    wanted, shown = int(arguments.count), sys.stderr.isatty() and not arguments.json

    def tell(done: int) -> None:
        if shown and (done % 100 == 0 or done == wanted):
            sys.stderr.write(f"\r{done:,} of {wanted:,}{chr(10) if done == wanted else ''}")

    made = asyncio.run(demo_data.decisions(settings, wanted, tell))
    if arguments.json:
        tables.document(msgspec.to_builtins(made))
        return
    denied = ", ".join(f"{count:,} {code}" for code, count in made.denied.items()) or "none"
    rate = made.decisions / made.seconds
    tables.facts(
        [
            ("decisions", f"{made.decisions:,} in {made.seconds:.1f} s, {rate:,.0f} a second"),
            ("admitted", f"{made.admitted:,}, each cancelled at once: nothing ran"),
            ("denied", denied),
        ]
    )


def _month(arguments: argparse.Namespace) -> None:
    import asyncio
    import sys
    from pathlib import Path

    import msgspec

    from control_plane import demo_month, tables
    from control_plane.errors import Refused
    from control_plane.home import running_record
    from control_plane.settings import located

    try:
        scale = float(arguments.scale)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= _LARGEST:
        raise Refused("usage", f"{arguments.scale}: a number above 0, at most {_LARGEST}")
    file = Path(arguments.invoice) if arguments.invoice else None
    if file is not None and file.exists():
        raise Refused("usage", f"{file} is there already: name a new file")
    settings = located()
    running_record(settings.home)
    shown = sys.stderr.isatty() and not arguments.json

    def tell(done: int, wanted: int) -> None:
        if shown:
            sys.stderr.write(f"\r{done:,} of {wanted:,}{chr(10) if done == wanted else ''}")

    made = asyncio.run(demo_month.month(settings, scale, tell, file))
    if arguments.json:
        tables.document(msgspec.to_builtins(made))
        return
    told = ", ".join(f"{count:,} {name}" for name, count in (made.ended | made.denied).items()) or "none"
    facts = [("days", f"{made.since} to {made.until}"), ("jobs", told), ("took", f"{made.seconds:.1f} s")]
    if file is not None:
        wrong = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in made.planted.items())
        facts.append(("invoice", f"{file}; planted: {wrong}"))
    tables.facts(facts)
