# SPDX-License-Identifier: Apache-2.0
"""Keys and envelopes for tests, made apart from the product's own signer: JWS by hand, COSE by cbor2."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey

from ledger.asker import Algorithm, AskerKey

COSE = {"Ed25519": -19, "ML-DSA-44": -48, "ML-DSA-65": -49, "ML-DSA-87": -50}
PRIVATE: dict[str, Any] = {
    "Ed25519": Ed25519PrivateKey,
    "ML-DSA-44": MLDSA44PrivateKey,
    "ML-DSA-65": MLDSA65PrivateKey,
    "ML-DSA-87": MLDSA87PrivateKey,
}
ALGORITHMS: tuple[Algorithm, ...] = ("Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87")


@functools.cache
def private(alg: Algorithm, seed: int = 1) -> Any:
    """The same key for the same seed."""
    octets = bytes([seed]) * 32
    kind = PRIVATE[alg]
    return kind.from_private_bytes(octets) if alg == "Ed25519" else kind.from_seed_bytes(octets)


def public(alg: Algorithm, seed: int = 1) -> AskerKey:
    """Its public half."""
    return AskerKey(alg, private(alg, seed).public_key().public_bytes_raw())


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """A payload that is good at the second 1000."""
    said = {
        "aud": "urn:qcos:plane:plane-1:demo",
        "jti": "0123456789abcdef",
        "iat": 1000,
        "exp": 1060,
        "kind": "submit",
        "body": {"spec": {"execution": {"shots": 10}}},
    }
    return {name: value for name, value in (said | changes).items() if value is not None}


def jws(payload: bytes, alg: Algorithm = "Ed25519", *, seed: int = 1, **changes: Any) -> bytes:
    """A JWS; `changes` are to its header, None takes a member away."""
    header = {"alg": alg, "kid": public(alg, seed).id, "typ": "vnd.qcos.envelope+jws"} | changes
    written = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    covered = f"{b64(written)}.{b64(payload)}".encode()
    return covered + b"." + b64(private(alg, seed).sign(covered)).encode()


def cose(
    payload: bytes,
    alg: Algorithm = "Ed25519",
    *,
    seed: int = 1,
    header: dict[Any, Any] | None = None,
    beside: dict[Any, Any] | None = None,
) -> bytes:
    """A COSE_Sign1."""
    said = {1: COSE[alg], 4: public(alg, seed).id.encode(), 16: "application/vnd.qcos.envelope+cose"} | (header or {})
    protected = cbor2.dumps({name: value for name, value in said.items() if value is not None}, canonical=True)
    covered = cbor2.dumps(["Signature1", protected, b"", payload], canonical=True)
    signature = private(alg, seed).sign(covered)
    return cbor2.dumps(cbor2.CBORTag(18, [protected, beside or {}, payload, signature]), canonical=True)
