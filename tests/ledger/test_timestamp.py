# SPDX-License-Identifier: Apache-2.0
"""Tokens of our authority and of openssl's, read by two verifiers (G4, decision 3)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from ledger import cms, timestamp, tsa
from ledger.errors import TimeUnavailable, TokenInvalid
from ledger.timestamp import Authority
from tests.ledger.plane import T0
from tests.outside_time import make_authority, needs_openssl, openssl

MESSAGE = b"what was signed"
DIGEST = hashlib.sha256(MESSAGE).digest()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tsa.TsaKeys:
    room = tmp_path_factory.mktemp("own")
    tsa.create_tsa_keys(room, now=T0)
    return tsa.load_tsa_keys(room)


def answer(keys: tsa.TsaKeys, request: bytes, serial: int = 9) -> bytes:
    return tsa.issue(keys, request, now=T0, serial=serial)


def test_a_token_says_what_was_asked_at_whole_seconds(own: tsa.TsaKeys) -> None:
    der = timestamp.token_of(answer(own, timestamp.request(DIGEST, 77)), digest=DIGEST, nonce=77)
    token = timestamp.parse(der)
    said = timestamp.read(token)
    assert (said.imprint, said.algorithm, said.nonce) == (DIGEST, "sha256", 77)
    assert said.generated_at == T0.replace(microsecond=0)
    authority = Authority("self", "own", own.chain)
    assert authority.signed(token)
    authority.check(token, DIGEST)
    with pytest.raises(TokenInvalid):
        authority.check(token, hashlib.sha256(b"another").digest())


def test_an_answer_to_another_question_is_refused(own: tsa.TsaKeys) -> None:
    reply = answer(own, timestamp.request(DIGEST, 77))
    with pytest.raises(TokenInvalid, match="nonce"):
        timestamp.token_of(reply, digest=DIGEST, nonce=78)
    with pytest.raises(TokenInvalid, match="digest"):
        timestamp.token_of(reply, digest=bytes(32), nonce=77)
    with pytest.raises(TimeUnavailable, match="TimeStampReq"):
        timestamp.token_of(answer(own, b"garbage"), digest=DIGEST, nonce=77)
    for garbage in (b"", b"<html>", reply[:-1], reply + b"\0"):
        with pytest.raises((TokenInvalid, TimeUnavailable)):
            timestamp.token_of(garbage, digest=DIGEST, nonce=77)


def test_another_authority_of_the_same_name_is_not_this_one(own: tsa.TsaKeys, tmp_path: Path) -> None:
    tsa.create_tsa_keys(tmp_path, now=T0)
    other = Authority("self", "own", tsa.load_chain(tmp_path))
    token = timestamp.parse(timestamp.token_of(answer(own, timestamp.request(DIGEST, 7)), digest=DIGEST, nonce=7))
    assert not other.signed(token)
    with pytest.raises(TokenInvalid):
        other.check(token, DIGEST)


def test_own_tokens_have_one_form_of_their_signature(own: tsa.TsaKeys) -> None:
    """ECDSA is malleable: s and n - s both verify. Of ours only the lower one is taken."""
    der = timestamp.token_of(answer(own, timestamp.request(DIGEST, 7)), digest=DIGEST, nonce=7)
    token = timestamp.parse(der)
    (signer,) = token.content.signer_infos.as_list()
    r, s = decode_dss_signature(signer.signature)
    signer.signature = encode_dss_signature(r, timestamp.P256_ORDER - s)
    token.content.signer_infos = asn1.SetOf([signer])
    with pytest.raises(TokenInvalid, match="upper half"):
        Authority("self", "own", own.chain).check(token, DIGEST)
    Authority("external", "own", own.chain).check(token, DIGEST)  # others may write either


@needs_openssl
def test_openssl_accepts_our_token(own: tsa.TsaKeys, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    (tmp_path / "reply").write_bytes(answer(own, timestamp.request(DIGEST, 2**63)))
    root = x509.load_der_x509_certificate(own.chain[-1]).public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    at = str(int(T0.timestamp()) + 60)
    said = openssl(
        "ts", "-verify", "-attime", at, "-data", tmp_path / "data", "-in", tmp_path / "reply",
        "-CAfile", tmp_path / "root.pem",
    )  # fmt: skip
    assert "Verification: OK" in said


@needs_openssl
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_our_authority_answers_openssl(own: tsa.TsaKeys, tmp_path: Path, digest: str) -> None:
    (tmp_path / "data").write_bytes(MESSAGE)
    openssl("ts", "-query", "-data", tmp_path / "data", f"-{digest}", "-cert", "-out", tmp_path / "query")
    (tmp_path / "reply").write_bytes(answer(own, (tmp_path / "query").read_bytes()))
    root = x509.load_der_x509_certificate(own.chain[-1]).public_bytes(Encoding.PEM)
    (tmp_path / "root.pem").write_bytes(root)
    at = str(int(T0.timestamp()) + 60)
    said = openssl(
        "ts", "-verify", "-attime", at, "-queryfile", tmp_path / "query", "-in", tmp_path / "reply",
        "-CAfile", tmp_path / "root.pem",
    )  # fmt: skip
    assert "Verification: OK" in said


@needs_openssl
@pytest.mark.parametrize("key", ["ec:P-256", "rsa"])
def test_a_token_of_openssl_is_verified_and_every_bit_of_it_counts(tmp_path: Path, key: str) -> None:
    room = tmp_path
    make_authority(room, key)
    (room / "query").write_bytes(timestamp.request(DIGEST, 4711))
    openssl("ts", "-reply", "-config", room / "c", "-queryfile", room / "query", "-out", room / "reply")
    der = timestamp.token_of((room / "reply").read_bytes(), digest=DIGEST, nonce=4711)
    chain = [x509.load_pem_x509_certificate((room / f"{name}.pem").read_bytes()) for name in ("leaf", "root")]
    authority = Authority("external", "openssl", [part.public_bytes(Encoding.DER) for part in chain])
    token = timestamp.parse(der)
    assert authority.signed(token)
    authority.check(token, DIGEST)
    for bit in range(len(der) * 8):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TokenInvalid):
            authority.check(timestamp.parse(bytes(changed)), DIGEST)


def test_a_certificate_for_another_purpose_stamps_nothing(own: tsa.TsaKeys) -> None:
    token = timestamp.parse(timestamp.token_of(answer(own, timestamp.request(DIGEST, 7)), digest=DIGEST, nonce=7))
    with pytest.raises(TokenInvalid):
        Authority("self", "root alone", own.chain[1:]).check(token, DIGEST)
    with pytest.raises(TokenInvalid):
        Authority("self", "nothing", ())


def test_der_that_is_not_der_is_refused() -> None:
    with pytest.raises(TokenInvalid):
        cms.decode(cms.Request, b"\x30\x81\x03\x02\x01\x01", what="request")


def test_a_chain_is_judged_once_and_each_token_by_itself(own: tsa.TsaKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """rfc3161-client sees an authority's first good token, and again each one that isn't plainly good."""
    asked: list[bytes] = []
    known = Authority("self", "own", own.chain)
    judge = known._verifier.verify

    def verify(response: Any, digest: bytes) -> bool:
        asked.append(digest)
        return judge(response, digest)

    monkeypatch.setattr(known._verifier, "verify", verify)
    token, other = (
        timestamp.parse(timestamp.token_of(answer(own, timestamp.request(DIGEST, n), serial=n), digest=DIGEST, nonce=n))
        for n in (7, 8)
    )
    wrong = hashlib.sha256(b"something else").digest()
    with pytest.raises(TokenInvalid):
        known.check(token, wrong)
    known.check(token, DIGEST)
    known.check(other, DIGEST)
    assert asked == [wrong, DIGEST]
    with pytest.raises(TokenInvalid):
        known.check(other, wrong)
    signer = replace(
        token.content.signer_infos.as_list()[0], signature=other.content.signer_infos.as_list()[0].signature
    )
    forged = replace(token, content=replace(token.content, signer_infos=asn1.SetOf([signer])))
    with pytest.raises(TokenInvalid):
        known.check(forged, DIGEST)
    assert asked == [wrong, DIGEST, wrong, DIGEST]
