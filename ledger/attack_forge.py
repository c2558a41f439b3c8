# SPDX-License-Identifier: Apache-2.0
"""Attacks with keys of the attacker's own: changed records signed, sealed and stamped anew, and parts of other jobs.

Enters: a sound bundle's tree and the trust file that it was judged by; a seed, from which every key is derived. Leaves:
changed copies. The attacker here is as strong as one without the plane's keys can be: names, key ids and certificates
are the plane's where they are public, and everything that can be computed fits. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, Literal

import msgspec
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from ledger import checkpoint, cms, issuer, merkle, timestamp, tsa
from ledger.attack_edits import Copy, with_hashes
from ledger.attack_shape import binary, closed, opened, put, read, without, written
from ledger.canonical import sha256
from ledger.errors import LedgerError, ProofInvalid
from ledger.predicate import pae
from ledger.signer import Held
from ledger.trust import Trust

_SIDES = ("signatures", "proof", "contents", "method")
Tokens = Literal["kept", "own authority", "its certificates, own key"]
Statement = Callable[[dict[str, Any]], bytes]
"""The signed Statement of a record; LedgerError or ValidationError where there is no such record."""
TOKENS: tuple[Tokens, ...] = ("kept", "own authority", "its certificates, own key")
_WHO = (("evidence",), ("log",), ("evidence", "log"))


class Forger:
    """Keys of the attacker's own, and what they make of a bundle."""

    def __init__(self, tree: Any, trust: Trust, seed: str, statement: Statement) -> None:
        self._tree, self._trust, self._seed, self._statement = tree, trust, seed, statement
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(self._secret("log"))
        self._log_mldsa65 = MLDSA65PrivateKey.from_seed_bytes(self._secret("log pq"))
        self._mldsa65 = MLDSA65PrivateKey.from_seed_bytes(self._secret("evidence pq"))
        self._p256 = self._ec("evidence")
        self._genuine = [
            timestamp.parse(binary(one["token"]) or b"") for one in tree["signatures"]["timestamp_authority"]
        ]
        self._authorities = {known.by.name: self._authority(known.by.name) for known in trust.authorities}

    def forged(
        self,
        tree: Any,
        *,
        who: tuple[str, ...],
        tokens: Tokens,
        earlier_s: int = 0,
        hints: bool = True,
        origin: str = "",
    ) -> bytes | None:
        """A copy whose record is `tree`'s, made anew by these keys; None where there is no such record."""
        record = {name: value for name, value in tree.items() if name not in _SIDES}
        try:
            statement = self._statement(record)
        except (LedgerError, msgspec.ValidationError):
            return None
        signed, level = dict(tree["signatures"]), record["evidence_level"]
        if "evidence" in who:
            made = pae(statement)
            ecdsa = timestamp.low_s(self._p256.sign(made, ec.ECDSA(hashes.SHA256())))
            signed["qcos_signature"] = None if level == "sealed" else closed(self._mldsa65.sign(made))
            signed["ecdsa_p256_signature"] = closed(ecdsa) if level == "full" else None
        proof = dict(tree["proof"])
        if "log" in who:
            proof |= self._sealed(proof, record, statement, hints=hints, origin=origin)
        if tokens != "kept":
            targets = [binary(signed[name]) for name in ("qcos_signature", "ecdsa_p256_signature")]
            over = [one for one in targets if one] if level == "full" else [proof["checkpoint"].encode()]
            signed["timestamp_authority"] = self._stamps(over, tokens, earlier_s)
        return written(tree | {"signatures": signed, "proof": proof})

    def _sealed(self, proof: Any, record: Any, statement: bytes, *, hints: bool, origin: str) -> dict[str, Any]:
        """Entry, path and checkpoint for a statement, under the attacker's own log keys."""
        salt = binary(proof["statement_salt"]) or b""
        said = {
            "tenant": record["scope"]["tenant"],
            "commitments": {"statement": sha256(salt + statement)},
        }
        inner = proof.get("fold")
        spoken = opened(inner["record"] if inner else proof["leaf"])
        body = spoken["body"] | {"evidence": {"bundle_id": record["bundle_id"], "level": record["evidence_level"]}}
        if "job_id" in body:
            body["job_id"] = record["job_id"]
        if "close" in body:
            told = {"month": record["month"], "lines": record["lines"]["sha256"], "count": record["lines"]["count"]}
            body["close"] = body["close"] | told | {"bundle_id": record["bundle_id"], "statement": sha256(statement)}
        spoken = spoken | {
            "tenant": said["tenant"],
            "commitments": spoken["commitments"] | said["commitments"],
            "body": body,
        }
        made: dict[str, Any] = {}
        leaf = spoken
        if inner:
            row = written(spoken)
            made["fold"] = {"record": closed(row), "index": 0, "path": []}
            leaf = opened(proof["leaf"])
            told = {"count": 1, "root": "sha256:" + merkle.leaf_hash(row).hex(), "kinds": {spoken["kind"]: 1}}
            leaf = leaf | {"tenant": said["tenant"], "body": leaf["body"] | told}
        data = written(leaf)
        head = checkpoint.parse(proof["checkpoint"].encode())
        root = _root(leaf["index"], head.size, data, [binary(one) or b"" for one in proof["path"]])
        return made | {
            "leaf": closed(data),
            "checkpoint": self._note(head, root, hints=hints, origin=origin or head.origin),
        }

    def _note(self, head: checkpoint.Checkpoint, root: bytes, *, hints: bool, origin: str) -> str:
        """A checkpoint signed by own keys; with `hints` under the key hashes of the plane's."""
        body = checkpoint.text(origin, head.size, root)
        own = (
            checkpoint.key_hash(origin, checkpoint.ED25519_TYPE, self._ed25519.public_key().public_bytes_raw()),
            checkpoint.key_hash(origin, checkpoint.ML_DSA_65_TYPE, self._log_mldsa65.public_key().public_bytes_raw()),
        )
        named = tuple(line.key_hash for line in head.lines) if hints else own
        made = (self._ed25519.sign(body), self._log_mldsa65.sign(body))
        lines = (f"\u2014 {origin} {closed(hint + one)}\n" for hint, one in zip(named, made, strict=False))
        return body.decode() + "\n" + "".join(lines)

    def _stamps(self, targets: list[bytes], tokens: Tokens, earlier_s: int) -> list[dict[str, str]]:
        made = []
        for target in targets:
            digest = hashlib.sha256(target).digest()
            for number, (operator, name) in enumerate(self._known()):
                at = self._stamped_at(number) - timedelta(seconds=earlier_s)
                if tokens == "own authority":
                    reply = tsa.issue(self._authorities[name], timestamp.request(digest, nonce=1), now=at, serial=7)
                    der = cms.whole(cms.decode(cms.Grant, reply, what="reply").token)
                else:
                    der = self._worn(self._genuine[number % len(self._genuine)], digest, at)
                made.append((targets.index(target), timestamp.OPERATORS.index(operator), der, operator))
        return [{"operator": operator, "token": closed(der)} for *_, der, operator in sorted(made)]

    def _known(self) -> list[tuple[timestamp.Operator, str]]:
        """The authorities that stamped the original, as far as the trust file knows them."""
        found = [
            (known.by.operator, known.by.name)
            for known in self._trust.authorities
            if any(known.by.signed(token) for token in self._genuine)
        ]
        return found or [("self", "stranger")]

    def _stamped_at(self, number: int) -> datetime:
        return timestamp.read(self._genuine[number % len(self._genuine)]).generated_at

    def _worn(self, token: cms.Token, digest: bytes, at: datetime) -> bytes:
        """A genuine token over another digest and time, its certificates kept, its signature by an own key."""
        info = cms.Info(
            version=1,
            policy=tsa.POLICY,
            message_imprint=cms.Imprint(
                hash_algorithm=cms.Algorithm(algorithm=cms.SHA256, parameters=None), hashed_message=digest
            ),
            serial_number=7,
            gen_time=asn1.GeneralizedTime(at.astimezone(UTC).replace(microsecond=0)),
            accuracy=cms.Accuracy(seconds=1),
            nonce=1,
        )
        content = asn1.encode_der(info)
        signer = token.content.signer_infos.as_list()[0]
        own = asn1.decode_der(asn1.TLV, asn1.encode_der(hashlib.sha256(content).digest()))
        attributes = asn1.SetOf(
            [
                replace(one, values=asn1.SetOf([own])) if one.type == cms.MESSAGE_DIGEST else one
                for one in signer.signed_attributes.as_list()
            ]
        )
        signature = timestamp.low_s(self._p256.sign(asn1.encode_der(attributes), ec.ECDSA(hashes.SHA256())))
        data = replace(
            token.content,
            content=cms.Content(type=cms.TST_INFO, content=content),
            signer_infos=asn1.SetOf([replace(signer, signed_attributes=attributes, signature=signature)]),
        )
        return asn1.encode_der(replace(token, content=data))

    def _authority(self, name: str) -> tsa.TsaKeys:
        """An authority of the attacker's own that is called as the plane's."""
        start = datetime(2001, 1, 1, tzinfo=UTC)
        key, root = self._ec(f"authority {name}"), self._ec(f"root {name}")
        chain = issuer.certify(key.public_key(), root, "time", now=start, name=name, validity=timedelta(days=36500))
        return tsa.TsaKeys(Held(key), tuple(part.public_bytes(Encoding.DER) for part in chain))

    def _ec(self, name: str) -> ec.EllipticCurvePrivateKey:
        number = int.from_bytes(self._secret(name)) % (timestamp.P256_ORDER - 1) + 1
        return ec.derive_private_key(number, ec.SECP256R1())

    def _secret(self, name: str) -> bytes:
        return hashlib.sha256(f"{self._seed}/{name}".encode()).digest()


