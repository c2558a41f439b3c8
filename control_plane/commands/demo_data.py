# SPDX-License-Identifier: Apache-2.0
"""`qcos demo-data`: something to try policies and reports on, in profile dev."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control_plane.settings import Settings

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
    from control_plane.settings import located

    if not arguments.count.isdecimal() or not 0 < int(arguments.count) <= _MOST:
        raise Refused("usage", f"{arguments.count}: a number from 1 to {_MOST:,}")
    settings = located()
    _demand_dev(settings)
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

    import msgspec

    from control_plane import demo_month, tables
    from control_plane.errors import Refused
    from control_plane.settings import located

    try:
        scale = float(arguments.scale)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= _LARGEST:
        raise Refused("usage", f"{arguments.scale}: a number above 0, at most {_LARGEST}")
    settings = located()
    _demand_dev(settings)
    file = _new(arguments.invoice)
    shown = sys.stderr.isatty() and not arguments.json

    def tell(done: int, wanted: int) -> None:
        if shown:
            sys.stderr.write(f"\r{done:,} of {wanted:,}{chr(10) if done == wanted else ''}")

    try:
        made = asyncio.run(demo_month.month(settings, scale, tell, file))
    except BaseException:
        if file is not None:
            file.unlink(missing_ok=True)
        raise
    if arguments.json:
        tables.document(msgspec.to_builtins(made))
        return
    told = ", ".join(f"{count:,} {name}" for name, count in (made.ended | made.denied).items()) or "none"
    facts = [("days", f"{made.since} to {made.until}"), ("jobs", told), ("took", f"{made.seconds:.1f} s")]
    if file is not None:
        wrong = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in made.planted.items())
        facts.append(("invoice", f"{file}; planted: {wrong}"))
    tables.facts(facts)


def _demand_dev(settings: Settings) -> None:
    """Both this shell's settings and the plane that runs say profile dev; raises SettingInvalid or Unreachable."""
    from control_plane.auth.keys import demand_dev
    from control_plane.home import running_record

    demand_dev(settings.profile)
    demand_dev(running_record(settings.home).profile)  # unreachable: nobody would seal what is recorded


def _new(name: str | None) -> Path | None:
    """The invoice's file, made now: a place that can't be written is told before a month is run."""
    from control_plane.errors import Refused

    if name is None:
        return None
    try:
        Path(name).touch(exist_ok=False)
    except OSError as error:
        raise Refused("unusable_input", f"{name}: {error.strerror}; name a new file") from None
    return Path(name)
