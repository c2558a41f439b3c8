# SPDX-License-Identifier: Apache-2.0
"""A real plane's signed bundles with other envelopes in them, signed by the same keys: what the record is held against.

The keys are the tests' own (`tests.ledger.signing`), so that each envelope is well signed and only what it says is
wrong. Artefact, hash and size are set anew; then the checks before `envelope` pass, and those of the Statement fail.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from ledger.asker import Algorithm
from tests.ledger.signing import cose, jws

FOLDER = Path(__file__).parents[1] / "vectors" / "envelopes"
TRUST = (FOLDER / "trust.json").read_bytes()
NAMES = ("jose", "cose", "program", "denied")
KEYS: dict[str, tuple[Algorithm, int]] = {
    "jose": ("Ed25519", 1),
    "cose": ("ML-DSA-65", 1),
    "program": ("ML-DSA-44", 1),
    "denied": ("Ed25519", 2),
}
Case: TypeAlias = tuple[str, bool, bytes]


def bundle(name: str) -> dict[str, Any]:
    """A real one."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return found


def said(found: dict[str, Any]) -> dict[str, Any]:
    """The payload of its envelope."""
    data = base64.b64decode(found["contents"]["envelope"])
    if found["envelope"]["form"] == "jose":
        part = data.split(b".")[1]
        payload = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    else:
        start, end = data.index(b'{"aud"'), data.rindex(b"}}") + 2
        payload = data[start:end]
    claims: dict[str, Any] = json.loads(payload)
    return claims


def written(found: dict[str, Any]) -> bytes:
    """The file's one form."""
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def put(found: dict[str, Any], name: str, data: bytes) -> None:
    """Other bytes of an artefact."""
    found["contents"][name] = base64.b64encode(data).decode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    part = next(one for one in found["artefacts"] if one["name"] == name)
    part |= {"sha256": digest, "size": len(data)}
    if name == "spec":
        found["input_hash"] = digest


def signed(name: str, payload: bytes, *, seed: int | None = None, found: dict[str, Any] | None = None) -> bytes:
    """The bundle with this payload in its envelope."""
    made = found or bundle(name)
    alg, own = KEYS[name]
    make = jws if made["envelope"]["form"] == "jose" else cose
    put(made, "envelope", make(payload, alg, seed=seed or own))
    return written(made)


Change = Callable[[dict[str, Any]], Any]


def _spec(**changes: Any) -> Change:
    return lambda claims: claims["body"]["spec"].update(changes)


def _within(section: str, **changes: Any) -> Change:
    return lambda claims: claims["body"]["spec"].setdefault(section, {}).update(changes)


def _claims(**changes: Any) -> Change:
    return lambda claims: claims.update(changes)


def _body(**changes: Any) -> Change:
    return lambda claims: claims["body"].update(changes)


def _parameters(*sets: dict[str, Any]) -> Change:
    return lambda claims: claims["body"]["spec"]["program"].update(parameters=list(sets))


