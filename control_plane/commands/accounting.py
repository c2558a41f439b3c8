# SPDX-License-Identifier: Apache-2.0
"""`qcos accounting`: jobs as lines of a site's accounts, as `sacct` lists them (G6, G7)."""

from __future__ import annotations

import argparse
from typing import Any, Final

from control_plane.commands._plane import plane

_SHOWN: Final = {
    "slurm_job_id": "JobID",
    "account": "Account",
    "user": "User",
    "resource": "Resource",
    "created": "Submit",
    "elapsed": "Elapsed",
    "state": "State",
    "shots": "Shots",
    "qpu_seconds": "QPUSeconds",
    "cost": "Cost",
    "currency": "Currency",
    "job_id": "QCOSJobID",
}
_PAGE: Final = 1000


def register(groups: Any) -> None:
    """Add the command."""
    listing = groups.add_parser(
        "accounting", help="jobs as lines of a site's accounts, by Slurm's job id; of today (UTC) unless told otherwise"
    )
    listing.add_argument("--since", metavar="TIME", help="submitted from this day or moment on (UTC)")
    listing.add_argument("--until", metavar="TIME", help="and before this one")
    listing.add_argument("--account", metavar="NAME", help="the Slurm account that submitted them")
    listing.add_argument("--user", metavar="NAME", help="who asked for them")
    listing.add_argument("--job", metavar="SLURM_ID", help="what one Slurm job submitted, or ran as")
    shape = listing.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=("csv", "json", "parsable2"), help="in place of a table")
    shape.add_argument("-P", "--parsable2", action="store_true", help="as sacct -P: names and values between |")
    shape.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import datetime as dt
    import sys

    from control_plane import tables
    from control_plane.accounting import listing

    if arguments.since is arguments.until is arguments.job is None:
        arguments.since = dt.datetime.now(dt.UTC).date().isoformat()
    lines = _lines(arguments)
    shape = "parsable2" if arguments.parsable2 else "json" if arguments.json else arguments.format
    match shape:
        case "json":
            tables.document(lines)
        case "csv":
            sys.stdout.write(listing.csv(lines))
        case "parsable2":
            sys.stdout.write(listing.parsable(lines))
        case _:
            shown = [line | {"elapsed": listing.elapsed(line)} for line in lines]
            tables.table(tuple(_SHOWN.values()), [[line[name] for name in _SHOWN] for line in shown])


def _lines(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All pages, oldest first as sacct has them."""
    import json
    from urllib.parse import urlencode

    names = ("since", "until", "account", "user", "job")
    wanted = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    pages = plane().pages(f"/api/v1/accounting?{urlencode(wanted | {'limit': _PAGE})}")
    return [line for page in pages for line in json.loads(page)][::-1]
