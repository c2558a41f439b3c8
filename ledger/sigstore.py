# SPDX-License-Identifier: Apache-2.0
"""Evidence in Sigstore's forms: a bundle (v0.3) of one signature, and a trust file as a `trusted_root.json`.

Enters: what the log has of one signature, or a trust file. Leaves: canonical JSON, in the fields of Sigstore's protobuf
specifications. A bundle holds a DSSE envelope with exactly one signature, so a `full` job has two, over one payload.
Its log entry is the signature's own leaf (`ledger.rekor`); the checkpoint stands there as it was signed: a stock
verifier looks up the line whose key hash begins its log id, and passes over the other. Pure.
"""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import load_der_x509_certificate
from cryptography.x509.oid import NameOID
from msgspec import Struct

from ledger import keys
from ledger.canonical import dumps
from ledger.checkpoint import ED25519_TYPE, ML_DSA_65_TYPE, full_key_hash, parse
from ledger.predicate import PAYLOAD_TYPE
from ledger.rekor import ML_DSA_65, P256, HashedRekord, leaf_of
from ledger.timestamp import granted
from ledger.trust import Trust, TrustedAuthority, TrustedKey

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_DETAILS = {keys.ED25519: "PKIX_ED25519", keys.ML_DSA_65: ML_DSA_65, keys.ECDSA_P256: P256}


class Logged(Struct, frozen=True, kw_only=True):
    """One signature over a statement, and where its record stands; `hint` names the key in a trust file."""

    statement: bytes
    record: HashedRekord
    hint: str
    index: int
    path: tuple[bytes, ...]
    note: bytes
    log_id: bytes
    tokens: tuple[bytes, ...]


def log_id(origin: str, public: bytes) -> bytes:
    """How Sigstore names a log by one of its keys (SPKI): all of the hash that begins that key's signature line."""
    key = keys.parse_spki(public)
    kind = ED25519_TYPE if isinstance(key, Ed25519PublicKey) else ML_DSA_65_TYPE
    return full_key_hash(origin, kind, key.public_bytes_raw())  # type: ignore[union-attr] # no P-256 key signs a note


def bundle(one: Logged) -> bytes:
    """The bundle's bytes."""
    head, index = parse(one.note), str(one.index)
    proof = {
        "logIndex": index,
        "treeSize": str(head.size),
        "rootHash": _b64(head.root),
        "hashes": [_b64(found) for found in one.path],
        "checkpoint": {"envelope": one.note.decode()},
    }
    entry = {
        "logIndex": index,
        "logId": {"keyId": _b64(one.log_id)},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
        "inclusionProof": proof,
        "canonicalizedBody": _b64(leaf_of(one.record)),
    }
    return dumps(
        {
            "mediaType": BUNDLE,
            "dsseEnvelope": {
                "payload": _b64(one.statement),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": _b64(one.record.signature), "keyid": one.hint}],
            },
            "verificationMaterial": {
                "publicKey": {"hint": one.hint},
                "tlogEntries": [entry],
                "timestampVerificationData": {
                    "rfc3161Timestamps": [{"signedTimestamp": _b64(granted(token))} for token in one.tokens]
                },
            },
        }
    )


def trusted_root(trust: Trust) -> bytes:
    """{`trustedRoot`, `keys`}: the logs and authorities, and each evidence key by the hint that bundles give.

    Sigstore's form can't say that a key is revoked from a moment on. So what is revoked ends there where it has a
    window, and an evidence key, which has none, is left out.
    """
    file = trust.file
    until = {entry.id: entry.at for entry in file.revoked}
    origins = (file.log.origin, *file.log.earlier)
    root = {
        "mediaType": TRUSTED_ROOT,
        "tlogs": [_log(origin, key, until) for origin in origins for key in file.log.keys],
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": [_authority(one, until) for one in file.tsa],
    }
    hints = {key.id: _b64(key.public) for key in file.evidence if key.id not in until}
    return dumps({"trustedRoot": root, "keys": hints})


def _log(origin: str, key: TrustedKey, until: dict[str, str]) -> dict[str, Any]:
    named = {"keyId": _b64(log_id(origin, key.public))}
    window = _window(key.valid_from, key.valid_until, until.get(key.id))
    return {
        "baseUrl": f"https://{origin}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": _b64(key.public), "keyDetails": _DETAILS[key.alg], "validFor": window},
        "logId": named,
        "checkpointKeyId": named,
    }


def _authority(one: TrustedAuthority, until: dict[str, str]) -> dict[str, Any]:
    subject = load_der_x509_certificate(one.certificates[0]).subject
    names = {
        "organization": subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME),
        "commonName": subject.get_attributes_for_oid(NameOID.COMMON_NAME),
    }
    return {
        # Both, for Sigstore's Python client demands both.
        "subject": {name: str(found[0].value) if found else "" for name, found in names.items()},
        "certChain": {"certificates": [{"rawBytes": _b64(certificate)} for certificate in one.certificates]},
        "validFor": _window(one.valid_from, one.valid_until, until.get(one.name)),
    }


def _window(start: str, *ends: str | None) -> dict[str, str]:
    told = [end for end in ends if end is not None]
    return {"start": start, "end": min(told)} if told else {"start": start}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
