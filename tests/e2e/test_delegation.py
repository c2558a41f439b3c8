# SPDX-License-Identifier: Apache-2.0
"""G13 on a whole plane: a person hands a right to a robot, on the command line; what it does is governed and proven."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.plane import EXAMPLES, Plane


def test_a_robot_submits_for_somebody_until_it_may_no_more(plane: Plane, tmp_path: Path) -> None:
    """Within its scope, as its giver, with the chain in evidence that verifies offline; then not at all."""
    asked = ["--action", "job:submit", "--action", "job:read", "--action", "evidence:read", "--project", "demo"]
    given = plane.cli("delegate", "ci/nightly", *asked, "--for", "1h", "--reason", "a test", "--json", user="engineer")
    assert given.code == 0, given.err
    token, delegation = given.json["token"], given.json["id"]
    who = plane.cli("whoami", "--json", QCOS_TOKEN=token)
    assert (who.json["actor"], who.json["via"]) == ("user:engineer@demo", "delegation")
    link = {"delegation": delegation, "by": "user:engineer@demo", "to": "ci/nightly"}
    assert who.json["acting"] == [link]
    done = plane.cli("submit", str(EXAMPLES / "bell.json"), "--wait", "--json", QCOS_TOKEN=token)
    assert done.code == 0, done.err
    job, bundle, trust = done.json["job_id"], tmp_path / "bundle.json", tmp_path / "trust.json"
    assert plane.cli("evidence", "get", job, "-o", str(bundle), QCOS_TOKEN=token).code == 0
    assert plane.cli("trust", "export", "-o", str(trust), user="engineer").code == 0
    assert json.loads(bundle.read_bytes())["delegation"] == [link]
    verdict = plane.cli("verify", str(bundle), "--trust", str(trust), "--json")
    assert verdict.json["verdict"] == "valid"
    for words in (("result", job), ("budget", "show"), ("delegations", "list")):
        refused = plane.cli(*words, QCOS_TOKEN=token)
        assert (refused.code, refused.err.partition(":")[0]) == (1, "forbidden")
    assert token not in plane.cli("delegations", "list", "--json", user="engineer").out
    assert plane.cli("delegations", "revoke", delegation, "--reason", "done", user="engineer").code == 0
    assert plane.cli("whoami", QCOS_TOKEN=token).code == 4
