# SPDX-License-Identifier: Apache-2.0
"""The register's state, kept: its hash in the ledger, and a replay that goes on from it (S3, S4, I6)."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

from tests.e2e.plane import Plane, bell


def test_a_snapshot_is_told_in_the_ledger_and_replaying_from_it_gives_the_same_bytes(plane: Plane) -> None:
    plane.run(bell())
    made = plane.cli("ledger", "snapshot", "--json").json
    file = Path(made["file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    plane.run(bell())
    state = plane.folder / "state.json"
    whole = plane.cli("ledger", "replay", "--at", str(made["size"]), "--state", "-o", str(state), "--json").json
    assert whole["hash"] == made["state_sha256"] == f"sha256:{hashlib.sha256(state.read_bytes()).hexdigest()}"
    assert json.loads(state.read_bytes())["tenants"].keys() >= {"demo", "other"}
    again = plane.cli("ledger", "replay", "--from", str(file), "--compare", "--json").json
    assert (again["differences"], again["snapshot"]) == ([], made["size"])
    assert again["entries"] < again["size"]
    told = plane.http("GET", "/api/v1/ledger/entries?limit=1000", user="auditor").json
    assert "ledger:snapshot:made" in {one["kind"] for one in told}  # of the tenant's own part


def test_a_file_whose_hash_no_entry_names_starts_no_replay(plane: Plane) -> None:
    made = plane.cli("ledger", "snapshot", "--json").json
    data = Path(made["file"]).read_bytes()
    forged = plane.folder / "forged.json"
    for wrong in (data.replace(b'"USD"', b'"EUR"'), data[:-1], data + b" ", b"{}"):
        forged.write_bytes(wrong)
        ran = plane.cli("ledger", "replay", "--from", str(forged), "--json")
        assert (ran.code, ran.problem["code"]) == (1, "snapshot_invalid")
    assert plane.cli("ledger", "replay", "--state").code == 2
    assert plane.cli("ledger", "replay", "--at", "1").code == 1