def resigned(tree: Any, forger: Forger) -> Iterator[Copy]:
    """Each change of the record, made anew by fresh keys in each combination that an attacker can choose."""
    for what, record in _records(tree):
        for who in _WHO:
            for tokens in TOKENS:
                for hints in (True, False) if "log" in who else (True,):
                    data = forger.forged(record, who=who, tokens=tokens, hints=hints)
                    if data is not None:
                        keys = f"{' and '.join(who)} signed by own keys{'' if hints else ' under own hashes'}"
                        yield f"{what}, {keys}, tokens: {tokens}", data
        data = forger.forged(record, who=("evidence", "log"), tokens="own authority", origin="attacker.example/log")
        if data is not None:
            yield f"{what}, everything signed anew in a log of its own", data


def restamped(tree: Any, forger: Forger) -> Iterator[Copy]:
    """The untouched record with tokens of own authorities: at their time, and at others."""
    for seconds in (0, 1, 3600, 86_400, 31_536_000, 10 * 31_536_000, -60, -86_400, -31_536_000):
        for tokens in TOKENS[1:]:
            data = forger.forged(tree, who=(), tokens=tokens, earlier_s=seconds)
            if data is not None:
                yield f"tokens of {tokens}, {seconds} s earlier", data


def swapped(tree: Any, others: dict[str, Any]) -> Iterator[Copy]:
    """Parts of other bundles in this one's place, one by one and together."""
    for whose, other in others.items():
        for name, value in other.items():
            yield f"{name} of {whose}", written(tree | {name: value})
        apart = [name for name in _SIDES if isinstance(tree.get(name), dict) and isinstance(other.get(name), dict)]
        for part in apart:
            for name, value in other[part].items():
                yield f"{part}.{name} of {whose}", written(put(tree, (part, name), value))
            for name in sorted(set(tree[part]) - set(other[part])):
                yield f"{part}.{name} taken out, as in {whose}", written(without(tree, (part, name)))
        for count in range(2, len(apart) + 1):
            for names in combinations(apart, count):
                yield f"{', '.join(names)} of {whose}", written(tree | {name: other[name] for name in names})
        for name in apart:
            yield f"all but {name} of {whose}", written(other | {name: tree[name]})
        stamps = other["signatures"]["timestamp_authority"]
        for number, stamp in enumerate(tree["signatures"]["timestamp_authority"]):
            for place, theirs in enumerate(stamps):
                if theirs != stamp:
                    yield (
                        f"token {place} of {whose} for token {number}",
                        written(put(tree, ("signatures", "timestamp_authority", number), theirs)),
                    )
        both = tree["signatures"]["timestamp_authority"] + stamps
        yield f"its tokens and those of {whose}", written(put(tree, ("signatures", "timestamp_authority"), both))


