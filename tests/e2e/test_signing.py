# SPDX-License-Identifier: Apache-2.0
"""S1: what people sign is checked apart from who sends it, taken once, and proven by the job's evidence."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledger.asker import Algorithm, Form
from tests.e2e.plane import Answer, Plane, bell
from tests.ledger.signing import cose, jws, public

MAKE = {"jose": jws, "cose": cose}
SEEDS = {"engineer": 1, "auditor": 2, "admin": 3}


def payload(plane: Plane, kind: str, body: Any, **changes: Any) -> bytes:
    """What is signed, good now."""
    now = int(time.time())
    said = {"aud": audience(plane), "jti": uuid.uuid4().hex, "iat": now, "exp": now + 60, "kind": kind, "body": body}
    return json.dumps(said | changes).encode()


def audience(plane: Plane) -> str:
    told: str = plane.http("GET", "/api/v1/account/signing-keys").json["audience"]
    return told


def enroll(plane: Plane, user: str, alg: Algorithm = "Ed25519", *, holder: str | None = None) -> Answer:
    """The tests' key of this user."""
    body = plane.http("GET", "/api/v1/account/signing-keys", user=holder or user).json["holder"]
    proof = jws(payload(plane, "enroll", body), alg, seed=SEEDS[user]).decode()
    asked = {"name": "tests", "jwk": public(alg, SEEDS[user]).jwk(), "proof": proof}
    return plane.http("POST", "/api/v1/account/signing-keys", json.dumps(asked).encode(), user=user)


@pytest.fixture
def enrolled(plane: Plane) -> Plane:
    """Each user has an Ed25519 key, whichever test is the first."""
    for user in SEEDS:
        assert enroll(plane, user).status in (201, 409)
    return plane


def send(plane: Plane, data: bytes, form: Form = "jose", *, user: str = "engineer", query: str = "") -> Answer:
    kind = {"Content-Type": f"application/{form}"}
    return plane.http("POST", f"/api/v1/envelopes{query}", data, user=user, headers=kind)


@pytest.mark.parametrize(("form", "alg"), [("jose", "Ed25519"), ("cose", "ML-DSA-87")])
def test_a_signed_job_is_proven_with_who_asked(plane: Plane, tmp_path: Path, form: Form, alg: Algorithm) -> None:
    """In the evidence: envelope, key, and the entry of its enrolment; the verifier compares them with the job."""
    assert enroll(plane, "engineer", alg).status in (201, 409)
    answer = send(plane, MAKE[form](payload(plane, "submit", {"spec": bell()}), alg), form, query="?wait=30")
    assert (answer.status, answer.json["state"]) == (200, "COMPLETED")
    bundle, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
    assert plane.cli("evidence", "get", answer.json["job_id"], "-o", str(bundle), user="engineer").code == 0
    assert plane.cli("trust", "export", "-o", str(trust), user="engineer").code == 0
    report = plane.cli("verify", str(bundle), "--trust", str(trust), "--json").json
    checks = {check["name"]: check["detail"] for check in report["checks"]}
    assert report["verdict"] == "valid", report
    assert checks["envelope"] == f"{alg} {public(alg).id}, the spec is the job's"
    assert checks["enrolment"].startswith("entry ")
    record = json.loads(bundle.read_bytes())["envelope"]
    assert (record["form"], record["alg"], record["key_id"]) == (form, alg, public(alg).id)
    shown = plane.http("GET", f"/api/v1/jobs/{answer.json['job_id']}").json
    assert shown["envelope"] == {"form": form, "alg": alg, "key_id": public(alg).id}


def test_the_command_line_makes_a_key_signs_and_revokes(plane: Plane) -> None:
    made = plane.cli("signing-key", "create", "--alg", "ml-dsa-44", "--json", user="user")
    assert made.code == 0, made.err
    key, file = made.json["key_id"], Path(made.json["file"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert plane.cli("submit", "--sign", str(_bell(plane)), "--wait", user="user").code == 0
    assert key in [one["key_id"] for one in plane.cli("signing-key", "list", "--json", user="user").json]
    assert plane.cli("signing-key", "revoke", key, "--reason", "a test", user="user").code == 0
    assert not file.exists()


def _bell(plane: Plane) -> Path:
    path = plane.folder / f"{uuid.uuid4()}.json"
    path.write_text(json.dumps(bell()))
    return path


@pytest.mark.parametrize("form", ["jose", "cose"])
def test_of_one_envelope_sent_at_once_one_is_taken(enrolled: Plane, form: Form) -> None:
    data = MAKE[form](payload(enrolled, "submit", {"spec": bell()}))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(enrolled, data, form), range(8)))
    assert sorted(answer.status for answer in answers) == [202, *[409] * 7]
    assert {answer.code for answer in answers if answer.status == 409} == {"envelope_replayed"}


