# SPDX-License-Identifier: Apache-2.0
"""What a running plane gives to an OPA beside it, by a token that opens nothing else (G2, I5, I10)."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from uuid import uuid4

import pytest

from control_plane.auth.keys import SIDECAR
from tests.control_plane.policy.test_engine_log import EVENT
from tests.e2e.plane import Plane, bell
from tests.own_plane import until

NAMED = (".manifest", ".signatures.json")
BUNDLE, LOG = "/api/v1/policy/bundle", "/api/v1/policy/log/opa"


def ask(
    plane: Plane, method: str, path: str, body: bytes | None = None, token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request as OPA makes it."""
    told = (plane.home / SIDECAR).read_text().strip() if token is None else token
    connection = plane.connection()
    try:
        sent = {"Authorization": f"Bearer {told}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_the_bundle_in_force_is_given_signed_and_once(plane: Plane) -> None:
    revision = plane.get("/policy", user="admin")["revision"]
    status, headers, packed = ask(plane, "GET", BUNDLE)
    assert (status, headers["content-type"]) == (200, "application/vnd.openpolicyagent.bundles")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        manifest, signatures = (
            json.load(archive.extractfile(n) or io.BytesIO()) for n in (".manifest", ".signatures.json")
        )
    assert (manifest["revision"], manifest["roots"], len(signatures["signatures"])) == (revision, [""], 1)
    for prefer in ("", "modes=snapshot,delta;wait=0"):
        status, again, body = ask(plane, "GET", BUNDLE, If_None_Match=headers["etag"], Prefer=prefer)
        assert (status, again["etag"], body) == (304, headers["etag"], b"")


@pytest.mark.parametrize(("method", "path"), [("GET", BUNDLE), ("POST", LOG)])
def test_nobody_else_is_a_sidecar_and_a_sidecar_is_nobody_else(plane: Plane, method: str, path: str) -> None:
    for token in ("", "guessed", plane.tokens["admin"]):
        assert ask(plane, method, path, b"[]" if method == "POST" else None, token)[0] == 401
    assert ask(plane, "GET", "/api/v1/jobs")[0] == 401


def test_an_upload_is_kept_without_what_could_name_somebody(plane: Plane) -> None:
    before = plane.get("/policy/log", user="admin")
    event = EVENT | {"decision_id": str(uuid4())}
    body = gzip.compress(json.dumps([event, EVENT | {"input": {"name": "Ann Author"}}]).encode())
    for _ in range(2):  # OPA repeats an upload whose answer it didn't see
        assert ask(plane, "POST", LOG, body, Content_Encoding="gzip")[0] == 204
    log = plane.get("/policy/log?limit=1000", user="admin")
    assert log["refused"] == before["refused"] + 2
    assert [row["failed"] for row in log["decisions"] if row["decision_id"] == event["decision_id"]] == [["access"]]
    assert ask(plane, "POST", LOG, b"\x1f\x8bno")[0] == 400
    assert ask(plane, "POST", "/api/v1/jobs", body, Content_Encoding="gzip")[0] == 415


def test_what_opa_decided_comes_back_and_names_nobody(plane: Plane) -> None:
    """I10: the log that OPA itself sends, of a job with a name and a justification."""
    if plane.get("/policy", user="admin")["engine"]["name"] != "opa":
        pytest.skip("the plane has found no opa in PATH or QCOS_OPA_BIN")
    taken = plane.get("/policy/log", user="admin")["taken"]
    plane.run(bell(governance__justification="for Ann Author alone", governance__project=plane.project("10")))
    log = until(
        lambda: (found := plane.get("/policy/log?limit=1000", user="admin"))["taken"] > taken and found, "OPA's log"
    )
    assert "Ann" not in json.dumps(log)
    assert log["decisions"][0]["revision"] == plane.get("/policy", user="admin")["revision"]
