# SPDX-License-Identifier: Apache-2.0
"""Whether a plane that was hurt and came to rest kept its promises (I1, I2, I3, I6), against what its clients heard.

`judge` waits until the parts live and every job has ended with sealed evidence, then returns figures; a broken promise
is an AssertionError that names it. The log is read from the database and its heads are computed here, so that each
checkpoint a client ever saw is compared with what the log's first entries give now.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.db import engine, snapshot
from control_plane.jobs import refold
from ledger.audit import verify_log
from ledger.chain import leaf_type, parse_leaf
from ledger.head import read_head
from ledger.verify import verify
from tests.faults.traffic import Heard
from tests.own_plane import OwnPlane, until

REST_S = 300.0
LOOK_S = 0.1  # between two looks: each is a session of its own
ENDED = ("COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN")


class Figures(Struct, frozen=True):
    """What was looked at."""

    jobs: dict[str, int]
    attempts: dict[int, int]
    entries: int
    heads: int
    bundles: int
    captured: str
    held: str


class Judge:
    """Judges one plane, time and again; bundles found valid aren't verified a second time."""

    def __init__(self, plane: OwnPlane) -> None:
        self.plane = plane
        self._trust = b""
        self._proven: set[str] = set()

    def judge(self, heard: Heard) -> Figures:
        """Wait for rest, then hold the plane to everything."""
        self._rest()
        jobs = self._jobs()
        entries, heads = self._log(heard)
        held, captured = self._money(jobs)
        self._acknowledged(heard, jobs)
        bundles = self._evidence({job_id: job for job_id, job in jobs.items() if job_id not in heard.erased})
        return Figures(
            dict(Counter(job["final"] for job in jobs.values())),
            dict(Counter(job["attempt"] for job in jobs.values() if job["attempt"])),
            entries,
            heads,
            bundles,
            format(captured, "f"),
            format(held, "f"),
        )

    def _rest(self) -> None:
        plane = self.plane
        until(
            lambda: all(process.ready for process in plane.record.processes),
            "every part is ready",
            REST_S,
            every_s=LOOK_S,
        )
        until(lambda: self._asked("/api/v1/ready") == 200, "the plane is ready", REST_S, every_s=LOOK_S)
        states = ", ".join(f"'{state}'" for state in ("SEALING", *ENDED))
        waiting = f"SELECT job_id, state, attempt FROM jobs.job WHERE state NOT IN ({states})"
        _none(plane, waiting, "every job ends")
        _none(plane, "SELECT id FROM ledger.unfolded LIMIT 1", "every denial stands in an entry")
        _none(plane, "SELECT id FROM ledger.inbox LIMIT 1", "everything durable is sealed")
        _none(plane, "SELECT operator FROM ledger.unstamped LIMIT 1", "everything sealed is stamped")

    def _asked(self, path: str) -> int:
        try:
            return self.plane.http("GET", path)[0]
        except OSError:
            return 0

    def _jobs(self) -> dict[str, dict[str, Any]]:
        columns = ("job_id", "final", "attempt", "cost_amount", "hold_amount", "cancel_requested")
        rows = self.plane.query(f"SELECT {', '.join(columns)} FROM jobs.job")
        jobs = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
        assert all(job["final"] in ENDED for job in jobs.values()), "an ended job says how"
        return jobs

    def _acknowledged(self, heard: Heard, jobs: dict[str, dict[str, Any]]) -> None:
        """I2: each key has the one job that it was answered with, and nothing else came to be."""
        assert all(len(found) == 1 for found in heard.jobs.values()), "a key was answered with two jobs"
        acknowledged = {next(iter(found)) for found in heard.jobs.values()}
        assert acknowledged == jobs.keys(), (
            f"lost: {sorted(acknowledged - jobs.keys())[:5]}, never asked for: {sorted(jobs.keys() - acknowledged)[:5]}"
        )
        for job_id in heard.denied:
            assert jobs[job_id]["final"] == "DENIED", f"{job_id} was answered DENIED"
        for job_id, counts in heard.results.items():
            assert jobs[job_id]["final"] == "COMPLETED", f"the result of {job_id} was handed out"
            status, document = self.plane.http("GET", f"/api/v1/jobs/{job_id}/result")
            assert status == 200, f"the result of {job_id}: {document}"
            assert document["quantum_result"]["counts"] == counts, f"the result of {job_id} changed"
        heard.results.clear()

    def _money(self, jobs: dict[str, dict[str, Any]]) -> tuple[Decimal, Decimal]:
        """I3: every hold is settled once, for what its job costs; budgets say the same; only what is parked is held."""
        parked = {job_id for job_id, job in jobs.items() if job["final"] == "UNCERTAIN"}
        holds = self.plane.query("SELECT job_id, state, amount, captured FROM finops.hold")
        assert len({row[0] for row in holds}) == len(holds), "a job has two holds"
        for job_id, state, _, captured in holds:
            assert state == ("parked" if job_id in parked else "settled"), f"the hold of {job_id} is {state}"
            cost = jobs[job_id]["cost_amount"] or Decimal(0)
            assert (captured or Decimal(0)) == cost, f"{job_id} cost {cost} and {captured} was captured"
        owing = {job_id for job_id, job in jobs.items() if job["final"] != "DENIED"} - {row[0] for row in holds}
        assert not owing, f"admitted without a hold: {sorted(owing)[:5]}"
        held = sum((row[2] for row in holds if row[1] == "parked"), Decimal(0))
        captured = sum((row[3] or Decimal(0) for row in holds), Decimal(0))
        windows = self.plane.query(
            "SELECT coalesce(sum(held), 0), coalesce(sum(captured), 0) FROM finops.budget_window"
        )
        assert windows == [(held, captured)], f"budgets say {windows}, the holds {held} and {captured}"
        return held, captured

    def _log(self, heard: Heard) -> tuple[int, int]:
        """I2, I6: the log verifies, folds to the rows, and begins as every checkpoint seen; I1: in this order."""
        report, replayed, leaves = asyncio.run(self._read())
        assert report["ok"], report["failures"][:5]
        assert replayed["agrees"], replayed["differences"][:5]
        _in_order(leaves)
        heads = heard.heads
        newest = max(heads, default=0)
        assert newest <= len(leaves), f"a checkpoint of {newest} entries was seen, the log has {len(leaves)}"
        for size, root in _roots(leaves, set(heads)):
            assert heads[size] == root, f"the first {size} entries aren't those of the checkpoint that was seen"
        return len(leaves), len(heads)

    async def _read(self) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
        audit = engine(self.plane.database.audit, connections=2, name="qcos-judge")
        try:
            async with snapshot(audit) as conn:
                report = await verify_log(conn, head=read_head(self.plane.home / "head"))
            replayed = await refold.replay(audit, compare=True)
        finally:
            await audit.dispose()
        leaves = [row[0] for row in self.plane.query('SELECT leaf FROM ledger.entry ORDER BY "index"')]
        return msgspec.to_builtins(report), msgspec.to_builtins(replayed), leaves

    def _evidence(self, jobs: dict[str, dict[str, Any]]) -> int:
        """Every ended job has a bundle that verifies offline and says how it ended."""
        plane = self.plane
        if not self._trust:
            path = plane.home / "trust.json"
            plane.ask("trust", "export", "-o", str(path))
            self._trust = path.read_bytes()
        for job_id, job in jobs.items():
            if job_id in self._proven:
                continue
            status, document = plane.http("GET", f"/api/v1/jobs/{job_id}/evidence")
            assert status == 200, f"{job_id}: {document}"
            # The file is canonical JSON: what was parsed gives its bytes again.
            data = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
            verdict = verify(data, self._trust, datetime.now(UTC))
            assert verdict.verdict == "valid", f"{job_id}: {verdict.reason}"
            assert document["state"] == job["final"], f"{job_id}: evidence says {document['state']}"
            self._proven.add(job_id)
        return len(self._proven)