_SETS = ({"a": 0.1}, {"a": 1e-7}, {"a": 3})
CHANGES: dict[str, tuple[str, bool, Change]] = {
    "the same": ("jose", True, lambda _: None),
    "the same in COSE": ("cose", True, lambda _: None),
    "the same of a denial": ("denied", True, lambda _: None),
    "the same of a program": ("program", True, lambda _: None),
    "a default that is said": ("program", True, _spec(evidence_requirements={"level": "full"})),
    "another level": ("jose", False, _spec(evidence_requirements={"level": "standard"})),
    "another retention": ("program", False, _spec(evidence_requirements={"retention_days": 366})),
    "null, which says nothing": ("jose", True, _spec(workflow=None, job_id=None)),
    "more shots": ("jose", False, _within("execution", shots=1001)),
    "shots as text": ("jose", False, _within("execution", shots="1000")),
    "shots as a fraction": ("jose", True, _within("execution", shots=1000.0)),
    "shots as true": ("jose", False, _within("execution", shots=True)),
    "a backend that the job hasn't": ("jose", False, _within("execution", backend_constraints={"backend": "aer"})),
    "a member that the job hasn't": ("jose", False, _spec(priority=1)),
    "a job id that the job hasn't": ("jose", False, _spec(job_id="mine")),
    "another project": ("jose", False, _within("governance", project="other")),
    "no purpose": ("jose", False, lambda claims: claims["body"]["spec"]["governance"].pop("purpose")),
    "nothing but the circuit": (
        "jose",
        False,
        lambda c: c["body"].update(spec={"circuit": c["body"]["spec"]["circuit"]}),
    ),
    "no spec": ("jose", False, lambda claims: claims["body"].pop("spec")),
    "a list as spec": ("jose", False, _body(spec=[])),
    "a key of its own": ("jose", True, _body(idempotency_key="k-1")),
    "a key that is a number": ("jose", False, _body(idempotency_key=1)),
    "advice": ("jose", False, _body(dry_run=True)),
    "no advice, said": ("jose", True, _body(dry_run=False)),
    "more in the body": ("jose", False, _body(wait=30)),
    "a cancel": ("jose", False, _claims(kind="cancel")),
    "another tenant": ("jose", False, _claims(aud="urn:qcos:plane:dev:other")),
    "another plane": ("jose", False, _claims(aud="urn:qcos:plane:prod:demo")),
    "long before": ("jose", False, lambda claims: claims.update(iat=claims["iat"] - 900, exp=claims["exp"] - 900)),
    "long after": ("jose", False, lambda claims: claims.update(iat=claims["iat"] + 900, exp=claims["exp"] + 900)),
    "for a day": ("jose", False, lambda claims: claims.update(exp=claims["exp"] + 86_400)),
    "a short nonce": ("jose", False, _claims(jti="short")),
    "more in the payload": ("jose", False, _claims(iss="me")),
    "the same numbers": ("program", True, _parameters({"a": 0.1000000000000000055}, {"a": 0.0000001}, {"a": 3.0})),
    "another number": ("program", False, _parameters({"a": 0.1000000001}, *_SETS[1:])),
    "another order": ("program", False, _parameters(*reversed(_SETS))),
    "one set less": ("program", False, _parameters(*_SETS[:2])),
    "another name": ("program", False, _parameters({"b": 0.1}, *_SETS[1:])),
    "one name more": ("program", False, _parameters({"a": 0.1, "b": 0}, *_SETS[1:])),
    "a set that is a list": ("program", False, _parameters([0.1], *_SETS[1:])),  # type: ignore[arg-type]
    "a number that is text": ("program", False, _parameters({"a": "0.1"}, *_SETS[1:])),
    "another precision": ("program", False, lambda c: c["body"]["spec"]["program"].update(precision=0.051)),
    "the same job id": ("program", True, _spec(job_id="signed-program")),
    "no job id, where the job has one": ("program", True, lambda claims: claims["body"]["spec"].pop("job_id")),
    "another observable": ("program", False, lambda c: c["body"]["spec"]["program"].update(observables=["ZZ", "XX"])),
}
WRITTEN: dict[str, tuple[bool, Callable[[bytes], bytes]]] = {
    "spaces": (True, lambda text: text.replace(b'": ', b'" :\n\t ')),
    "letters escaped": (True, lambda text: text.replace(b"demo", rb"\u0064emo")),
    "a member twice": (False, lambda text: text.replace(b'"kind":', b'"kind": "submit", "kind":')),
    "a member twice, deep": (False, lambda text: text.replace(b'"shots": 1000', b'"shots": 7, "shots": 1000')),
    "an exponent": (True, lambda text: text.replace(b'"shots": 1000', b'"shots": 1e3')),
    "beyond any number": (False, lambda text: text.replace(b'"shots": 1000', b'"shots": 1e999')),
    "many digits": (False, lambda text: text.replace(b'"shots": 1000', b'"shots": 1' + b"0" * 400)),
    "not a number": (False, lambda text: text.replace(b'"shots": 1000', b'"shots": NaN')),
    "half a pair": (False, lambda text: text.replace(b"demo", rb"\ud800")),
    "nested deep": (False, lambda text: text.replace(b'"shots": 1000', b'"shots": ' + b"[" * 90 + b"]" * 90)),
    "something after it": (False, lambda text: text + b" {}"),
    "no JSON": (False, lambda _: b"\xff"),
    "nothing": (False, lambda _: b""),
}


def cases() -> Iterator[Case]:
    """Each with its name, and whether the envelope is what the record says."""
    for name, (which, good, change) in CHANGES.items():
        found = bundle(which)
        claims = copy.deepcopy(said(found))
        change(claims)
        yield name, good, signed(which, json.dumps(claims).encode())
    plain = json.dumps(said(bundle("jose"))).encode()
    for name, (good, change_text) in WRITTEN.items():
        yield name, good, signed("jose", change_text(plain))
    yield "another key", False, signed("jose", plain, seed=2)
    yield from _files()


def _files() -> Iterator[Case]:
    """Parts of the file that don't belong together."""
    for name, part in (("no member", "envelope"), ("no enrolment", "enrolment")):
        found = bundle("jose")
        del (found if part == "envelope" else found["proof"])[part]
        yield name, False, written(found)
    found = bundle("jose")
    found["proof"]["enrolment"] = bundle("denied")["proof"]["enrolment"]
    yield "somebody else's enrolment", False, written(found)
    found = bundle("jose")
    found["envelope"]["key_id"] = bundle("program")["envelope"]["key_id"]
    yield "another key's name", False, written(found)
    found = bundle("jose")
    found["envelope"]["alg"] = "ML-DSA-65"
    yield "another algorithm", False, written(found)
    found = bundle("jose")
    found["envelope"]["form"] = "cose"
    yield "another form", False, written(found)
    found = bundle("jose")
    spec = json.loads(base64.b64decode(found["contents"]["spec"]))
    spec["execution"]["backend_constraints"] = {"backend": "dear"}
    put(found, "spec", json.dumps(spec).encode())
    yield "what the plane added", False, written(found)
    found = bundle("jose")
    del found["contents"]["envelope"]
    next(one for one in found["artefacts"] if one["name"] == "envelope")["carried"] = False
    yield "by hash alone", True, written(found)
