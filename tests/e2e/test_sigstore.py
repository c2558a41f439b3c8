# SPDX-License-Identifier: Apache-2.0
"""Evidence as Sigstore bundles: what is in them, taken apart with nothing of ours but hashes; and who gets none (G3).

That stock verifiers accept them, and refuse changed copies, is for tests/verifiers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from rfc3161_client import decode_timestamp_response

from ledger import merkle
from tests.e2e.plane import Plane, bell
from tests.e2e.test_tampering import edited, superuser

BODY = {"sigstore": "PKIX_ECDSA_P256_SHA_256", "sigstore-mldsa": "ML_DSA_65"}


def form(plane: Plane, job_id: str, name: str) -> Any:
    return plane.http("GET", f"/api/v1/jobs/{job_id}/evidence?format={name}")


def trusted(plane: Plane) -> Any:
    return plane.http("GET", "/api/v1/trust?format=sigstore").json


def unpacked(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def check(bundle: Any, trust: Any, details: str) -> bytes:
    """Every part of a bundle proves what it is there for; the payload."""
    envelope, material = bundle["dsseEnvelope"], bundle["verificationMaterial"]
    payload, (signature,) = unpacked(envelope["payload"]), [unpacked(one["sig"]) for one in envelope["signatures"]]
    pae = b"DSSEv1 %d %s %d %s" % (
        len(envelope["payloadType"]),
        envelope["payloadType"].encode(),
        len(payload),
        payload,
    )
    public = unpacked(trust["keys"][material["publicKey"]["hint"]])
    key: Any = load_der_public_key(public)
    key.verify(signature, pae, ec.ECDSA(SHA256())) if isinstance(key, ec.EllipticCurvePublicKey) else key.verify(
        signature, pae
    )
    (entry,) = material["tlogEntries"]
    leaf, proof = unpacked(entry["canonicalizedBody"]), entry["inclusionProof"]
    record = json.loads(leaf)["spec"]["hashedRekordV002"]
    assert unpacked(record["data"]["digest"]) == hashlib.sha256(pae).digest()
    assert unpacked(record["signature"]["content"]) == signature
    verifier = record["signature"]["verifier"]
    assert (verifier["keyDetails"], unpacked(verifier["publicKey"]["rawBytes"])) == (details, public)
    origin, size, root, _, *lines = proof["checkpoint"]["envelope"].split("\n")
    assert (size, root) == (proof["treeSize"], proof["rootHash"])
    merkle.verify_inclusion(
        index=int(entry["logIndex"]),
        size=int(size),
        leaf=merkle.leaf_hash(leaf),
        path=[unpacked(one) for one in proof["hashes"]],
        root=unpacked(root),
    )
    (log,) = [one for one in trust["trustedRoot"]["tlogs"] if one["logId"] == entry["logId"]]
    hint, name = unpacked(log["logId"]["keyId"])[:4], log["baseUrl"].removeprefix("https://")
    (line,) = [line for line in lines if line and unpacked(line.split(" ")[2])[:4] == hint]
    assert (name, line.split(" ")[1]) == (origin, origin)
    log_key: Any = load_der_public_key(unpacked(log["publicKey"]["rawBytes"]))
    log_key.verify(unpacked(line.split(" ")[2])[4:], f"{origin}\n{size}\n{root}\n".encode())
    (token,) = material["timestampVerificationData"]["rfc3161Timestamps"]
    stamped = decode_timestamp_response(unpacked(token["signedTimestamp"])).tst_info
    assert stamped.message_imprint.message == hashlib.sha256(signature).digest()
    return payload


def test_both_bundles_of_a_full_job_are_over_the_statement_that_the_bundle_file_means(plane: Plane) -> None:
    job = plane.run(bell())["job_id"]
    trust = trusted(plane)
    payloads = {check(form(plane, job, name).json, trust, details) for name, details in BODY.items()}
    (payload,) = payloads
    file = form(plane, job, "bundle").json
    for beside in ("signatures", "proof", "contents"):
        del file[beside]
    assert json.loads(payload)["predicate"] == file
    first, again = form(plane, job, "sigstore"), form(plane, job, "sigstore")
    assert first.body == again.body
    assert first.headers["content-type"] == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_standard_evidence_has_the_twin_alone(plane: Plane) -> None:
    job = plane.run(bell(evidence_requirements__level="standard"))["job_id"]
    check(form(plane, job, "sigstore-mldsa").json, trusted(plane), BODY["sigstore-mldsa"])
    refused = form(plane, job, "sigstore")
    assert (refused.status, refused.code) == (409, "form_unsigned")
    assert "level standard" in refused.json["detail"]


@pytest.mark.parametrize("name", BODY)
def test_evidence_that_is_not_signed_has_neither(plane: Plane, name: str) -> None:
    job = plane.submit(bell(governance__purpose="production-run"), "user").json["job_id"]
    plane.cli(
        "evidence", "get", job, "-o", str(plane.folder / "denied.json"), user="engineer"
    )  # which waits until it is sealed
    refused = form(plane, job, name)
    assert (refused.status, refused.code) == (409, "form_unsigned")
    ran = plane.cli("evidence", "get", job, "-o", str(plane.folder / "no.json"), "--format", name, user="engineer")
    assert ran.code == 1
    assert ran.err.startswith("form_unsigned: ")
    assert not (plane.folder / "no.json").exists()


def test_a_job_from_before_signatures_were_logged_says_so(stranger: Plane) -> None:
    job = stranger.run(bell())["job_id"]
    with superuser(stranger) as conn:
        row = conn.execute("SELECT max(index) AS last FROM ledger.entry WHERE kind LIKE 'evidence:%'").fetchone()
    assert row is not None
    change = """UPDATE ledger.entry new SET kind = 'job:before:it' FROM ledger.entry old
                WHERE new.index = old.index AND old.index = %s RETURNING old.index, old.kind"""
    undo = "UPDATE ledger.entry SET kind = %(kind)s WHERE index = %(index)s"
    with edited(stranger, change, undo, row["last"]):
        for name in BODY:
            refused = form(stranger, job, name)
            assert (refused.status, refused.code) == (409, "form_unlogged")
    assert form(stranger, job, "sigstore").status == 200


def test_trust_is_exported_in_sigstores_form(plane: Plane) -> None:
    file = plane.folder / "trusted.json"
    assert plane.cli("trust", "export", "-o", str(file), "--format", "sigstore", user="engineer").code == 0
    found = json.loads(file.read_bytes())
    assert found.keys() == {"trustedRoot", "keys"}
    assert found == trusted(plane)
    own = plane.http("GET", "/api/v1/trust").json
    assert found["keys"] == {key["id"]: key["public"] for key in own["evidence"]}
    root = found["trustedRoot"]
    assert [log["publicKey"]["rawBytes"] for log in root["tlogs"]] == [key["public"] for key in own["log"]["keys"]]
    assert {log["publicKey"]["keyDetails"] for log in root["tlogs"]} == {"PKIX_ED25519", "ML_DSA_65"}
    chains = [[one["rawBytes"] for one in by["certChain"]["certificates"]] for by in root["timestampAuthorities"]]
    assert chains == [by["certificates"] for by in own["tsa"]]
