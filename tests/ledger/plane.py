# SPDX-License-Identifier: Apache-2.0
"""A plane's evidence made in memory with the real parts: keys, a small log, authorities, bundles.

It signs and seals what it is told, honest or not; that is what the tests of the verifier need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ledger import bundle, chain, checkpoint, merkle, sealer_keys, timestamp, trust, tsa
from ledger.canonical import dumps, sha256
from ledger.canonical import timestamp as written
from ledger.errors import TokenInvalid
from ledger.predicate import Artefact, Predicate

T0 = datetime(2025, 1, 6, 10, 0, 0, 250_000, tzinfo=UTC)  # past on any clock that verifies the vectors
NOW = T0 + timedelta(days=30)
SALT = bytes(range(32))
KINDS = (
    "completed_full",
    "completed_standard",
    "completed_by_hash",
    "failed",
    "canceled",
    "canceled_early",
    "denied",
)

SPEC = {
    "circuit": {"format": "QASM3", "source": "T1BFTlFBU00gMzsK", "compiler_version": "qiskit-2.6.2"},
    "execution": {"shots": 1000, "seed": 7},
    "governance": {
        "project": "demo",
        "cost_center": "CC-1",
        "classification": "internal",
        "purpose": "research",
        "justification": "a first look",
    },
    "evidence_requirements": {"level": "full", "retention_days": 2555},
}
RESULT = {
    "counts": {"00": 493, "01": 11, "10": 7, "11": 489},
    "blocks": [
        {"shots": 600, "counts": {"00": 300, "01": 11, "11": 289}, "start": "a", "end": "b"},
        {"shots": 400, "counts": {"00": 193, "10": 7, "11": 200}, "start": "b", "end": "c"},
    ],
    "shots": 1000,
}
CARD = {
    "version": 1,
    "name": "aer",
    "currency": "USD",
    "precision": "0.0001",
    "rounding": "half_even",
    "prices": [
        {
            "provider": "aer",
            "device": "*",
            "meters": [
                {"meter": "tasks", "unit": "Tasks", "rate": "0.30"},
                {"meter": "shots", "unit": "Shots", "rate": "0.00008"},
            ],
        }
    ],
}


def at(seconds: float) -> str:
    """A time of the job's life as the record writes it."""
    return written(T0 + timedelta(seconds=seconds))


