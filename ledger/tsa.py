# SPDX-License-Identifier: Apache-2.0
"""Our own time-stamping authority (RFC 3161): its keys, the issuing of one token, and the HTTP face of it.

Enters: TimeStampReq DER. Leaves: TimeStampResp DER, either a token signed by P-256 with SHA-256, or a
rejection that names the PKIFailureInfo bit; garbage is answered, never dropped. `genTime` has whole
seconds, because verifiers in use refuse fractions. What it issues is self-issued time: whoever runs the
plane runs this clock, and every reader is told so by `operator: self`. It runs in a process of its own
that alone holds its key. `issue` is pure; `tsa_app` is where the clock and the random serial numbers
enter. Not here: asking (`tsa_client`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import serialization

from ledger import cms, issuer, keyring, keys
from ledger.custody import PLAIN, Custody
from ledger.errors import KeyInvalid, TokenInvalid
from ledger.signer import Signer

POLICY = x509.ObjectIdentifier("2.25.161775720700916124134080651782467586996")  # uuid5 of urn:qcos:tsa-policy:v1
REVOKED = "tsa-revoked.crl"  # DER; absent where the keys are older than it
MAX_REQUEST_BYTES = 4096
BAD_ALGORITHM, BAD_REQUEST, BAD_FORMAT = 0, 2, 5  # PKIFailureInfo bits, RFC 3161 section 2.4.2
UNACCEPTED_POLICY, UNACCEPTED_EXTENSION = 15, 16

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class TsaKeys:
    """The authority's key and certificate chain, and the parts of a token that never change."""

    def __init__(self, signer: Signer, chain: tuple[bytes, ...]) -> None:
        certificate = x509.load_der_x509_certificate(chain[0])
        if certificate.public_key() != signer.public:
            raise KeyInvalid("tsa: the certificate is not of the key")
        self.chain = chain
        self._signer = signer
        self._sid = cms.IssuerAndSerial(
            issuer=_tlv(certificate.issuer.public_bytes()), serial_number=certificate.serial_number
        )
        ess = cms.EssCertIdV2(hash_algorithm=None, cert_hash=hashlib.sha256(chain[0]).digest(), issuer_serial=None)
        self._fixed = (
            _attribute(cms.CONTENT_TYPE, cms.TST_INFO),
            _attribute(cms.SIGNING_CERTIFICATE_V2, cms.SigningCertificateV2(certs=[ess], policies=None)),
        )

    def sign(self, info: bytes, *, embed: bool) -> cms.Token:
        """The token around a TSTInfo; without `embed` it names the certificate but does not carry it."""
        digest = _attribute(cms.MESSAGE_DIGEST, hashlib.sha256(info).digest())
        signed = asn1.SetOf([*self._fixed, digest])
        signer = cms.SignerInfo(
            version=1,
            sid=self._sid,
            digest_algorithm=cms.Algorithm(algorithm=cms.SHA256, parameters=None),
            signed_attributes=signed,
            signature_algorithm=cms.Algorithm(algorithm=cms.ECDSA_WITH_SHA256, parameters=None),
            signature=self._signer.sign(_set_of(signed)),
        )
        return cms.Token(
            type=cms.SIGNED_DATA,
            content=cms.SignedData(
                version=3,
                digest_algorithms=asn1.SetOf([cms.Algorithm(algorithm=cms.SHA256, parameters=None)]),
                content=cms.Content(type=cms.TST_INFO, content=info),
                certificates=[_tlv(self.chain[0])] if embed else None,
                signer_infos=asn1.SetOf([signer]),
            ),
        )


def create_tsa_keys(
    folder: Path, custody: Custody = PLAIN, *, now: datetime, name: str = "qcos time-stamping authority"
) -> None:
    """Make the key `tsa` (P-256), its `tsa-chain.pem` and its root's revocation list unless they are there."""
    ring = keyring.Keyring(folder, custody)
    if ring.has("tsa") and (folder / "tsa-chain.pem").exists():
        return
    # A key without its chain, or the reverse, has signed nothing.
    ring.destroy("tsa")
    for part in ("tsa-chain.pem", REVOKED):
        (folder / part).unlink(missing_ok=True)
    made = issuer.issue(ring.create("tsa", keys.ECDSA_P256).public, name, "time", now=now)
    keys.write_secret(folder / REVOKED, made.crl)
    keys.write_secret(folder / "tsa-chain.pem", made.pem())


def load_tsa_keys(folder: Path, custody: Custody = PLAIN) -> TsaKeys:
    """The authority of a folder; KeyInvalid says which file cannot be used."""
    return TsaKeys(keyring.Keyring(folder, custody).load("tsa", keys.ECDSA_P256), load_chain(folder))


