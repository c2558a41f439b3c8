# SPDX-License-Identifier: Apache-2.0
"""`qcos costs recompute FILE`: each line of a FOCUS file of ours again, from evidence that verifies (G7, G3)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from control_plane.client import Client
    from finops.focus.recompute import FileLine, Finding

_AT_ONCE: Final = 64
_LIMIT_S: Final = 600.0
_PATIENCE: Final = 60
_STATES: Final = ("same", "differs", "missing", "extra", "unproven")
_NOTE: Final = "trust from the plane itself; give --trust FILE from elsewhere for proof"


def register(costs: Any) -> None:
    """Add the command."""
    again = costs.add_parser("recompute", help="rebuild each line of a FOCUS file from evidence: zero difference")
    again.add_argument("file", metavar="FILE", type=Path, help="as `qcos costs export` wrote it")
    again.add_argument("--trust", metavar="FILE", type=Path, help="the trust file, delivered apart; else the plane's")
    again.add_argument(
        "--evidence", metavar="FOLDER", type=Path, help="bundles and proofs, *.json; asked of the plane unless given"
    )
    again.add_argument("--part", action="store_true", help="FILE isn't whole months: what it lacks isn't looked for")
    again.add_argument("--json", action="store_true", help="one document")
    again.set_defaults(run=_recompute)


def _recompute(arguments: argparse.Namespace) -> int:
    from control_plane.errors import Refused
    from finops.focus import reading

    folder: Path | None = arguments.evidence
    if folder is not None and arguments.trust is None:
        raise Refused("usage", "--evidence FOLDER wants --trust FILE: no plane is asked")
    try:
        data = arguments.file.read_bytes()
        trust = None if arguments.trust is None else arguments.trust.read_bytes()
        lines = reading.lines(data)
        if folder is not None:
            return _told(arguments, _offline(lines, folder, trust or b""))
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename}: {error.strerror}") from None
    return _online(arguments, lines, data, trust)


def _offline(lines: list[FileLine], folder: Path, trust: bytes) -> list[Finding]:
    from control_plane.costs import recomputing
    from finops.focus import recompute
    from ledger import proofs

    files = [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    proven, why = recomputing.proven(((name, data) for name, data in files if not proofs.looks_like_one(data)), trust)
    told, unread = recomputing.told(((name, data) for name, data in files if proofs.looks_like_one(data)), trust)
    return recompute.compare(lines, proven, why | unread, told)


def _online(arguments: argparse.Namespace, lines: list[FileLine], data: bytes, trust: bytes | None) -> int:
    from control_plane.client import Client
    from control_plane.costs import recomputing
    from control_plane.settings import located
    from finops.focus import recompute

    client = Client(located().home)
    given = trust if trust is not None else client.raw("GET", "/api/v1/trust")[1]
    jobs = {line.texts["x_JobId"] for line in lines if line.texts["x_Category"] == "usage"}
    lost: dict[str, str] = {}
    proven, why = recomputing.proven(_asked(client, "jobs", jobs, lost), given, recomputing.NEEDED)
    why |= lost
    entries = {
        line.texts["x_LedgerEntryId"]
        for line in lines
        if line.texts["x_Category"] != "usage" or line.texts["x_JobId"] not in proven.keys() | why.keys()
    }
    told, unread = recomputing.told(_asked(client, "entries", entries, lost), given)
    found = recompute.compare(lines, proven, why | unread | lost, told)
    if not arguments.part:
        found += recompute.lacking(lines, _whole(client, lines, data))
    return _told(arguments, found, None if trust is not None else _NOTE)


def _asked(client: Client, kind: str, names: Iterable[str], lost: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each document as the plane gives it; in `lost` why one isn't there."""
    wanted = sorted(names)
    for begin in range(0, len(wanted), _AT_ONCE):
        asked = {kind: wanted[begin : begin + _AT_ONCE]}
        for one in _patient(client, asked)[kind]:
            if one["document"] is None:
                lost[one["id"]] = one["detail"]
            else:
                yield one["id"], one["document"].encode()


def _patient(client: Client, asked: dict[str, list[str]]) -> Any:
    """The plane's answer, after as long as it wants one to wait."""
    import time

    from control_plane.client import Answered

    for left in range(_PATIENCE, -1, -1):
        try:
            return client.ask("POST", "/api/v1/costs/evidence", asked, limit_s=_LIMIT_S)
        except Answered as refused:
            if refused.status != 429 or not left:
                raise
            time.sleep(min(60, int(refused.document.get("retry_after_s", 1))))
    raise AssertionError  # the last refusal was raised


def _whole(client: Client, lines: list[FileLine], data: bytes) -> Iterator[FileLine]:
    """What the plane exports now of the file's months, of the one project where it has no other.

    Of a month that runs what was charged after the file's last line is left out: the file is older.
    """
    from urllib.parse import urlencode

    from finops.focus import reading

    last = max((line.texts["x_ChargedAt"] for line in lines), default="")
    projects = {line.texts.get("x_Project") for line in lines}
    project = next(iter(projects)) if len(projects) == 1 else None
    for month in sorted({line.texts["BillingPeriodStart"][:7] for line in lines}):
        asked = {"month": month, "format": "parquet" if data.startswith(b"PAR1") else "csv"}
        query = urlencode(asked | ({"project": project} if project is not None else {}))
        now = client.raw("GET", f"/api/v1/costs/export?{query}", limit_s=_LIMIT_S)[1]
        for line in reading.lines(now):
            if month < f"{datetime.now(UTC):%Y-%m}" or line.texts["x_ChargedAt"] <= last:
                yield line


def _told(arguments: argparse.Namespace, found: list[Finding], note: str | None = None) -> int:
    import sys

    import msgspec

    from control_plane import tables
    from finops.focus import recompute

    told = [one for one in found if one.state != "same"]
    counts = {state: sum(one.state == state for one in found) for state in _STATES}
    total = recompute.differences(found)
    if arguments.json:
        trust = {"trust": "plane" if note else "file"}
        tables.document(counts | {"difference": total, "lines": msgspec.to_builtins(told)} | trust)
        return 1 if told else 0
    rows = [
        [one.state, one.line or "", one.job_id, one.got or "", one.want or "", one.currency, one.detail] for one in told
    ]
    if rows:
        tables.table(("state", "line", "job", "file", "evidence", "currency", "why"), rows)
    tables.facts([*counts.items(), *((f"difference {name}", amount) for name, amount in total.items())])
    if note:
        sys.stderr.write(f"Note: {note}\n")
    return 1 if told else 0