def record(kind: str, *, scope: dict[str, str] | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The predicate's members (plain JSON values) and the carried contents of one kind of job."""
    denied, started = kind == "denied", kind not in ("denied", "canceled_early")
    done = kind.startswith("completed")
    contents = {
        "spec": dumps(SPEC),
        "source": b"OPENQASM 3;\n",
        "decision_input": dumps({"action": "job:submit"}),
    }
    if done:
        contents |= {"result": dumps(RESULT), "rate_card": dumps(CARD), "execution": dumps({"seeds": ["7"]})}
    lines = [
        {
            "meter": "tasks",
            "quantity": "1",
            "unit": "Tasks",
            "rate": "0.30",
            "amount": "0.3",
            "source": "measured",
        },
        {
            "meter": "shots",
            "quantity": "1000",
            "unit": "Shots",
            "rate": "0.00008",
            "amount": "0.08",
            "source": "measured",
        },
    ]
    state = kind.split("_", maxsplit=1)[0].upper()
    carried = {name: kind != "completed_by_hash" or name == "spec" for name in contents}
    members: dict[str, Any] = {
        "version": 1,
        "bundle_id": "8c4b8f0e-52c8-4ad2-9c22-0d9fbb6b1f10",
        "job_id": "qcos-job-2025-01-06-a7f3",
        "scope": scope or {"profile": "dev", "plane": "plane-1", "tenant": "demo"},
        "evidence_level": "sealed" if not started else "standard" if kind == "completed_standard" else "full",
        "state": state,
        "partial": None,
        "error": {"code": "circuit_invalid", "detail": "line 3"} if state == "FAILED" else None,
        "input_hash": sha256(contents["spec"]),
        "output_hash": sha256(contents["result"]) if done else None,
        "execution_metadata": {
            "backend": "aer-1" if started else None,
            "provider": "aer" if started else None,
            "region": "local" if started else None,
            "compliance_zone": "sovereign" if started else None,
            "start_time": at(1) if started else None,
            "end_time": at(2) if started else None,
            "shots_executed": 1000 if done else 0,
            "queue_time_ms": 800 if started else 0,
            "attempt": 1 if started else 0,
            "seed": 7 if started else None,
            "method": "automatic" if started else None,
        },
        "governance_record": {
            "actor": "user:engineer@demo",
            "team": "team-q",
            "department": None,
            "project": "demo",
            "cost_center": "CC-1",
            "classification": "internal",
            "purpose": "research",
            "justification": "a first look",
            "policies_applied": ["access", "budget"],
            "policy_decisions": ["deny" if denied else "allow"],
            "decision_id": "0d2c3a0e-9f2c-4e8e-8a11-3d6f3b3e6c55",
            "policy_revision": "sha256:" + "ab" * 32,
            "policy_engine": "opa 1.19.1",
            "reasons": [{"code": "role_required", "message": "needs quantum-engineer"}] if denied else [],
        },
        "submission": {
            "submitted_at": at(0),
            "format": "QASM3",
            "compiler_version": "qiskit-2.6.2",
            "shots": 1000,
            "retention_days": 2555,
        },
        "cost": {"amount": "0.38", "currency": "USD", "rate_card": sha256(dumps(CARD)), "lines": lines}
        if done
        else None,
        "history": [{"seq": 0, "state": "DENIED" if denied else "QUEUED", "at": at(0)}]
        + (
            [{"seq": 1, "state": "EXECUTING", "at": at(1)}, {"seq": 2, "state": "SEALING", "at": at(2)}]
            if started
            else []
        ),
        "route": [
            {"backend": "aer-1", "verdict": "chosen", "reason": "cheapest"},
            {"backend": "aer-2", "verdict": "excluded", "reason": "zone"},
        ]
        if started
        else [],
        "environment": {"qiskit": "2.6.2", "qiskit-aer": "0.18.2"} if started else {},
        "artefacts": [
            {
                "name": name,
                "media_type": "application/json",
                "sha256": sha256(content),
                "size": len(content),
                "carried": carried[name],
                "source": "observed",
            }
            for name, content in contents.items()
        ],
        "provenance": {"execution_metadata.start_time": "observed", "cost": "recomputed"},
        "gaps": [{"field": "execution_metadata.region", "reason": "the backend does not say"}],
    }
    return members, {name: content for name, content in contents.items() if carried[name]}


class Plane:
    """Keys made at `T0` and a log of `before` + 1 + `after` entries for each bundle."""

    def __init__(self, folder: Path, *, external: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        sealer_keys.create_sealer_keys(folder / "sealer")
        self.keys = sealer_keys.load_sealer_keys(folder / "sealer")
        self.origin = "qcos.example/plane-1"
        self.authorities: list[tuple[timestamp.Operator, tsa.TsaKeys]] = []
        for operator in ("self", "external") if external else ("self",):
            start = T0 - timedelta(days=1)
            tsa.create_tsa_keys(folder / operator, now=start, name=f"{operator} clock")
            self.authorities.append((operator, tsa.load_tsa_keys(folder / operator)))
        self._serial = 0

    def stamp(self, data: bytes, seconds: float = 4) -> list[tuple[timestamp.Operator, bytes]]:
        """A token of each authority over the bytes."""
        digest, made = hashlib.sha256(data).digest(), []
        for operator, authority in self.authorities:
            self._serial += 1
            asked = timestamp.request(digest, nonce=self._serial)
            reply = tsa.issue(authority, asked, now=T0 + timedelta(seconds=seconds), serial=self._serial)
            made.append((operator, timestamp.token_of(reply, digest=digest, nonce=self._serial)))
        return made

    def seal(
        self,
        members: dict[str, Any],
        contents: dict[str, bytes],
        *,
        stamped_s: float = 4,
        recorded_s: float = 3,
        tenant: str | None = None,
        stamps: Callable[[list[bytes]], list[tuple[timestamp.Operator, bytes]]] | None = None,
    ) -> bytes:
        """The bundle file of a record, signed, sealed between other entries, and stamped."""
        predicate = msgspec.convert(members, Predicate)
        statement = bundle.statement_bytes(predicate)
        level = predicate.evidence_level
        evidence = chain.Evidence(bundle_id=predicate.bundle_id, level=level, statement=statement, salt=SALT)
        pending = chain.Pending(
            entry_id="5f0c7b52-0a52-4c0c-8a4f-6d8d6c9e1c01",
            tenant=tenant or predicate.scope.tenant,
            kind="job:outcome:recorded",
            actor="a-0123456789abcdef",
            time=T0 + timedelta(seconds=recorded_s),
            body={"job_id": predicate.job_id},
        )
        leaf = chain.leaf_bytes(
            chain.bind(pending, evidence), index=5, tenant_index=0, tenant_prev=None, prev_checkpoint=None
        )
        hashes_ = [merkle.leaf_hash(b"other %d" % at) for at in range(5)] + [merkle.leaf_hash(leaf)]
        hashes_ += [merkle.leaf_hash(b"later %d" % at) for at in range(5)]
        nodes = {(lv, ix): found for lv, ix, found in _nodes(hashes_)}
        path = merkle.inclusion_proof(5, len(hashes_), lambda lv, ix: nodes[lv, ix])
        note = checkpoint.sign(
            self.origin,
            len(hashes_),
            merkle.root(hashes_),
            ed25519=self.keys.log_ed25519,
            mldsa65=self.keys.log_mldsa65,
        )
        pae = bundle.pae(statement)
        qcos = None if level == "sealed" else self.keys.evidence_mldsa65.sign(pae)
        ecdsa = None
        if level == "full":
            ecdsa = self.keys.evidence_p256.sign(pae)
        targets = [qcos, ecdsa] if qcos and ecdsa else [note]
        tokens = stamps(targets) if stamps else [t for data in targets for t in self.stamp(data, stamped_s)]
        return bundle.assemble(
            predicate,
            signatures=bundle.Signatures(
                qcos_signature=qcos,
                ecdsa_p256_signature=ecdsa,
                timestamp_authority=tuple(bundle.Stamp(operator=by, token=token) for by, token in tokens),
            ),
            proof=bundle.Proof(leaf=leaf, path=tuple(path), checkpoint=note.decode(), statement_salt=SALT),
            contents=contents,
        )

    def bundle(self, kind: str) -> bytes:
        """An honest bundle of one kind."""
        return self.seal(*record(kind))

    def trust(self, **changes: Any) -> bytes:
        """The trust file of this plane, with some of its members changed."""
        public = [
            msgspec.convert(
                {
                    "id": f"{key.purpose}-{key.alg}",
                    "alg": key.alg,
                    "public": key.public,
                    "valid_from": at(-60),
                    "valid_until": None,
                },
                trust.TrustedKey,
            )
            for key in sealer_keys.published(self.keys)
        ]
        made = trust.trust_file(
            version=1,
            issued_at=T0 + timedelta(days=1),
            expires=T0 + timedelta(days=365),
            scope=trust.TrustScope(profile="dev", plane="plane-1", tenants=None),
            origin=self.origin,
            log=public[:2],
            evidence=public[2:],
            tsa=[
                trust.TrustedAuthority(
                    operator=operator,
                    name=f"{operator} clock",
                    certificates=authority.chain,
                    valid_from=at(-86400),
                    valid_until=None,
                )
                for operator, authority in self.authorities
            ],
        )
        return dumps(json.loads(made) | changes)

    @staticmethod
    def judge_token(trust_file: bytes, operator: str) -> Callable[[bytes], bool]:
        """Whether a token, changed somewhere, still stamps what the one it came from stamps."""
        found = (known.by for known in trust.parse_trust(trust_file).authorities)
        authority = next(by for by in found if by.operator == operator)
        wanted: list[bytes] = []

        def accepts(der: bytes) -> bool:
            try:
                token = timestamp.parse(der)
                if not wanted:
                    wanted.append(timestamp.read(token).imprint)
                if not authority.signed(token):
                    return False
                authority.check(token, wanted[0])
            except TokenInvalid:
                return False
            return True

        return accepts


def artefact(members: dict[str, Any], name: str, content: bytes) -> None:
    """Make the record tell the truth about another content of an artefact."""
    members["artefacts"] = [
        part | {"sha256": sha256(content), "size": len(content)} if part["name"] == name else part
        for part in members["artefacts"]
    ]
    if name in ("spec", "result"):
        members["input_hash" if name == "spec" else "output_hash"] = sha256(content)
    assert msgspec.convert(members["artefacts"], list[Artefact])


def _nodes(leaves: list[bytes]) -> list[merkle.Node]:
    edge, made = merkle.Edge(), []
    for found in leaves:
        made += edge.append(found)
    return made
