# SPDX-License-Identifier: Apache-2.0
"""`qcos admin tenant`: tenants of this plane; on its machine, for nobody in a tenant may act on another (G11)."""

from __future__ import annotations

import argparse
from typing import Any

LIMITS = ("requests_per_s", "bytes_per_s", "waiting_jobs", "running_jobs", "shots_per_day")
_HELP = {
    "requests_per_s": "requests a second of all its people together",
    "bytes_per_s": "bytes of request bodies a second of all its people together",
    "waiting_jobs": "jobs that wait at once",
    "running_jobs": "jobs that run at once; more than that wait",
    "shots_per_day": "executions admitted a day (UTC)",
}


def add(admin: Any) -> None:
    """Add the commands below `qcos admin`."""
    group = admin.add_parser("tenant", help="tenants: open, list, limit, close, open again, export")
    tenant = group.add_subparsers(title="commands", metavar="COMMAND", dest="act", required=True)
    listing = tenant.add_parser("list", help="all tenants, with their limits")
    listing.set_defaults(run=_list)
    create = tenant.add_parser(
        "create", help="open a tenant; its people come by an issuer that the settings name for it"
    )
    create.set_defaults(run=_act, verb="create")
    limits = tenant.add_parser("limits", help="show a tenant's limits, or set those that are named; none is no limit")
    for name in LIMITS:
        limits.add_argument("--" + name.replace("_", "-"), dest=name, metavar="N", help=_HELP[name])
    limits.set_defaults(run=_limits)
    close = tenant.add_parser("close", help="refuse its people, end its jobs and keys; what it did stays provable")
    close.set_defaults(run=_act, verb="close")
    again = tenant.add_parser("reopen", help="let its people in again; keys and sessions that ended stay so")
    again.set_defaults(run=_act, verb="reopen")
    export = tenant.add_parser(
        "export", help="everything that a tenant owns, also a closed one's (docs/tenant-export.md)"
    )
    export.add_argument("-o", "--output", metavar="FILE", required=True, help="a new file")
    export.set_defaults(run=_export)
    for command in (create, limits, close, again, export):
        command.add_argument("tenant", metavar="TENANT")
    for command in (create, close, again, export):
        command.add_argument("--reason", metavar="TEXT", required=True, help="kept in the ledger; name nobody in it")
    limits.add_argument("--reason", metavar="TEXT", help="kept in the ledger; needed to set one")
    for command in (listing, create, limits, close, again, export):
        command.add_argument("--home", metavar="HOME", help=argparse.SUPPRESS)
        command.add_argument("--json", action="store_true", help="one document")


def _list(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.settings import load
    from control_plane.tenants import acts

    rows = asyncio.run(acts.listed(load({"home": arguments.home})))
    if arguments.json:
        tables.document(rows)
        return
    shown = [
        [row["tenant"], row["state"], row["created_at"], *(row["limits"][name] for name in LIMITS)] for row in rows
    ]
    tables.table(("tenant", "state", "created_at", *LIMITS), shown)


def _act(arguments: argparse.Namespace) -> None:
    from control_plane.tenants import acts

    act = {"create": acts.create, "close": acts.close, "reopen": acts.reopen}[arguments.verb]
    _tell(arguments, lambda plane: act(plane, arguments.tenant, reason_of(arguments)))


def _limits(arguments: argparse.Namespace) -> None:
    from control_plane.tenants import acts

    said = {name: getattr(arguments, name) for name in LIMITS if getattr(arguments, name) is not None}
    if said:
        _tell(arguments, lambda plane: acts.limit(plane, arguments.tenant, said, reason_of(arguments)))
    else:
        _tell(arguments, lambda plane: acts.shown(plane, arguments.tenant))


def _export(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.settings import load
    from control_plane.tenants import acts, export

    async def run() -> dict[str, Any]:
        async with acts.opened(load({"home": arguments.home})) as plane:
            return await export.written(plane, arguments.tenant, reason_of(arguments), arguments.output)

    done = asyncio.run(run())
    if arguments.json:
        tables.document(done)
    else:
        tables.facts(list(done.items()))


def reason_of(arguments: argparse.Namespace) -> str:
    """The reason that was given; Refused `usage` without one."""
    from control_plane.errors import Refused

    text: str = arguments.reason or ""
    if not text.strip() or len(text) > 1000 or "\x00" in text:
        raise Refused("usage", "--reason: why, in up to 1,000 characters")
    return text


def _tell(arguments: argparse.Namespace, act: Any) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.settings import load
    from control_plane.tenants import acts

    async def run() -> dict[str, Any]:
        async with acts.opened(load({"home": arguments.home})) as plane:
            done: dict[str, Any] = await act(plane)
            return done

    done = asyncio.run(run())
    if arguments.json:
        tables.document(done)
    else:
        show(done)


def show(told: dict[str, Any]) -> None:
    """A tenant for people: each limit with what counts against it."""
    from control_plane import tables

    plain = {name: value for name, value in told.items() if name not in {"limits", "usage"}}
    usage = told["usage"] | {"shots_per_day": told["usage"]["shots_today"]}
    against = [(name, f"{usage[name]} of " if name in usage else "", told["limits"][name]) for name in LIMITS]
    tables.facts(
        [*plain.items(), *((name, f"{used}{'no limit' if most is None else most}") for name, used, most in against)]
    )