def test_what_was_signed_for_elsewhere_or_another_time_is_refused(enrolled: Plane) -> None:
    now = int(time.time())
    for changes in (
        {"aud": "urn:qcos:plane:other:demo"},
        {"aud": audience(enrolled).replace("demo", "other")},
        {"iat": now - 700, "exp": now - 400},
        {"iat": now + 400, "exp": now + 500},
        {"exp": now + 100_000},
    ):
        refused = send(enrolled, jws(payload(enrolled, "submit", {"spec": bell()}, **changes)))
        assert (refused.status, refused.code) == (401, "envelope_refused"), changes


def test_a_signature_is_its_senders_own(enrolled: Plane) -> None:
    """A stolen token can't sign, and a stolen envelope isn't taken from somebody else."""
    data = jws(payload(enrolled, "submit", {"spec": bell()}))
    for user in ("admin", "outsider"):
        refused = send(enrolled, data, user=user)
        assert (refused.status, refused.code) == (401, "signing_key_unknown")
    broken = data[:-8] + b"AAAAAAAA"
    assert send(enrolled, broken).code in ("envelope_refused", "envelope_invalid")
    assert send(enrolled, data).status == 202


def test_a_signature_gives_no_right(enrolled: Plane) -> None:
    """Policy decides a submission; a control signal wants the role."""
    job = send(enrolled, jws(payload(enrolled, "submit", {"spec": bell()})), query="?wait=30").json["job_id"]
    denied = send(enrolled, jws(payload(enrolled, "submit", {"spec": bell()}), seed=SEEDS["auditor"]), user="auditor")
    assert (denied.status, denied.code) == (403, "policy_denied")
    refused = send(enrolled, jws(payload(enrolled, "cancel", {"job_id": job}), seed=SEEDS["auditor"]), user="auditor")
    assert (refused.status, refused.code) == (403, "forbidden")


def test_signals_and_queries_go_signed_and_a_signal_is_kept(enrolled: Plane) -> None:
    job = send(enrolled, jws(payload(enrolled, "submit", {"spec": bell()})), query="?wait=30").json["job_id"]
    about = {"job_id": job}
    assert send(enrolled, jws(payload(enrolled, "show", about))).json["state"] == "COMPLETED"
    assert send(enrolled, jws(payload(enrolled, "result", about))).json["quantum_result"]["counts"]
    late = send(enrolled, jws(payload(enrolled, "cancel", about)))
    assert late.code == "too_late"
    found = enrolled.http("GET", "/api/v1/ledger/entries?limit=500", user="auditor")
    assert found.status == 200
    told = [line for line in found.body.decode().split('"kind"') if "request:envelope:signed" in line[:60]]
    assert told, "the signed signal is an entry"


def test_a_key_is_enrolled_by_who_holds_it_and_once(enrolled: Plane) -> None:
    again = enroll(enrolled, "engineer")
    assert (again.status, again.code) == (409, "signing_key_known")
    # A proof that the admin made doesn't enrol the admin's key for the engineer.
    body = enrolled.http("GET", "/api/v1/account/signing-keys", user="admin").json["holder"]
    theirs = public("ML-DSA-44", 3)
    asked = {
        "name": "theirs",
        "jwk": theirs.jwk(),
        "proof": jws(payload(enrolled, "enroll", body), "ML-DSA-44", seed=3).decode(),
    }
    refused = enrolled.http("POST", "/api/v1/account/signing-keys", json.dumps(asked).encode())
    assert (refused.status, refused.fields) == (400, ["proof"])
    private = asked | {"jwk": theirs.jwk() | {"priv": "AAAA"}}
    refused = enrolled.http("POST", "/api/v1/account/signing-keys", json.dumps(private).encode(), user="admin")
    assert (refused.status, refused.fields) == (400, ["jwk"])


def test_a_revoked_key_signs_nothing_and_what_it_signed_stays_proven(plane: Plane, tmp_path: Path) -> None:
    assert enroll(plane, "admin", "ML-DSA-65").status == 201
    key = public("ML-DSA-65", 3).id
    data = jws(payload(plane, "submit", {"spec": bell()}), "ML-DSA-65", seed=3)
    job = send(plane, data, user="admin", query="?wait=30").json["job_id"]
    path = f"/api/v1/account/signing-keys/{key}/revoke"
    assert plane.http("POST", path, b'{"reason": "lost"}', user="engineer").status == 404
    assert plane.http("POST", path, b'{"reason": "lost"}', user="admin").json["revoked_at"]
    refused = send(plane, jws(payload(plane, "show", {"job_id": job}), "ML-DSA-65", seed=3), user="admin")
    assert (refused.status, refused.code) == (401, "signing_key_revoked")
    assert enroll(plane, "admin", "ML-DSA-65").code == "signing_key_known"
    bundle, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
    assert plane.cli("evidence", "get", job, "-o", str(bundle), user="admin").code == 0
    assert plane.cli("trust", "export", "-o", str(trust), user="admin").code == 0
    assert plane.cli("verify", str(bundle), "--trust", str(trust)).code == 0


def test_rows_are_still_what_the_ledger_tells(enrolled: Plane) -> None:
    """I6: the signed requests stand in the fold."""
    assert send(enrolled, jws(payload(enrolled, "submit", {"spec": bell()})), query="?wait=30").status == 200
    assert enrolled.cli("ledger", "replay", "--compare", "--json").json["agrees"]
