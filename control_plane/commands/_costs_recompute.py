# SPDX-License-Identifier: Apache-2.0
"""`qcos costs recompute FILE`: each line of a FOCUS file of ours again, from evidence that verifies (G7, G3)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(costs: Any) -> None:
    """Add the command."""
    again = costs.add_parser("recompute", help="rebuild each usage of a FOCUS file from evidence: zero difference")
    again.add_argument("file", metavar="FILE", type=Path, help="as `qcos costs export` wrote it")
    again.add_argument("--trust", metavar="FILE", type=Path, required=True, help="the trust file, delivered apart")
    again.add_argument(
        "--evidence", metavar="FOLDER", type=Path, help="bundles, *.json; asked of the plane unless given"
    )
    again.add_argument("--json", action="store_true", help="one document")
    again.set_defaults(run=_recompute)


def _recompute(arguments: argparse.Namespace) -> int:
    import msgspec

    from control_plane import tables
    from control_plane.costs import recomputing
    from control_plane.errors import Refused
    from finops.focus import reading, recompute

    try:
        lines = reading.lines(arguments.file.read_bytes())
        trust = arguments.trust.read_bytes()
        folder: Path | None = arguments.evidence
        if folder is not None:
            bundles = [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.json"))]
        else:
            bundles = list(_asked({line.texts["x_JobId"] for line in lines if line.texts["x_Category"] == "usage"}))
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename}: {error.strerror}") from None
    proven, why = recomputing.proven(bundles, trust)
    found = recompute.compare(lines, proven, why)
    told = [one for one in found if one.state != "same"]
    counts = {
        state: sum(one.state == state for one in found) for state in ("same", "differs", "missing", "extra", "unproven")
    }
    total = recompute.differences(found)
    if arguments.json:
        tables.document(counts | {"difference": total, "lines": msgspec.to_builtins(told)})
    else:
        rows = [
            [one.state, one.line or "", one.job_id, one.got or "", one.want or "", one.currency, one.detail]
            for one in told
        ]
        if rows:
            tables.table(("state", "line", "job", "file", "evidence", "currency", "why"), rows)
        tables.facts([*counts.items(), *((f"difference {name}", amount) for name, amount in total.items())])
    return 1 if told else 0


def _asked(jobs: set[str]) -> Any:
    from urllib.parse import quote

    from control_plane.client import Answered, Client
    from control_plane.settings import located

    client = Client(located().home)
    for job_id in sorted(jobs):
        try:
            yield job_id, client.raw("GET", f"/api/v1/jobs/{quote(job_id, safe='')}/evidence?format=bundle")[1]
        except Answered as refused:
            if refused.status in {401, 403}:
                raise