def another_job(tree: Any, forger: Forger) -> dict[str, Any]:
    """Jobs, or months, that the attacker made up, in own keys; one wears the plane's names and certificates."""
    other = tree | _another(tree) | {"bundle_id": "00000000-0000-4000-8000-00000000000a"}
    made = {}
    for tokens in TOKENS[1:]:
        data = forger.forged(other, who=("evidence", "log"), tokens=tokens)
        if data is not None:
            made[f"a forged {'job' if 'job_id' in tree else 'month'} ({tokens})"] = read(data)
    return made


def _another(tree: Any) -> dict[str, Any]:
    """What makes the record that of another job or month."""
    return {"job_id": f"{tree['job_id']}-2"} if "job_id" in tree else {"month": "2001-01"}


def _records(tree: Any) -> Iterator[tuple[str, Any]]:
    """The record as it is, and changed as somebody would want to."""
    yield "nothing changed", tree
    yield "another tenant", put(tree, ("scope", "tenant"), "another")
    yield (
        "another profile",
        put(tree, ("scope", "profile"), "onprem" if tree["scope"]["profile"] != "onprem" else "dev"),
    )
    what = "job" if "job_id" in tree else "month"
    yield f"another {what}", tree | _another(tree)
    for level in ("full", "standard", "sealed"):
        if level != tree["evidence_level"]:
            yield f"level {level}", tree | {"evidence_level": level}
    yield from _of_a_job(tree) if "job_id" in tree else _of_a_month(tree)


