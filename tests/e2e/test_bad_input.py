# SPDX-License-Identifier: Apache-2.0
"""Bad input: each is a problem that names the field, never a 5xx, never a half-written row (issue "Bad input", N13)."""

from __future__ import annotations

import base64
import json
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.plane import Answer, Plane, bell

GOOD = json.dumps(bell()).encode()
SHOTS = b'"shots": 1000'
TEXT = b"a first governed job"
VERSION = b'"compiler_version": "qiskit-2.6.2"'
assert all(part in GOOD for part in (SHOTS, TEXT, VERSION))


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_half_written(plane: Plane) -> Iterator[None]:
    """After all of this the rows still equal the fold of the ledger."""
    yield
    report = plane.cli("ledger", "replay", "--compare", "--json").json
    assert report["differences"] == []
    assert plane.cli("ledger", "verify", "--json").json["ok"] is True


def jobs_and_holds(plane: Plane) -> tuple[list[Any], list[Any]]:
    return plane.get("/jobs?limit=1000"), plane.get("/budgets", "admin")


def refused(plane: Plane, answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.json["request_id"]
    assert plane.http("GET", "/api/v1/health", user=None).status == 200


FIELDS: dict[str, tuple[bytes, str]] = {
    "unknown member": (json.dumps(bell(extra=1)).encode(), "extra"),
    "unknown inner member": (json.dumps(bell(execution__prioritty=1)).encode(), "execution.prioritty"),
    "text for a number": (json.dumps(bell(execution__shots="5")).encode(), "execution.shots"),
    "fraction for a number": (json.dumps(bell(execution__shots=1.5)).encode(), "execution.shots"),
    "whole float": (json.dumps(bell(execution__shots=5.0)).encode(), "execution.shots"),
    "true for a number": (json.dumps(bell(execution__shots=True)).encode(), "execution.shots"),
    "negative shots": (json.dumps(bell(execution__shots=-1)).encode(), "execution.shots"),
    "no shots": (json.dumps(bell(execution__shots=0)).encode(), "execution.shots"),
    "shots left out": (json.dumps(bell(execution__shots=None)).encode(), "execution.shots"),
    "too many shots": (json.dumps(bell(execution__shots=10**9)).encode(), "execution.shots"),
    "2^64 shots": (json.dumps(bell(execution__shots=2**64 + 5)).encode(), "execution.shots"),
    "300 digits of shots": (GOOD.replace(SHOTS, b'"shots": 1' + b"0" * 300), "execution.shots"),
    "5,000 digits of shots": (GOOD.replace(SHOTS, b'"shots": 1' + b"0" * 5000), "execution.shots"),
    "seed out of range": (json.dumps(bell(execution__seed=2**40)).encode(), "execution.seed"),
    "list for an object": (json.dumps(bell(execution=[])).encode(), "execution"),
    "null for an object": (GOOD.replace(b'"governance": {', b'"governance": null, "x": {'), "governance"),
    "not base64": (json.dumps(bell(circuit__source="%%%")).encode(), "circuit.source"),
    "half base64": (json.dumps(bell(circuit__source="QQ")).encode(), "circuit.source"),
    "url-safe base64": (json.dumps(bell(circuit__source="-_-_")).encode(), "circuit.source"),
    "empty source": (json.dumps(bell(circuit__source="")).encode(), "circuit.source"),
    "unknown format": (json.dumps(bell(circuit__format="QIR")).encode(), "circuit.format"),
    "no circuit": (json.dumps(bell(circuit=None)).encode(), "circuit"),
    "no project": (json.dumps(bell(governance__project=None)).encode(), "governance.project"),
    "empty project": (json.dumps(bell(governance__project="")).encode(), "governance.project"),
    "project with a slash step": (json.dumps(bell(governance__project="../x")).encode(), "governance.project"),
    "long justification": (json.dumps(bell(governance__justification="x" * 2001)).encode(), "governance.justification"),
    "NUL in text": (GOOD.replace(TEXT, b"a\\u0000b"), "governance.justification"),
    "escape in text": (GOOD.replace(TEXT, b"a\\u001b[31m"), "governance.justification"),
    "unknown level": (json.dumps(bell(evidence_requirements__level="none")).encode(), "evidence_requirements.level"),
    "no retention": (
        json.dumps(bell(evidence_requirements__retention_days=0)).encode(),
        "evidence_requirements.retention_days",
    ),
    "long job id": (json.dumps(bell(job_id="x" * 129)).encode(), "job_id"),
    "job id with a line end": (json.dumps(bell(job_id="x\n")).encode(), "job_id"),
    "job id with a path": (json.dumps(bell(job_id="../../x")).encode(), "job_id"),
    "job id with NUL": (json.dumps(bell(job_id="x\0")).encode(), "job_id"),
    "job id with letters of other scripts": (json.dumps(bell(job_id="jöb")).encode(), "job_id"),
    "number for a job id": (json.dumps(bell(job_id=7)).encode(), "job_id"),
    "no providers": (
        json.dumps(bell(execution__backend_constraints__allowed_providers=[])).encode(),
        "execution.backend_constraints.allowed_providers",
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_field_is_named(plane: Plane, name: str) -> None:
    body, field = FIELDS[name]
    answer = plane.submit(body)
    refused(plane, answer, 400, "spec_invalid")
    assert answer.fields == [field]


AMBIGUOUS: dict[str, tuple[bytes, str]] = {
    "NaN": (GOOD.replace(SHOTS, b'"shots": NaN'), "execution.shots"),
    "Infinity": (GOOD.replace(SHOTS, b'"shots": Infinity'), "execution.shots"),
    "-Infinity": (GOOD.replace(SHOTS, b'"shots": -Infinity'), "execution.shots"),
    "NaN parameter": (GOOD.replace(VERSION, b'"parameters": {"a": NaN}'), "circuit.parameters.a"),
    "1e999": (GOOD.replace(VERSION, b'"parameters": {"a": 1e999}'), "circuit.parameters.a"),
    "a name twice": (GOOD.replace(SHOTS, SHOTS + b"," + SHOTS), "execution.shots"),
    "job_id twice": (b'{"job_id": "a", "job_id": "b"}', "job_id"),
    "a name twice by its escape": (b'{"job_id": "a", "job\\u005fid": "b"}', "job_id"),
    "half a surrogate pair": (GOOD.replace(TEXT, b"a \\ud800 b"), "governance.justification"),
    "half a pair in a name": (GOOD.replace(VERSION, b'"parameters": {"\\udfff": 1}'), "circuit.parameters"),
    "nested 40 deep": (b"[" * 40 + b"]" * 40, "[0]" * 32),
    "objects 100 deep": (b'{"a":' * 100 + b"1" + b"}" * 100, ".".join("a" * 32)),
    "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, ""),
    "objects 100,000 deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ""),
    "100,000 left open": (b"[" * 100_000, ""),
    "invalid UTF-8": (GOOD.replace(TEXT, b"a \xff b"), ""),
    "UTF-16": (GOOD.decode().encode("utf-16"), ""),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, ""),
    "empty": (b"", ""),
    "blank": (b" \n", ""),
    "cut off": (GOOD[:-5], ""),
    "more after it": (GOOD + b"{}", ""),
    "single quotes": (b"{'a': 1}", ""),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_no_plain_json_is_refused(plane: Plane, name: str) -> None:
    body, field = AMBIGUOUS[name]
    answer = plane.submit(body)
    refused(plane, answer, 400, "malformed_json")
    assert answer.fields == [field]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"1", b"true", b"[1,2]"])
def test_a_body_that_is_no_object_is_refused(plane: Plane, body: bytes) -> None:
    refused(plane, plane.submit(body), 400, "spec_invalid")


@pytest.mark.parametrize("fill", [b'\\"', b"[],", b'"",', b"NaN,", b"1e999,", b"\\ud800"], ids=repr)
def test_the_largest_body_is_read_in_time_whatever_fills_it(plane: Plane, fill: bytes) -> None:
    """A string that never ends once took time that grew with its square."""
    size = 2 * 1024 * 1024 - 64
    opened = b'{"a":"' if fill[:1] == b"\\" else b"["
    body = opened + fill * (size // len(fill))
    begun = time.process_time()
    answer = plane.submit(body)
    assert answer.status == 400
    assert len(answer.body) < 20_000
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        "",
        "application/json; charset=utf-16",
        'application/json; x=1; Charset="latin-1"',
    ],
)
def test_another_content_type_is_415(plane: Plane, kind: str) -> None:
    answer = plane.http("POST", "/api/v1/jobs", GOOD, headers={"Content-Type": kind})
    refused(plane, answer, 415, "unsupported_media_type")