def _none(plane: OwnPlane, statement: str, what: str) -> None:
    try:
        until(lambda: plane.query(statement) == [], what, REST_S, every_s=LOOK_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {plane.query(statement)[:5]}") from None


def _in_order(leaves: Iterable[bytes]) -> None:
    """I1: what tells of a run comes after the admission, and each job has one admission and one outcome."""
    admitted: set[str] = set()
    ended: set[str] = set()
    for leaf in leaves:
        if leaf_type(leaf) != "entry":
            continue
        entry = parse_leaf(leaf)
        job_id = str(entry.body.get("job_id"))
        if entry.kind.startswith("job:admission:"):
            assert job_id not in admitted, f"{job_id} was admitted twice"
            admitted.add(job_id)
        elif entry.kind.startswith("job:"):
            assert job_id in admitted, f"{entry.kind} of {job_id} before its admission"
            assert job_id not in ended, f"{entry.kind} of {job_id} after its outcome"
            if entry.kind.startswith("job:outcome:"):
                ended.add(job_id)


def _roots(leaves: list[bytes], sizes: set[int]) -> Iterable[tuple[int, bytes]]:
    """RFC 6962 roots of the log's first entries, written down anew: (size, root) for each size asked for."""
    peaks: list[tuple[int, bytes]] = []
    for number, leaf in enumerate(leaves, 1):
        height, found = 0, hashlib.sha256(b"\0" + leaf).digest()
        while peaks and peaks[-1][0] == height:
            found = hashlib.sha256(b"\1" + peaks.pop()[1] + found).digest()
            height += 1
        peaks.append((height, found))
        if number in sizes:
            root = peaks[-1][1]
            for _, left in reversed(peaks[:-1]):
                root = hashlib.sha256(b"\1" + left + root).digest()
            yield number, root
