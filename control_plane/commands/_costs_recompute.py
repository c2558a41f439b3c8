# SPDX-License-Identifier: Apache-2.0
"""`qcos costs recompute FILE`: each line of a FOCUS file of ours again, from evidence that verifies (G7, G3)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from control_plane.commands._plane import plane

if TYPE_CHECKING:
    import mmap

    import pyarrow as pa

    from control_plane.client import Client
    from finops.focus.recompute import Finding

_AT_ONCE: Final = 64
_LIMIT_S: Final = 600.0
_PATIENCE: Final = 60
_UNSEEN: Final = (
    "only jobs with evidence in FOLDER were looked for in FILE: of one that is in neither nobody knows without the "
    "plane; what a closed month comes to is in its signed statement (`qcos costs statement`)"
)
_NOTE: Final = "trust from the plane itself; give --trust FILE from elsewhere for proof"
_IDS: Final = {
    "jobs": re.compile(r"[^\x00]{1,128}"),
    "entries": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


def register(costs: Any) -> None:
    """Add the command."""
    again = costs.add_parser("recompute", help="rebuild each line of a FOCUS file from evidence: zero difference")
    again.add_argument("file", metavar="FILE", type=Path, help="as `qcos costs export` wrote it")
    again.add_argument("--trust", metavar="FILE", type=Path, help="the trust file, delivered apart; else the plane's")
    again.add_argument(
        "--evidence", metavar="FOLDER", type=Path, help="bundles and proofs, *.json; asked of the plane unless given"
    )
    again.add_argument("--part", action="store_true", help="FILE isn't whole months: what it lacks isn't looked for")
    again.add_argument("--month", metavar="YYYY-MM", help="what FILE lacks of this month too; of its lines' otherwise")
    again.add_argument("--project", metavar="NAME", help="FILE has this project's lines alone")
    again.add_argument("--json", action="store_true", help="one document")
    again.set_defaults(run=_recompute)


def _recompute(arguments: argparse.Namespace) -> int:
    from control_plane.errors import Refused
    from finops.focus import reading
    from finops.focus.selection import Selection

    folder: Path | None = arguments.evidence
    if folder is not None and arguments.trust is None:
        raise Refused("usage", "--evidence FOLDER wants --trust FILE: no plane is asked")
    if arguments.month is not None:
        Selection(month=arguments.month)
    try:
        version, lines = reading.table(_mapped(arguments.file))
        trust = None if arguments.trust is None else arguments.trust.read_bytes()
        if folder is not None and not folder.is_dir():
            raise Refused("unusable_input", f"{folder}: no folder")
        if not (lines.num_rows or arguments.part or arguments.month):
            raise Refused("unusable_input", f"{arguments.file} has no line, so it names no month: give --month YYYY-MM")
        asked = _Asked(arguments, version, lines, trust)
        return asked.offline(folder) if folder is not None else asked.online()
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename}: {error.strerror}") from None


def _mapped(file: Path) -> bytes | mmap.mmap:
    """The file's bytes, which needn't all lie in memory at once; nothing maps a file of none."""
    import mmap

    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""


class _Asked:
    """A file, and what is found of it."""

    def __init__(self, arguments: argparse.Namespace, version: str, lines: pa.Table, trust: bytes | None) -> None:
        self.arguments, self.version, self.lines, self.trust = arguments, version, lines, trust
        self.found: list[Finding] = []
        self.elsewhere: frozenset[int] = frozenset()
        self.looked: dict[str, Any] | None = None

    def offline(self, folder: Path) -> int:
        """Held against the bundles and proofs in a folder."""
        from control_plane.costs import recomputing
        from finops.focus import recompute
        from ledger import proofs

        def files(proof: bool) -> Iterator[tuple[str, bytes]]:
            for path in sorted(folder.glob("*.json")):
                if proofs.looks_like_one(data := path.read_bytes()) == proof:
                    yield path.name, data

        known, why = recomputing.proven(files(proof=False), self.trust or b"")
        told, unread = recomputing.told(files(proof=True), self.trust or b"")
        evidence, places = recompute.Evidence(known, why | unread, told), recompute.places(self.lines)
        for _, lines in recompute.batches(self.lines, _AT_ONCE):
            used = recompute.usage(lines, known)
            self.found += recompute.held(self.version, lines, used, evidence, places)
        if not self.arguments.part:
            self.looked = {"months": self._months(), "project": None, "among": "evidence"}
            self.found += recompute.unnamed(self.lines, known.values(), self._months())
        return self._said(by="file")

    def online(self) -> int:
        """Held against what the plane gives, which is verified here."""
        from control_plane.costs import recomputing
        from finops.focus import recompute

        client = plane()
        trust = self.trust if self.trust is not None else client.raw("GET", "/api/v1/trust")[1]
        if not self.arguments.part:
            self._whole(client)
        places = recompute.places(self.lines)
        for jobs, lines in recompute.batches(self.lines, _AT_ONCE):
            lost: dict[str, str] = {}
            known, why = recomputing.proven(_asked(client, "jobs", jobs, lost), trust, recomputing.NEEDED)
            used = recompute.usage(lines, known)
            entries = recompute.entries(lines, used)
            told, unread = recomputing.told(_asked(client, "entries", entries, lost), trust)
            evidence = recompute.Evidence(known, why | unread | lost, told)
            self.found += recompute.held(self.version, lines, used, evidence, places, self.elsewhere)
        return self._said(by="plane" if self.trust is None else "file")

    def _months(self) -> list[str]:
        import pyarrow.compute as pc

        begins = pc.unique(self.lines["BillingPeriodStart"]).to_pylist()
        return sorted({f"{one:%Y-%m}" for one in begins} | ({self.arguments.month} - {None}))

    def _whole(self, client: Client) -> None:
        """What the file lacks of what the plane exports now of its months, and what that has in another month.

        Of its one project, where it has no other. Of a month that runs what was charged after the file's last line is
        left out: the file is older.
        """
        from urllib.parse import urlencode

        import pyarrow as pa
        import pyarrow.compute as pc

        from control_plane.errors import Refused
        from finops.focus import reading, recompute

        projects = pc.unique(self.lines["x_Project"]).to_pylist()
        project = self.arguments.project or (projects[0] if len(projects) == 1 else None)
        if project is not None and (others := sorted({one or "no project" for one in projects} - {project})):
            raise Refused(
                "unusable_input", f"{self.arguments.file}: not of project {project} alone: {', '.join(others)}"
            )
        months, wholes = self._months(), []
        for month in months:
            asked = {"month": month, "format": "parquet"} | ({"project": project} if project is not None else {})
            now = client.raw("GET", f"/api/v1/costs/export?{urlencode(asked)}", limit_s=_LIMIT_S)[1]
            wholes.append(reading.table(now)[1].select(recompute.HELD_WHOLE))
        whole = pa.concat_tables(wholes).unify_dictionaries().combine_chunks()
        astray = pc.invert(pc.is_in(recompute.places(self.lines), recompute.places(whole)))
        self.elsewhere = frozenset(one + 1 for one in pc.indices_nonzero(astray).to_pylist())
        last = pc.max(self.lines["x_ChargedAt"])
        if self.lines.num_rows and f"{datetime.now(UTC):%Y-%m}" in months:
            runs = pc.equal(pc.strftime(whole["BillingPeriodStart"], "%Y-%m"), f"{datetime.now(UTC):%Y-%m}")
            whole = whole.filter(pc.or_(pc.invert(runs), pc.less_equal(whole["x_ChargedAt"], last)))
        self.looked = {"months": months, "project": project, "among": "plane"}
        self.found += recompute.lacking(self.lines, whole)

    def _said(self, by: str) -> int:
        """The findings, and 0 only where there is none."""
        import sys

        import msgspec
        import pyarrow.compute as pc

        from control_plane import tables
        from finops.focus import recompute

        told = sorted(self.found, key=lambda one: (one.line is None, one.line or 0, one.job_id))
        counts = {state: sum(one.state == state for one in told) for state in recompute.STATES}
        counts["same"] = self.lines.num_rows - sum(one.line is not None for one in told)
        total = recompute.differences(pc.unique(self.lines["BillingCurrency"]).to_pylist(), told)
        if self.arguments.json:
            more = {"difference": total, "lines": msgspec.to_builtins(told), "trust": by, "looked_for": self.looked}
            tables.document(counts | more)
            return 1 if told else 0
        rows = [
            [one.state, one.line or "", one.job_id, one.got or "", one.want or "", one.currency, one.detail]
            for one in told
        ]
        if rows:
            tables.table(("state", "line", "job", "file", "evidence", "currency", "why"), rows)
        tables.facts([*counts.items(), *((f"difference {name}", amount) for name, amount in total.items())])
        if by == "plane":
            sys.stderr.write(f"Note: {_NOTE}\n")
        if self.looked is not None and self.looked["among"] == "evidence":
            sys.stderr.write(f"Note: {_UNSEEN}\n")
        if self.looked is not None and self.looked["project"] is not None and self.arguments.project is None:
            sys.stderr.write(f"Note: of project {self.looked['project']} alone: FILE has no other\n")
        return 1 if told else 0


def _asked(client: Client, kind: str, names: Iterable[str], lost: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each document as the plane gives it; in `lost` why one isn't there."""
    wanted = [name for name in sorted(set(names)) if _IDS[kind].fullmatch(name)]
    lost.update({name: "no id of any" for name in names if name not in wanted})
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