def test_json_that_says_it_is_utf_8_is_taken(plane: Plane) -> None:
    kind = 'application/json; charset="UTF-8"'
    assert plane.http("POST", "/api/v1/jobs?dry_run=true", GOOD, headers={"Content-Type": kind}).status == 200


@pytest.mark.parametrize("query", ["?wait=1&wait=2", "?dry_run=true&dry_run=true"])
def test_a_parameter_given_twice_is_refused(plane: Plane, query: str) -> None:
    before = jobs_and_holds(plane)
    answer = plane.submit(GOOD, query=query)
    refused(plane, answer, 400, "request_invalid")
    assert answer.json["errors"][0]["message"] == "given twice"
    assert jobs_and_holds(plane) == before


def test_an_oversize_body_is_413_however_it_is_announced(plane: Plane) -> None:
    """And its announced length doesn't lock its sender out."""
    body = b'{"a":"' + b"x" * (3 << 20) + b'"}'
    refused(plane, plane.submit(body), 413, "body_too_large")
    chunks = (body[at : at + 65536] for at in range(0, len(body), 65536))
    connection = plane.connection()
    connection.request("POST", "/api/v1/jobs", chunks, signed(plane), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    connection = plane.connection()
    connection.putrequest("POST", "/api/v1/jobs")
    for name, value in (signed(plane) | {"Content-Length": "99999999999"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert plane.http("GET", "/api/v1/whoami").status == 200


def signed(plane: Plane) -> dict[str, str]:
    return {"Authorization": f"Bearer {plane.tokens['engineer']}", "Content-Type": "application/json"}


def b64(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unpacked(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return found


def forged(plane: Plane, header: dict[str, Any], claims: dict[str, Any], *, key: Any = None) -> str:
    """A token like the engineer's with changes; signed with a key, or with nothing."""
    old_header, old_claims, _ = plane.tokens["engineer"].split(".")
    said = f"{b64(unpacked(old_header) | header)}.{b64(unpacked(old_claims) | claims)}"
    if key is None:
        return said + "."
    r, s = utils.decode_dss_signature(key.sign(said.encode(), ec.ECDSA(SHA256())))
    return f"{said}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def issuer_key(plane: Plane) -> Any:
    (path,) = Path(plane.home).glob("keys/issuer/*.pem")
    return load_pem_private_key(path.read_bytes(), None)


def test_forged_and_expired_tokens_are_401(plane: Plane) -> None:
    own, strange = issuer_key(plane), ec.generate_private_key(ec.SECP256R1())
    header, claims, signature = plane.tokens["engineer"].split(".")
    assert plane.http("GET", "/api/v1/whoami", token=forged(plane, {}, {}, key=own)).status == 200, "the forge works"
    past = {"iat": 1, "exp": 1000}
    tokens = {
        "alg none": forged(plane, {"alg": "none"}, {}),
        "alg none with a signature": f"{b64(unpacked(header) | {'alg': 'none'})}.{claims}.{signature}",
        "alg HS256": forged(plane, {"alg": "HS256"}, {}, key=own),
        "no signature": f"{header}.{claims}.",
        "another's key": forged(plane, {}, {}, key=strange),
        "key in the header": forged(plane, {"jwk": {"kty": "EC"}}, {}, key=strange),
        "other audience": forged(plane, {}, {"aud": "someone-else"}, key=own),
        "other issuer": forged(plane, {}, {"iss": "https://evil.example"}, key=own),
        "ID token": forged(plane, {"typ": "JWT"}, {}, key=own),
        "changed role": f"{header}.{b64(unpacked(claims) | {'roles': ['quantum-admin']})}.{signature}",
        "not yet": forged(plane, {}, {"nbf": 2**40}, key=own),
        "no expiry": forged(plane, {}, {"exp": None}, key=own),
        "expiry of the far past as text": forged(plane, {}, {"exp": "1000"}, key=own),
        "text": "abc",
        "dots": "..",
        "long": "a" * 20_000,
    }
    for name, token in tokens.items():
        answer = plane.http("GET", "/api/v1/whoami", token=token)
        assert (answer.status, answer.code) == (401, "token_invalid"), name
        assert answer.headers["www-authenticate"].startswith("Bearer"), name
    assert plane.http("GET", "/api/v1/whoami", token=forged(plane, {}, past, key=own)).code == "token_expired"
    assert (
        plane.http("GET", "/api/v1/whoami", user=None, headers={"Authorization": "Basic YTpi"}).code == "token_missing"
    )
    assert plane.http("POST", "/api/v1/jobs", GOOD, user=None).code == "token_missing"


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/%2f",
        "/jobs/%2F..%2fhealth",
        "/jobs/..",
        "/jobs/%2e%2e",
        "/jobs/%00",
        "/jobs/a%00b/result",
        "/jobs/%ff",
        "/jobs/%ed%a0%80",
        "/jobs/%F0%9F%98%80",
        "/jobs/" + "x" * 5000,
        "/jobs/a'b",
        "/jobs/%25",
        "/jobs/x/../../health",
        "/ledger/tile/0/../../checkpoint",
        "/ledger/tile/0/%00",
        "/ledger/tile/99/000",
        "/ledger/tile/0/000.p/0",
        "/ledger/tile/0/x999/x999/x999/x999/x999/999",
        "/ledger/tile/-1/000",
        "/nothing",
    ],
)
def test_path_tricks_lead_nowhere(plane: Plane, path: str) -> None:
    answer = plane.http("GET", "/api/v1" + path)
    assert answer.status in (404, 405)
    assert answer.code in ("not_found", "not_in_log", "method_not_allowed")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=-1", "limit"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("limit=1001", "limit"),
        ("limit=" + "9" * 40, "limit"),
        ("cursor=garbage", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%ff", "cursor"),
        ("cursor=" + "x" * 500, "cursor"),
        ("cursor=" + quote(base64.b64encode(b'["2026-01-01T00:00:00Z", "\\u0000"]')), "cursor"),
        ("cursor=" + quote(base64.b64encode(b'["2026-01-01T00:00:00", "x"]')), "cursor"),
        ("state=NOPE", "state"),
        ("state=%00", "state"),
        ("project=%00", "project"),
        ("project=" + "x" * 200, "project"),
    ],
)
def test_a_wrong_query_parameter_is_named(plane: Plane, query: str, field: str) -> None:
    answer = plane.http("GET", f"/api/v1/jobs?{query}")
    refused(plane, answer, 400, "request_invalid")
    assert answer.fields == [field]


@pytest.mark.parametrize("wait", ["abc", "-1", "nan", "inf", "1e9", "", "%ff"])
def test_a_wrong_wait_submits_nothing(plane: Plane, wait: str) -> None:
    before = jobs_and_holds(plane)
    answer = plane.submit(GOOD, query=f"?wait={wait}")
    refused(plane, answer, 400, "request_invalid")
    assert answer.fields == ["wait"]
    assert jobs_and_holds(plane) == before


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "a\tb", "\xe9"], ids=repr)
def test_a_wrong_idempotency_key_is_named(plane: Plane, key: str) -> None:
    answer = plane.submit(GOOD, Idempotency_Key=key)
    refused(plane, answer, 400, "request_invalid")
    assert answer.fields == ["Idempotency-Key"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": "nothing:x"}, "scope"),
        ({"scope": "project:"}, "scope"),
        ({"scope": "project:a\0"}, "scope"),
        ({"scope": "project:" + "x" * 200}, "scope"),
        ({"scope": "tenant:other"}, "scope"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "Infinity"}, "amount"),
        ({"amount": "1e400"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1_000"}, "amount"),
        ({"amount": "９"}, "amount"),
        ({"amount": 5}, "amount"),
        ({"amount": ""}, "amount"),
        ({"currency": "dollar"}, "currency"),
        ({"period": "daily"}, "period"),
        ({"period": "rolling:0"}, "period"),
        ({"period": "rolling:" + "9" * 30}, "period"),
        ({"limit": "1"}, "limit"),
    ],
)
def test_a_wrong_budget_is_refused_by_field(plane: Plane, change: dict[str, Any], field: str) -> None:
    asked = {"scope": "project:bad", "amount": "1", "currency": "USD", "period": "monthly"} | change
    answer = plane.http("PUT", "/api/v1/budgets", json.dumps(asked).encode(), user="admin")
    assert 400 <= answer.status < 500
    assert answer.code in ("request_invalid", "budget_invalid", "amount_invalid", "currency_mismatch")
    assert answer.fields == [field]
    assert "project:bad" not in [budget["scope"] for budget in plane.get("/budgets", "admin")]


