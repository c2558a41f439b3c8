# SPDX-License-Identifier: Apache-2.0
"""`qcos evidence get`, `trust export`: what an auditor takes away."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, write
from control_plane.formats import FORMATS, TRUST_FORMATS

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})
SEAL_S = 10.0
LOOK_S = 0.05


def register(groups: Any) -> None:
    """Add the two commands."""
    evidence = groups.add_parser("evidence", help="evidence bundles").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    get = evidence.add_parser("get", help="fetch a job's evidence")
    get.add_argument("job", metavar="JOB")
    get.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    get.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    get.add_argument("--json", action="store_true", help="one document")
    get.set_defaults(run=_get)
    trust = groups.add_parser("trust", help="the keys that evidence is judged by").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    export = trust.add_parser("export", help="write the plane's trust file, to be delivered apart from evidence")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    export.add_argument("--format", choices=TRUST_FORMATS, default=TRUST_FORMATS[0])
    export.add_argument("--json", action="store_true", help="one document")
    export.set_defaults(run=_trust)


def _get(arguments: argparse.Namespace) -> None:
    import time
    from urllib.parse import quote

    from control_plane.client import Answered

    client = plane()
    path = f"/api/v1/jobs/{quote(arguments.job, safe='')}"
    until = time.monotonic() + SEAL_S
    while True:
        try:
            _write(arguments, client.raw("GET", f"{path}/evidence?format={arguments.format}")[1])
            return
        except Answered as refused:
            # A denial is answered before it is sealed; who asks at once waits that moment, but not for a job that runs.
            if refused.code != "evidence_pending" or time.monotonic() > until:
                raise
            if client.ask("GET", path)["state"] not in ENDED:
                raise
        time.sleep(LOOK_S)


def _trust(arguments: argparse.Namespace) -> None:
    _write(arguments, plane().raw("GET", f"/api/v1/trust?format={arguments.format}")[1])


def _write(arguments: argparse.Namespace, data: bytes) -> None:
    from control_plane import tables

    write(arguments.output, data)
    written = {"file": str(arguments.output), "bytes": len(data)}
    if arguments.json:
        tables.document(written)
    else:
        tables.facts(list(written.items()))
