# SPDX-License-Identifier: Apache-2.0
"""Holds and erasure by the commands, on a whole plane (G12): what was handed out before is valid for ever."""

from __future__ import annotations

import json

from tests.e2e.plane import Plane, bell


def test_a_held_job_is_kept_and_an_erased_ones_bundle_still_verifies(plane: Plane) -> None:
    bundle, trust = plane.folder / "kept.json", plane.folder / "kept-trust.json"
    file = plane.folder / "kept-spec.json"
    file.write_text(json.dumps(bell(governance__project=plane.project("10"))))
    job = plane.cli("submit", str(file), "--wait", "--json", user="engineer").json["job_id"]
    assert plane.cli("evidence", "get", job, "-o", str(bundle), user="engineer").code == 0
    assert plane.cli("trust", "export", "-o", str(trust), user="engineer").code == 0
    erase = ("retention", "erase", job, "--reason", "asked for", "--early", "--json")
    assert json.loads(plane.cli(*erase, user="engineer").err)["code"] == "forbidden"
    (held,) = plane.cli("retention", "hold", f"job:{job}", "--reason", "a case", "--json", user="auditor").json
    refused = plane.cli(*erase, user="admin")
    assert (refused.code, json.loads(refused.err)["code"]) == (1, "legal_hold")
    assert held in plane.cli("retention", "holds", "--json", user="admin").json
    assert plane.cli("retention", "release", held["hold_id"], "--reason", "closed", "--json", user="admin").code == 0
    assert held not in plane.cli("retention", "holds", "--json", user="admin").json
    told = plane.cli(*erase, user="admin").json
    assert told["keys"] == len(told["commitments"])
    for command in (("result", job), ("evidence", "get", job, "-o", str(plane.folder / "gone.json"))):
        gone = plane.cli(*command, "--json", user="engineer")
        assert json.loads(gone.err)["code"] == "content_erased", gone
    assert plane.cli("verify", str(bundle), "--trust", str(trust)).code == 0
    assert plane.cli("jobs", "show", job, "--json", user="engineer").json["state"] == "COMPLETED"
    assert all(one["job_id"] != job for one in plane.cli("retention", "due", "--json", user="admin").json)
    actors = plane.cli("retention", "actors", "--json", user="admin").json
    assert "user:engineer@demo" in {one["actor"] for one in actors}