def _of_a_month(tree: Any) -> Iterator[tuple[str, Any]]:
    """Its sums as somebody would have them, each sum agreeing with the others."""
    yield "nothing spent", tree | {name: [] for name in ("totals", "projects", "providers", "cost_centers", "pools")}
    for currency in ("USD", "EUR", "JPY"):
        yield f"all in {currency}", _everywhere(tree, currency)
    yield "other lines", tree | {"lines": {"count": 0, "sha256": sha256(b"")}}
    yield "the first of its chain", tree | {"previous": None}
    yield "frozen before", tree | {"frozen_at": "2001-01-01T00:00:00.000Z"}


def _everywhere(value: Any, currency: str) -> Any:
    """The value with each `currency` in it another."""
    if isinstance(value, list):
        return [_everywhere(one, currency) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: currency if name == "currency" else _everywhere(inner, currency) for name, inner in value.items()}


def _of_a_job(tree: Any) -> Iterator[tuple[str, Any]]:
    yield "another actor", put(tree, ("governance_record", "actor"), "user:somebody@else")
    yield "another project", put(tree, ("governance_record", "project"), "another")
    yield "no gaps", tree | {"gaps": []}
    if tree["cost"]:
        yield "no cost", tree | {"cost": None}
    result = opened(tree["contents"].get("result"))
    if isinstance(result, dict) and len(counts := result.get("counts") or {}) > 1:
        (one, first), (two, second), *rest = counts.items()
        moved = {one: first - 1, two: second + 1} | dict(rest)
        other = put(tree, ("contents", "result"), closed(result | {"counts": moved, "blocks": []}))
        yield "another result", with_hashes(other, "result")


def _root(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """The root to which a path leads."""
    found = merkle.leaf_hash(leaf)
    try:
        merkle.verify_inclusion(index=index, size=size, leaf=found, path=path, root=b"\0" * merkle.HASH_BYTES)
    except ProofInvalid as error:
        return error.got
    raise AssertionError("no tree has that root")
