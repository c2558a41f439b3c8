# SPDX-License-Identifier: Apache-2.0
"""Signed envelopes: both forms under each algorithm, and what is refused (S1, N13)."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import asker, cbor, envelope
from ledger.asker import Algorithm, Form
from ledger.errors import EnvelopeInvalid, KeyInvalid, NotCanonical
from tests.ledger.signing import ALGORITHMS, b64, claims, cose, jws, private, public

GOOD = json.dumps(claims()).encode()
AUD = "urn:qcos:plane:plane-1:demo"


def read(form: Form, data: bytes, alg: Algorithm = "Ed25519") -> envelope.Claims:
    """Parsed and verified under the tests' key."""
    parts = envelope.parse(form, data)
    assert (parts.alg, parts.key_id) == (alg, public(alg).id)
    asker.verify(public(alg), parts.covered, parts.signature)
    return envelope.claims(parts.payload)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_what_others_libraries_sign_is_read_in_both_forms(alg: Algorithm) -> None:
    for said in (read("jose", jws(GOOD, alg), alg), read("cose", cose(GOOD, alg), alg)):
        envelope.judge(said, aud=AUD, now_s=1000, leeway_s=0)
        assert json.loads(bytes(said.body)) == claims()["body"]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_what_the_client_makes_is_what_others_would_make(alg: Algorithm) -> None:
    sign, name = private(alg).sign, public(alg).id
    assert envelope.parse("jose", envelope.make("jose", alg, name, GOOD, sign)).payload == GOOD
    made = envelope.make("cose", alg, name, GOOD, sign)
    told = cbor2.loads(made)
    assert told.tag == 18
    assert cbor2.dumps(told, canonical=True) == made


def test_the_older_names_of_ed25519_mean_it_too() -> None:
    assert read("jose", jws(GOOD, alg="Ed25519", typ="vnd.qcos.envelope+jws", kid=public("Ed25519").id)).aud == AUD
    assert envelope.parse("jose", _jws_named("EdDSA")).alg == "Ed25519"
    assert envelope.parse("cose", cose(GOOD, header={1: -8})).alg == "Ed25519"


def _jws_named(name: str) -> bytes:
    header = {"alg": name, "kid": public("Ed25519").id, "typ": "vnd.qcos.envelope+jws"}
    covered = f"{b64(json.dumps(header).encode())}.{b64(GOOD)}".encode()
    return covered + b"." + b64(private("Ed25519").sign(covered)).encode()


def _twice(text: str) -> bytes:
    return jws(text.encode())


BAD_JOSE: dict[str, tuple[bytes, str]] = {
    "alg none": (_jws_named("none"), "an algorithm"),
    "HMAC with the public key": (_jws_named("HS256"), "an algorithm"),
    "ECDSA": (_jws_named("ES256"), "an algorithm"),
    "a key of its own": (jws(GOOD, jwk=public("Ed25519", 2).jwk()), "unknown field"),
    "a key elsewhere": (jws(GOOD, jku="https://example.org/keys"), "unknown field"),
    "crit": (jws(GOOD, crit=["exp"]), "unknown field"),
    "a payload that isn't encoded": (jws(GOOD, b64=False), "unknown field"),
    "a kid that is a path": (jws(GOOD, kid="../../keys/1"), "base64url"),
    "a kid that is no thumbprint": (jws(GOOD, kid="abcd"), "thumbprint"),
    "an access token's type": (jws(GOOD, typ="at+jwt"), "typ"),
    "no type": (jws(GOOD, typ=None), "typ"),
    "two parts": (jws(GOOD).rpartition(b".")[0], "three parts"),
    "an unprotected form": (json.dumps({"payload": b64(GOOD), "signatures": []}).encode(), "three parts"),
    "padding": (jws(GOOD) + b"=", "base64url"),
    "spaces around": (jws(GOOD) + b"\n", "base64url"),
    "a header that is too long": (jws(GOOD, typ="x" * 2000), "too long"),
    "a header twice": (
        b64(b'{"alg":"none","alg":"Ed25519"}').encode() + b"." + b64(GOOD).encode() + b".AA",
        "twice",
    ),
}
BAD_COSE: dict[str, tuple[bytes, str]] = {
    "an unprotected kid": (cose(GOOD, beside={4: b"x"}), "unprotected"),
    "no alg": (cose(GOOD, header={1: None}), "protected header"),
    "crit": (cose(GOOD, header={2: [1]}), "protected header"),
    "another type": (cose(GOOD, header={16: "application/cwt"}), "typ"),
    "an alg that is a word": (cose(GOOD, header={1: "EdDSA"}), "an algorithm"),
    "ECDSA": (cose(GOOD, header={1: -7}), "an algorithm"),
    "without its tag": (cbor2.dumps(cbor2.loads(cose(GOOD)).value), "COSE_Sign1"),
    "of many signers": (cbor2.dumps(cbor2.CBORTag(98, [b"", {}, GOOD, []])), "COSE_Sign1"),
    "detached": (cbor2.dumps(cbor2.CBORTag(18, [b"\xa0", {}, None, b""])), "simple value"),
    "a length without end": (b"\xd2\x9f\x40\xa0\x40\x40\xff", "without end"),
    "a long head": (b"\xd8\x12" + cose(GOOD)[1:], "shortest"),
    "a key twice": (cbor2.dumps(cbor2.CBORTag(18, [b"\xa2\x01\x32\x01\x32", {}, GOOD, b""])), "twice"),
    "something after it": (cose(GOOD) + b"\x00", "after the item"),
    "cut short": (cose(GOOD)[:-1], "cut short"),
    "nested without end": (b"\x81" * 5000, "nested"),
    "a promise of much": (b"\x9b\x00\x00\x00\xff\xff\xff\xff\xff", "cut short"),
}


