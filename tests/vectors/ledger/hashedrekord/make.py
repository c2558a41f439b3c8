# SPDX-License-Identifier: Apache-2.0
"""Makes the vectors of this folder again, with new keys: `python -m tests.vectors.ledger.hashedrekord.make`.

A vector is {`about`, `leaf` (base64), `payload` (base64), `payload_type`, `error`}: `error` null for a good one, else
`parse:CODE` or `verify:CODE`. Leaves are written with `json`, apart from the code under test. The private keys are
thrown away.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HERE = Path(__file__).parent
TYPE = "application/vnd.in-toto+json"
PAYLOAD = (
    b'{"_type":"https://in-toto.io/Statement/v1","predicate":{},"predicateType":"urn:qcos:evidence:v1","subject":[]}'
)
PAE = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(PAYLOAD), PAYLOAD)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256, ML_DSA_65 = "PKIX_ECDSA_P256_SHA_256", "ML_DSA_65"
Vector = tuple[str, str, bytes, str | None]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def ecdsa(key: ec.EllipticCurvePrivateKey, data: bytes, *, low: bool = True) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return encode_dss_signature(r, min(s, ORDER - s) if low else max(s, ORDER - s))


def body(details: str, public: bytes, signature: bytes, signed: bytes = PAE) -> dict[str, Any]:
    verifier = {"keyDetails": details, "publicKey": {"rawBytes": b64(public)}}
    data = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(signed).digest())}
    record = {"data": data, "signature": {"content": b64(signature), "verifier": verifier}}
    return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}}


def written(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()


def vectors() -> Iterator[Vector]:
    """(name, about, leaf, error) of each."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    wide = ec.generate_private_key(ec.SECP384R1())
    post, post_other = MLDSA65PrivateKey.generate(), MLDSA65PrivateKey.generate()
    good, good_post = body(P256, spki(key), ecdsa(key, PAE)), body(ML_DSA_65, spki(post), post.sign(PAE))
    yield "good_p256", "ECDSA P-256 over the PAE", written(good), None
    yield "good_mldsa65", "ML-DSA-65 over the PAE, empty context", written(good_post), None

    payload = body(P256, spki(key), ecdsa(key, PAYLOAD), PAYLOAD)
    unbound = "verify:evidence_unbound"
    yield "wrong_digest", "digest and signature over the payload, not its PAE", written(payload), unbound
    swapped = body(P256, spki(other), ecdsa(key, PAE))
    yield "swapped_key", "another key than the signature's", written(swapped), unbound
    swapped = body(ML_DSA_65, spki(post_other), post.sign(PAE))
    yield "swapped_key_mldsa65", "another ML-DSA-65 key than the signature's", written(swapped), unbound
    context = body(ML_DSA_65, spki(post), post.sign(PAE, b"context"))
    yield "mldsa65_with_context", "ML-DSA-65 with a context", written(context), unbound
    hashed = body(ML_DSA_65, spki(post), post.sign(hashlib.sha256(PAE).digest()))
    yield "mldsa65_over_digest", "ML-DSA-65 over the digest of the PAE", written(hashed), unbound

    invalid, uncanonical = "parse:leaf_invalid", "parse:not_canonical"
    high = body(P256, spki(key), ecdsa(key, PAE, low=False))
    yield "high_s", "the other signature, with s in the upper half", written(high), invalid
    curve = body(P256, spki(wide), wide.sign(PAE, ec.ECDSA(hashes.SHA256())))
    yield "wrong_curve", "a P-384 key", written(curve), invalid
    yield "wrong_key_details", "a P-256 key called ML_DSA_65", _with(good, "keyDetails", ML_DSA_65), invalid
    yield "other_key_details", "a P-256 key called PKIX_ED25519", _with(good, "keyDetails", "PKIX_ED25519"), invalid
    for name, about, change in _EDITS:
        tree = copy.deepcopy(good)
        change(tree)
        yield name, about, written(tree), invalid
    yield "spaces", "JSON with spaces", json.dumps(good, sort_keys=True).encode(), uncanonical
    order = json.dumps(dict(reversed(good.items())), separators=(",", ":")).encode()
    yield "members_unsorted", "members in another order", order, uncanonical
    twice = written(good).replace(b'"kind":', b'"kind":"hashedrekord","kind":')
    yield "member_twice", "a member twice", twice, uncanonical
    digest = good["spec"]["hashedRekordV002"]["data"]["digest"]
    spare = digest[:-2] + chr(ord(digest[-2]) + 1) + "="  # 32 bytes leave 2 spare bits; the next letter sets one
    bent = written(good).replace(digest.encode(), spare.encode())
    yield "base64_spare_bits", "base64 whose spare bits are set", bent, uncanonical


def _with(tree: dict[str, Any], member: str, value: str) -> bytes:
    tree = copy.deepcopy(tree)
    tree["spec"]["hashedRekordV002"]["signature"]["verifier"][member] = value
    return written(tree)


def _record(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tree["spec"]["hashedRekordV002"]
    return found


_EDITS: tuple[tuple[str, str, Callable[[dict[str, Any]], Any]], ...] = (
    ("extra_member", "a member that is not specified", lambda t: t.update(type="entry")),
    ("extra_certificate", "a certificate beside the key", lambda t: _verifier(t).update(x509Certificate={})),
    ("missing_digest", "no digest", lambda t: _record(t)["data"].pop("digest")),
    ("missing_verifier", "no verifier", lambda t: _record(t)["signature"].pop("verifier")),
    ("missing_key_details", "no key details", lambda t: _verifier(t).pop("keyDetails")),
    ("null_signature", "a null signature", lambda t: _record(t)["signature"].update(content=None)),
    ("short_digest", "a digest of 20 bytes", lambda t: _record(t)["data"].update(digest=b64(bytes(20)))),
    ("other_digest_algorithm", "SHA2_512", lambda t: _record(t)["data"].update(algorithm="SHA2_512")),
    ("other_version", "version 0.0.1", lambda t: t.update(apiVersion="0.0.1")),
    ("other_kind", "kind dsse", lambda t: t.update(kind="dsse")),
    ("key_is_pem", "the key as PEM", lambda t: _verifier(t)["publicKey"].update(rawBytes=b64(b"-----BEGIN"))),
    ("signature_not_der", "r and s side by side", lambda t: _record(t)["signature"].update(content=b64(bytes(64)))),
)


def _verifier(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _record(tree)["signature"]["verifier"]
    return found


def main() -> None:
    """Write every vector."""
    for name, about, leaf, error in vectors():
        said = {"about": about, "error": error, "leaf": b64(leaf), "payload": b64(PAYLOAD), "payload_type": TYPE}
        (HERE / f"{name}.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
