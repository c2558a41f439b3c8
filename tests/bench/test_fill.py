# SPDX-License-Identifier: Apache-2.0
"""The generator fills a ledger honestly: what it writes verifies, folds and proves like any job (N18, I2, I6)."""

from __future__ import annotations

from bench.copies import Pattern
from bench.fill import MIX, Fill
from bench.governed import circuits
from bench.plane import Plane


def test_a_filled_ledger_verifies_folds_and_proves() -> None:
    with Plane(workers="1") as plane:
        fill = Fill(plane, circuits()["bell"])
        fill.to(700)
        assert sum(fill.jobs.values()) > 200
        assert fill.examples.keys() == MIX.keys()
        verified = plane.cli("ledger", "verify")
        assert verified["ok"] is True
        assert verified["checked"] >= 700
        replayed = plane.cli("ledger", "replay", "--compare")
        assert replayed["agrees"] is True, replayed["differences"]
        trust = plane.home / "trust.json"
        plane.cli("trust", "export", "-o", str(trust))
        for kind, job_id in fill.examples.items():
            bundle = plane.home / f"{kind}.json"
            plane.cli("evidence", "get", job_id, "-o", str(bundle))
            assert plane.cli("verify", str(bundle), "--trust", str(trust))["verdict"] == "valid", kind
        # Its jobs are jobs: one runs beside the copies, in the same budget.
        assert len(plane.latencies(circuits()["bell"], 100, 1, level="full")) == 1
        assert plane.cli("ledger", "replay", "--compare")["agrees"] is True
        _has_nothing_in_common(fill._patterns["full"])


def _has_nothing_in_common(pattern: Pattern) -> None:
    stored = pattern._stored
    copies = [pattern.copy(pattern._begun) for _ in range(2)]
    for copy in copies:
        said = b"".join(copy.entries) + "".join(copy.rows).encode()
        assert not [own for own in (stored.job_id, *stored.ids, *stored.contents) if own.encode() in said]
        assert [len(entry) for entry in copy.entries] == [len(entry) for entry in stored.entries]
    assert len({copy.evidence[1] for copy in copies} | {stored.bundle[1]}) == 3