@pytest.mark.parametrize("name", BAD_JOSE)
def test_what_is_no_jws_of_an_envelope_is_refused_with_its_reason(name: str) -> None:
    data, reason = BAD_JOSE[name]
    with pytest.raises(EnvelopeInvalid, match=reason):
        envelope.parse("jose", data)


@pytest.mark.parametrize("name", BAD_COSE)
def test_what_is_no_cose_of_an_envelope_is_refused_with_its_reason(name: str) -> None:
    data, reason = BAD_COSE[name]
    with pytest.raises(EnvelopeInvalid, match=reason):
        envelope.parse("cose", data)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[]", "payload"),
        (GOOD[:-1] + b', "kind": "hold"}', "twice"),
        (GOOD[:-1] + b', "admin": true}', "unknown field"),
        (GOOD.replace(b"1060", b"NaN"), "no number"),
        (GOOD.replace(b"1060", b"1060.5"), "payload"),
        (GOOD.replace(b"1060", b'"1060"'), "payload"),
        (GOOD.replace(b"0123456789abcdef", b"short"), "payload"),
        (GOOD.replace(b"submit", b"approve"), "payload"),
        (json.dumps(claims(jti=None)).encode(), "missing"),
        (json.dumps(claims(exp=None)).encode(), "missing"),
        (b"\xef\xbb\xbf" + GOOD, "payload"),
        (b"\xff", "payload"),
        (b"[" * 100_000, "payload"),
    ],
)
def test_a_payload_that_two_could_read_differently_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(EnvelopeInvalid, match=reason):
        envelope.claims(payload)


@pytest.mark.parametrize(
    ("changes", "now_s", "reason"),
    [
        ({"aud": "urn:qcos:plane:plane-1:other"}, 1000, "not for"),
        ({"aud": "urn:qcos:plane:plane-2:demo"}, 1000, "not for"),
        ({}, 1090, "expired"),
        ({}, 969, "ahead"),
        ({"exp": 1601}, 1000, "allowed"),
        ({"exp": 1000}, 1000, "allowed"),
        ({"exp": 900}, 1000, "allowed"),
    ],
)
def test_an_envelope_is_for_one_tenant_and_one_time(changes: dict[str, Any], now_s: float, reason: str) -> None:
    said = envelope.claims(json.dumps(claims(**changes)).encode())
    with pytest.raises(EnvelopeInvalid, match=reason):
        envelope.judge(said, aud=AUD, now_s=now_s, leeway_s=30)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_no_other_key_and_no_other_bytes_pass(alg: Algorithm) -> None:
    parts = envelope.parse("jose", jws(GOOD, alg))
    for key, covered, made in (
        (public(alg, 2), parts.covered, parts.signature),
        (public(alg), parts.covered + b"x", parts.signature),
        (public(alg), parts.covered, parts.signature[:-1]),
        (public(alg), parts.covered, parts.signature[:-1] + bytes([parts.signature[-1] ^ 1])),
    ):
        with pytest.raises(EnvelopeInvalid):
            asker.verify(key, covered, made)


def test_a_cose_signature_is_none_of_the_jws_over_the_same_payload() -> None:
    one, other = envelope.parse("jose", jws(GOOD)), envelope.parse("cose", cose(GOOD))
    with pytest.raises(EnvelopeInvalid):
        asker.verify(public("Ed25519"), other.covered, one.signature)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_key_has_one_name_however_it_is_written(alg: Algorithm) -> None:
    key = public(alg)
    kept = {2: b"mine", 3: -19 if alg == "Ed25519" else {"ML-DSA-44": -48, "ML-DSA-65": -49, "ML-DSA-87": -50}[alg]}
    as_cose = {1: 1, -1: 6, -2: key.public} | kept if alg == "Ed25519" else {1: 7, -1: key.public} | kept
    assert asker.from_jwk(key.jwk() | {"use": "sig", "kid": "mine"}) == key
    assert asker.from_cose(cbor.decode(cbor2.dumps(as_cose, canonical=True))) == key


def test_an_ed25519_thumbprint_is_that_of_rfc_8037() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert asker.from_jwk(jwk).id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("jwk", "reason"),
    [
        (public("Ed25519").jwk() | {"d": "AAAA"}, "private"),
        (public("ML-DSA-65").jwk() | {"priv": "AAAA"}, "private"),
        (public("Ed25519").jwk() | {"crv": "X25519"}, "wanted"),
        (public("ML-DSA-65").jwk() | {"alg": "ML-DSA-44"}, "1312 bytes"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "JWK with"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AA=="}, "base64url"),
        ({"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32))}, "small order"),
        ({"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" + bytes(30) + b"\x80")}, "small order"),
        ({"kty": "OKP", "crv": "Ed25519", "x": b64(b"\xed" + b"\xff" * 30 + b"\x7f")}, "small order"),
    ],
)
def test_what_is_no_key_of_somebody_is_refused(jwk: dict[str, Any], reason: str) -> None:
    with pytest.raises(KeyInvalid, match=reason):
        asker.from_jwk(jwk)


@given(
    st.recursive(
        st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=40),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.integers(-9, 300) | st.text(max_size=3), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_cbor_agrees_with_another_implementation(value: Any) -> None:
    try:
        written = cbor.encode(value)
    except NotCanonical:
        return
    assert cbor2.loads(written) == value
    try:
        assert cbor.decode(written) == value
    except NotCanonical as error:
        assert "nested" in str(error)


@given(st.binary(max_size=80))
def test_cbor_reads_nothing_that_it_would_write_otherwise(data: bytes) -> None:
    try:
        found = cbor.decode(data)
    except NotCanonical:
        return
    assert cbor.encode(found) == data
