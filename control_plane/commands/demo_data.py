# SPDX-License-Identifier: Apache-2.0
"""`qcos demo-data`: something to try policies and reports on, in profile dev."""

from __future__ import annotations

import argparse
from typing import Any

_MOST = 1_000_000


def register(groups: Any) -> None:
    """Add the command."""
    data = groups.add_parser("demo-data", help="decisions to try policies on; profile dev").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    made = data.add_parser("decisions", help="admissions and denials by the pipeline's own code; nothing runs")
    made.add_argument("count", metavar="N", help="how many")
    made.add_argument("--json", action="store_true", help="one document")
    made.set_defaults(run=_decisions)


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