def test_other_methods_and_odd_requests_are_problems(plane: Plane) -> None:
    assert plane.http("DELETE", "/api/v1/jobs").code == "method_not_allowed"
    assert plane.http("PATCH", "/api/v1/jobs/x", b"{}").code == "method_not_allowed"
    assert plane.http("GET", "/api/v1/jobs/x/events").code == "method_not_allowed"
    assert plane.http("POST", "/issuer/token", b"a=b&" * 100, user=None).code == "request_invalid"
    assert plane.http("POST", "/issuer/token", b"user=engineer", user=None).code == "forbidden"
    for request in (
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /api/v1/jobs/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/v1/jobs HTTP/1.1\r\nHost: a\xffb\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        assert b" 400 " in raw(plane, request).split(b"\r\n")[0]


def raw(plane: Plane, request: bytes) -> bytes:
    address = urlsplit(plane.status["url"])
    assert address.hostname
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def test_a_refused_submission_leaves_no_job_no_hold_and_no_entry(plane: Plane) -> None:
    before = jobs_and_holds(plane)
    entries = plane.cli("ledger", "verify", "--json").json["size"]
    for body, _ in (*FIELDS.values(), *AMBIGUOUS.values()):
        assert plane.submit(body).status == 400
    assert jobs_and_holds(plane) == before
    assert plane.cli("ledger", "verify", "--json").json["size"] == entries


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in document.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(where=st.sampled_from(sorted(places(bell()))), value=JSON)
def test_any_json_at_any_place_is_answered_without_a_fault(plane: Plane, where: tuple[str, ...], value: Any) -> None:
    """Dry runs: whatever stands at a place of the spec, the answer is a decision or a problem that names a field."""
    document = bell()
    place = document
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    answer = plane.submit(json.dumps(document).encode(), query="?dry_run=true")
    assert answer.status in (200, 400), answer
    if answer.status == 400 and answer.code not in ("circuit_invalid", "circuit_too_complex"):
        assert answer.code in ("spec_invalid", "malformed_json", "program_unsupported")
        assert answer.fields
    if isinstance(value, float) and not math.isfinite(value):
        assert answer.code == "malformed_json"
