# SPDX-License-Identifier: Apache-2.0
"""Proofs of a real plane's log: who may have them, how they are kept, what strangers can check (G5, S5, I7)."""

from __future__ import annotations

import base64
import json

from tests.e2e.plane import Plane, bell

TREE = "/api/v1/ledger"


def judged(plane: Plane, name: str, data: bytes) -> str:
    (plane.folder / name).write_bytes(data)
    (plane.folder / "trust.json").write_bytes(plane.trust())
    ran = plane.cli("verify", str(plane.folder / name), "--trust", str(plane.folder / "trust.json"), "--json")
    assert ran.code == (0 if ran.json["verdict"] == "valid" else 1)
    return str(ran.json["verdict"])


def test_entries_growth_and_a_whole_history_are_proven_and_judged_offline(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    by_job = plane.http("GET", f"{TREE}/entries/{job}/proof")
    assert judged(plane, "entry.json", by_job.body) == "valid"
    index = by_job.json["index"]
    assert plane.http("GET", f"{TREE}/entries/{index}/proof").json["leaf"] == by_job.json["leaf"]
    leaf = json.loads(base64.b64decode(by_job.json["leaf"]))
    assert leaf["body"]["job_id"] == job
    assert plane.http("GET", f"{TREE}/entries/{leaf['entry_id']}/proof").json["index"] == index
    grown = plane.http("GET", f"{TREE}/consistency?from=1", user="outsider")
    assert judged(plane, "grown.json", grown.body) == "valid"
    done = plane.cli("ledger", "proof", "--complete", "-o", str(plane.folder / "all.json"), "--json", user="auditor")
    assert done.json["type"] == "urn:qcos:proof:completeness:v1"
    history = (plane.folder / "all.json").read_bytes()
    assert judged(plane, "all.json", history) == "valid"
    kinds = [json.loads(base64.b64decode(one))["kind"] for one in json.loads(history)["entries"]]
    assert kinds[0] == "tenant:created"
    assert len(kinds) > 6


def test_a_kept_checkpoint_is_proven_to_be_continued(plane: Plane) -> None:
    kept = plane.http("GET", f"{TREE}/checkpoint", user="outsider").body
    (plane.folder / "kept.note").write_bytes(kept)
    plane.run(bell())
    ran = plane.cli("ledger", "proof", "--from", str(plane.folder / "kept.note"), user="engineer")
    assert ran.json["old"]["checkpoint"].encode() == kept
    assert judged(plane, "since.json", ran.out.strip().encode()) == "valid"
    size = int(kept.split(b"\n")[1])
    assert plane.http("GET", f"{TREE}/checkpoint?size={size}").body == kept
    assert plane.http("GET", f"{TREE}/consistency?from={size}&to={size}").json["path"] == []
    assert plane.http("GET", f"{TREE}/consistency?from=999999999").code == "not_in_log"


def test_another_tenants_entry_is_answered_like_one_that_is_not_there(plane: Plane) -> None:
    """I7: bytes of entries go to their tenant, and in it to those who may read them."""
    job = plane.run(bell())["job_id"]
    found = plane.http("GET", f"{TREE}/entries/{job}/proof").json
    name = json.loads(base64.b64decode(found["leaf"]))["entry_id"]
    absent = plane.http("GET", f"{TREE}/entries/4711471147/proof", user="outsider")
    assert (absent.status, absent.code) == (404, "not_found")
    for which in (job, name, str(found["index"]), "0"):
        seen = plane.http("GET", f"{TREE}/entries/{which}/proof", user="outsider")
        assert (seen.status, seen.code) == (404, "not_found")
        assert seen.json["detail"] == f"no entry {which}"
    assert plane.http("GET", f"{TREE}/entries/{job}/proof", user="finops").code == "forbidden"
    assert plane.http("GET", f"{TREE}/entries", user="engineer").code == "forbidden"
    mine = plane.http("GET", f"{TREE}/entries?limit=1000", user="auditor").json
    assert {json.loads(base64.b64decode(one["leaf"]))["tenant"] for one in mine} == {"demo"}


def test_entries_are_listed_in_pages_in_the_order_of_the_chain(plane: Plane) -> None:
    plane.run(bell())
    seen, start = [], "0"
    for _ in range(3):
        page = plane.http("GET", f"{TREE}/entries?from={start}&limit=2", user="auditor")
        seen += [one["tenant_index"] for one in page.json]
        start = page.headers["x-next-cursor"]
    assert seen == [0, 1, 2, 3, 4, 5]
    beyond = plane.http("GET", f"{TREE}/entries?from=99999999", user="auditor")
    assert (beyond.json, beyond.headers.get("x-next-cursor")) == ([], None)


def test_tiles_are_kept_for_ever_and_the_newest_checkpoint_is_asked_for_anew(plane: Plane) -> None:
    """C2SP tlog-tiles: immutable tiles, partial ones too; entity tags; HEAD; and no entry bundles."""
    note = plane.http("GET", f"{TREE}/checkpoint")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    assert note.headers["cache-control"] == "private, no-cache"
    size = int(note.body.split(b"\n")[1])
    width = min(size, 5)
    tile = plane.http("GET", f"{TREE}/tile/0/000.p/{width}")
    assert (len(tile.body), tile.headers["content-type"]) == (32 * width, "application/octet-stream")
    assert tile.headers["cache-control"] == "private, max-age=31536000, immutable"
    plane.run(bell())
    again = plane.http("GET", f"{TREE}/tile/0/000.p/{width}", headers={"If-None-Match": tile.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tile.headers["etag"])
    moved = plane.http("GET", f"{TREE}/checkpoint", headers={"If-None-Match": note.headers["etag"]})
    assert moved.status == 200
    assert moved.headers["etag"] != note.headers["etag"]
    head = plane.http("HEAD", f"{TREE}/tile/0/000.p/{width}")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(32 * width))
    assert plane.http("HEAD", f"{TREE}/checkpoint").status == 200
    assert plane.http("GET", f"{TREE}/tile/entries/000").code == "not_found"


def test_the_public_proof_of_a_job_is_fetched_and_judged(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    file = plane.folder / "job.tlog-proof"
    assert plane.cli("evidence", "get", job, "--format", "tlog-proof", "-o", str(file), user="engineer").code == 0
    assert file.read_bytes().startswith(b"c2sp.org/tlog-proof@v1\nextra ")
    (plane.folder / "job.json").write_bytes(plane.bundle(job))
    (plane.folder / "trust.json").write_bytes(plane.trust())
    for beside in ((), ("--bundle", str(plane.folder / "job.json"))):
        ran = plane.cli("verify", str(file), *beside, "--trust", str(plane.folder / "trust.json"), "--json")
        assert ran.json["verdict"] == "valid", ran
