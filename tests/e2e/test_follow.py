# SPDX-License-Identifier: Apache-2.0
"""A follower of a real plane, over the API for a tenant and as the role audit for all of it (S5, I7)."""

from __future__ import annotations

import json

from tests.e2e.plane import Plane, bell


def test_a_follower_catches_up_after_a_partition_and_agrees_with_the_plane(plane: Plane) -> None:
    room, url = plane.folder, plane.status["url"]
    (room / "trust.json").write_bytes(plane.trust())
    trust = ("--trust", str(room / "trust.json"))
    plane.run(bell())
    own = plane.cli("ledger", "follow", url, "-o", str(room / "own"), *trust, "--json", user="auditor").json
    whole = plane.cli("ledger", "follow", str(plane.home), "-o", str(room / "whole"), *trust, "--json").json
    assert (own["agrees"], own["tenant"], whole["whole"], whole["tenant"]) == (True, "demo", True, None)
    made = plane.cli("ledger", "snapshot", "--json").json
    plane.run(bell())
    again = plane.cli("ledger", "follow", url, "-o", str(room / "own"), "--json", user="auditor").json
    assert made["size"] in again["snapshots"]
    assert 0 < again["entries"] < again["size"]
    state = room / "followed.json"
    followed = ("ledger", "follow", str(plane.home), "-o", str(room / "whole"))
    after = plane.cli(*followed, "--state", str(state), "--json").json
    assert made["size"] in after["snapshots"]
    mine = room / "replayed.json"
    plane.cli("ledger", "replay", "--at", str(after["size"]), "--state", "-o", str(mine))
    assert state.read_bytes() == mine.read_bytes()
    assert json.loads(state.read_bytes())["v"] == 1


def test_a_follower_needs_a_trust_file_a_source_and_the_right_to_read(plane: Plane) -> None:
    room = plane.folder / "none"
    (plane.folder / "trust.json").write_bytes(plane.trust())
    trust = ("--trust", str(plane.folder / "trust.json"))
    url = plane.status["url"]
    assert plane.cli("ledger", "follow", url, "-o", str(room), user="auditor").code == 2
    assert plane.cli("ledger", "follow", "nowhere", "-o", str(room), *trust).code == 2
    refused = plane.cli("ledger", "follow", url, "-o", str(room), *trust, "--json", user="engineer")
    assert (refused.code, refused.problem["code"]) == (1, "forbidden")
