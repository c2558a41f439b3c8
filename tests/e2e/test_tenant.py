# SPDX-License-Identifier: Apache-2.0
"""A tenant's life by the commands, on a whole plane (G11): limits that hold, an export judged offline, its end."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from control_plane.tenants.check import check
from tests.e2e.plane import Plane, bell


def _without(whole: bytes, path: str, instead: bytes | None = None) -> bytes:
    """The archive with one file changed, or left out."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(mode="w", fileobj=made) as new:
        for one in old:
            read = old.extractfile(one)
            assert read is not None
            data = read.read()
            if one.name == path:
                if instead is None:
                    continue
                data = instead
                one.size = len(data)
            new.addfile(one, io.BytesIO(data))
    return made.getvalue()


def test_a_tenants_export_is_judged_offline_and_each_change_of_it_is_found(plane: Plane) -> None:
    file, trust = plane.folder / "demo.tar", plane.folder / "demo-trust.json"
    job = plane.run(bell(governance__project=plane.project("10")))["job_id"]
    assert plane.cli("trust", "export", "-o", str(trust), user="engineer").code == 0
    export = ("tenant", "export", "-o", str(file), "--reason", "we keep a copy", "--json")
    refused = plane.cli(*export, user="engineer")
    assert (json.loads(refused.err)["code"], file.exists()) == ("forbidden", False)
    told = plane.cli(*export, user="admin").json
    assert told["bytes"] == file.stat().st_size
    found = plane.cli("tenant", "check", str(file), "--trust", str(trust), "--json")
    assert (found.code, found.json["verdict"], found.json["faults"]) == (0, "valid", [])
    assert found.json["evidence"] >= 1
    whole = file.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        names = archive.getnames()
    entries = next(name for name in names if name.startswith("ledger/entries/"))
    content = next(name for name in names if name.startswith("contents/"))
    bad = {
        "broken off": whole[: len(whole) // 2],
        "no manifest": _without(whole, "manifest.json"),
        "no evidence": _without(whole, f"evidence/{job}.json"),
        "changed content": _without(whole, content, b"x" * 40),
        "changed evidence": _without(whole, f"evidence/{job}.json", b"{}"),
        "fewer entries": _without(whole, entries, b""),
        "no archive": b"x" * 2000,
    }
    changed = plane.folder / "changed.tar"
    for what, data in bad.items():
        changed.write_bytes(data)
        assert check(changed, trust.read_bytes(), datetime.now(UTC))["verdict"] == "invalid", what
    changed.write_bytes(bad["no manifest"])
    assert plane.cli("tenant", "check", str(changed), "--trust", str(trust)).code == 1


def test_an_operator_limits_a_tenant_and_its_people_see_it(plane: Plane) -> None:
    admin = ("admin", "tenant")
    set_ = plane.cli(
        *admin, "limits", "other", "--waiting-jobs", "0", "--requests-per-s", "100", "--reason", "x", "--json"
    )
    assert set_.code == 0, set_
    assert set_.json["limits"]["waiting_jobs"] == 0
    answer = plane.submit(bell(governance__project="other"), user="outsider")
    assert (answer.status, answer.code) == (429, "tenant_queue_full")
    assert plane.get("/tenant", user="admin")["limits"]["waiting_jobs"] is None
    for name in ("waiting-jobs", "requests-per-s"):
        plane.cli(*admin, "limits", "other", "--" + name, "none", "--reason", "x")
    assert {one["tenant"] for one in plane.cli(*admin, "list", "--json").json} >= {"demo", "other"}


def test_a_closed_tenants_people_are_refused_and_come_back(plane: Plane) -> None:
    act = ("--reason", "a test", "--json")
    told = plane.cli("admin", "tenant", "close", "other", *act)
    assert told.code == 0, told
    assert told.json["state"] == "closed"
    refused = plane.http("GET", "/api/v1/jobs", user="outsider")
    assert (refused.status, refused.code) == (403, "tenant_closed")
    file: Path = plane.folder / "closed.tar"
    assert plane.cli("admin", "tenant", "export", "other", "-o", str(file), *act).json["bytes"] > 0
    assert plane.cli("admin", "tenant", "reopen", "other", *act).json["state"] == "open"
    assert plane.http("GET", "/api/v1/jobs", user="outsider").status == 200