def load_chain(folder: Path) -> tuple[bytes, ...]:
    """The authority's certificates as DER, its own first: what a trust file pins."""
    try:
        chain = x509.load_pem_x509_certificates(keys.read_secret(folder / "tsa-chain.pem"))
    except ValueError as error:
        raise KeyInvalid("tsa-chain.pem: no certificates") from error
    return tuple(part.public_bytes(serialization.Encoding.DER) for part in chain)


def load_revoked(folder: Path) -> bytes | None:
    """The revocation list of the authority's root, DER; None where the keys are older than such lists."""
    return keys.read_secret(folder / REVOKED) if (folder / REVOKED).exists() else None


def start_of(chain: tuple[bytes, ...]) -> datetime:
    """When an authority began to stamp: a trust file says so, because from then on its token is due."""
    return x509.load_der_x509_certificate(chain[0]).not_valid_before_utc


def issue(authority: TsaKeys, request: bytes, *, now: datetime, serial: int) -> bytes:
    """The TimeStampResp to a request: a token at `now` (whole seconds), or a rejection with its reason.

    `serial` must be positive and unique for this authority (RFC 3161 section 2.4.2).
    """
    try:
        asked = cms.decode(cms.Request, request, what="request")
    except TokenInvalid:
        return _reject(BAD_FORMAT, "not a TimeStampReq in DER")
    kind = cms.HASHES.get(asked.message_imprint.hash_algorithm.algorithm)
    if asked.version != 1:
        return _reject(BAD_REQUEST, "version must be 1")
    if kind is None:
        return _reject(BAD_ALGORITHM, "hash must be SHA-256, SHA-384 or SHA-512")
    if len(asked.message_imprint.hashed_message) != kind[1]:
        return _reject(BAD_FORMAT, "imprint does not fit its hash")
    if asked.policy not in (None, POLICY):
        return _reject(UNACCEPTED_POLICY, "unknown policy")
    if asked.extensions is not None:
        return _reject(UNACCEPTED_EXTENSION, "no extension is known")
    info = cms.Info(
        version=1,
        policy=POLICY,
        message_imprint=asked.message_imprint,
        serial_number=serial,
        gen_time=asn1.GeneralizedTime(now.astimezone(UTC).replace(microsecond=0)),
        accuracy=cms.Accuracy(seconds=1),
        nonce=asked.nonce,
    )
    token = authority.sign(asn1.encode_der(info), embed=asked.cert_req)
    granted = cms.StatusInfo(status=0, status_string=None, fail_info=None)
    return asn1.encode_der(cms.Grant(status=granted, token=_tlv(asn1.encode_der(token))))


def tsa_app(authority: TsaKeys) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application of RFC 3161 section 3.4: POST application/timestamp-query to any path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if scope["method"] != "POST":
            await _answer(send, 405, b"POST a time-stamp request\n", b"text/plain")
        elif dict(scope["headers"]).get(b"content-type", b"") != b"application/timestamp-query":
            await _answer(send, 415, b"send application/timestamp-query\n", b"text/plain")
        else:
            reply = issue(authority, body, now=datetime.now(UTC), serial=secrets.randbits(126) + 1)
            await _answer(send, 200, reply, b"application/timestamp-reply")

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Receive) -> bytes:
    """The body, or nothing if it is past the limit, where it is no request any more."""
    data, more = b"", True
    while more:
        message = await receive()
        data = (data + message.get("body", b""))[: MAX_REQUEST_BYTES + 1]
        more = message.get("more_body", False)
    return data if len(data) <= MAX_REQUEST_BYTES else b""


async def _answer(send: Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _reject(bit: int, reason: str) -> bytes:
    """TimeStampResp with status rejection(2); DER cuts the named bit list after its last set bit."""
    octets = bytearray(bit // 8 + 1)
    octets[-1] = 0x80 >> bit % 8
    failure = asn1.BitString(bytes(octets), 7 - bit % 8)
    return asn1.encode_der(cms.Rejection(status=cms.StatusInfo(status=2, status_string=[reason], fail_info=failure)))


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)


def _set_of(attributes: asn1.SetOf[cms.Attribute]) -> bytes:
    """The attributes as the SET OF that is signed (RFC 5652 section 5.4), not the [0] that is sent."""
    return asn1.encode_der(attributes)


def _attribute(kind: x509.ObjectIdentifier, value: object) -> cms.Attribute:
    return cms.Attribute(type=kind, values=asn1.SetOf([_tlv(asn1.encode_der(value))]))
