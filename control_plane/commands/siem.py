# SPDX-License-Identifier: Apache-2.0
"""`qcos siem`: how far each receiver was told, and the same events as a file; on the plane's machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def register(groups: Any) -> None:
    """Add the commands."""
    about = "administrative entries of the ledger as OCSF events"
    siem = groups.add_parser("siem", help=about).add_subparsers(
        title="commands", metavar="COMMAND", dest="what", required=True
    )
    show = siem.add_parser("show", help="each [[siem]] receiver: whether it is there, and what it was told last")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)
    events = siem.add_parser("events", help="the events, one JSON document a line: for a SIEM that takes files")
    events.add_argument("--since", metavar="INDEX", type=int, default=0, help="from this entry of the log on")
    events.add_argument("--tenant", metavar="NAME", help="of this tenant alone")
    events.set_defaults(run=_events)
    for command in (show, events):
        command.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.settings import load
    from control_plane.siem.place import load as place_of

    settings = load({"home": arguments.home})
    places = [(facts, place_of(settings.home, facts.name)) for facts in settings.siem]
    if arguments.json:
        tables.document(
            [
                {
                    "name": facts.name,
                    "host": facts.host,
                    "port": facts.port,
                    "tenant": facts.tenant,
                    "connected": place.connected,
                    "since": place.since,
                    "fault": place.fault,
                    "last_index": place.sent[-1] if place.sent else None,
                    "read": place.read,
                }
                for facts, place in places
            ]
        )
        return
    rows = [
        (
            facts.name,
            f"{facts.host}:{facts.port}",
            "connected" if place.connected else f"away: {place.fault or 'not tried yet'}",
            place.since,
            place.sent[-1] if place.sent else None,
        )
        for facts, place in places
    ]
    tables.table(("receiver", "address", "state", "since", "last entry"), rows)


def _events(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane.settings import load
    from control_plane.siem.listing import events
    from ledger.canonical import dumps

    async def write() -> None:
        async for event in events(load({"home": arguments.home}), max(0, arguments.since), arguments.tenant):
            sys.stdout.write(dumps(event).decode() + "\n")

    asyncio.run(write())
