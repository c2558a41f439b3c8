# SPDX-License-Identifier: Apache-2.0
"""A signed envelope (S1): what somebody asked for, under their own signature, as JWS or COSE_Sign1.

    JWS    RFC 7515, compact: header {alg, kid, typ "vnd.qcos.envelope+jws"} and nothing else
    COSE   RFC 9052, COSE_Sign1 with its tag: protected {1: alg, 4: kid, 16: "application/vnd.qcos.envelope+cose"},
           nothing unprotected, no external data

Both carry the same payload, JSON: `aud` (which plane and tenant), `jti` (a nonce), `iat`, `exp` (seconds since 1970),
`kind` and `body`. `kid` is the key's thumbprint. One envelope has one byte string: nothing in it lies outside of the
signature, and what two readers could read differently is refused. The type keeps a signature that the same key made
for something else from passing for an envelope. Not here: keys' owners, replay, clocks (`judge` is given the time).
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ledger import cbor
from ledger.asker import SCHEMES, Algorithm, Form, b64, unb64
from ledger.errors import EnvelopeInvalid, NotCanonical

JOSE_TYPE: Final = "vnd.qcos.envelope+jws"
COSE_TYPE: Final = "application/vnd.qcos.envelope+cose"
LONGEST_S: Final = 600  # between `iat` and `exp`: for so long a nonce must be remembered
MAX_HEADER: Final = 1024
_ALG, _KID, _TYPE = 1, 4, 16  # COSE header labels
_SIGN1: Final = 18

Kind: TypeAlias = Literal["submit", "cancel", "hold", "resume", "show", "result", "enroll"]
Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{16,128}\Z", description="A new one for each envelope.")]
Second = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Signed(Struct, frozen=True):
    """An envelope taken apart; nothing is verified yet. `covered` is what the signature is over."""

    form: Form
    alg: Algorithm
    key_id: str
    payload: bytes
    covered: bytes
    signature: bytes


class Claims(Struct, frozen=True, forbid_unknown_fields=True):
    """The payload; `body` is JSON still to be read, by what `kind` says."""

    aud: Annotated[str, Meta(min_length=1, max_length=4096)]
    jti: Nonce
    iat: Second
    exp: Second
    kind: Kind
    body: msgspec.Raw


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


_header = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(Claims)


def audience(plane: str, tenant: str) -> str:
    """Who an envelope is for: one tenant of one plane."""
    return f"urn:qcos:plane:{plane}:{tenant}"


def parse(form: Form, data: bytes) -> Signed:
    """The parts of an envelope; EnvelopeInvalid where it is none."""
    return _jose(data) if form == "jose" else _cose(data)


def claims(payload: bytes) -> Claims:
    """What the payload says; EnvelopeInvalid where it is ambiguous or of another form."""
    unambiguous(payload, "payload")
    try:
        return _claims.decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise EnvelopeInvalid(f"payload: {error}"[:300]) from error


def judge(said: Claims, *, aud: str, now_s: float, leeway_s: float) -> None:
    """Raise EnvelopeInvalid unless the envelope is for this tenant of this plane, and for now."""
    if said.aud != aud:
        raise EnvelopeInvalid(f"for {said.aud[:200]}, not for {aud}")
    if not 0 < said.exp - said.iat <= LONGEST_S:
        raise EnvelopeInvalid(f"valid for {said.exp - said.iat} s; 1 to {LONGEST_S} are allowed")
    if said.iat > now_s + leeway_s:
        raise EnvelopeInvalid(f"made {said.iat - now_s:.0f} s ahead of now")
    if said.exp <= now_s - leeway_s:
        raise EnvelopeInvalid(f"expired {now_s - said.exp:.0f} s ago")


def make(form: Form, alg: Algorithm, key_id: str, payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The envelope around a payload; `sign` has the private key."""
    if form == "jose":
        header = {"alg": SCHEMES[alg].jose[0], "kid": key_id, "typ": JOSE_TYPE}
        covered = f"{b64(msgspec.json.encode(header))}.{b64(payload)}".encode()
        return covered + b"." + b64(sign(covered)).encode()
    protected = cbor.encode({_ALG: SCHEMES[alg].cose[0], _KID: key_id.encode(), _TYPE: COSE_TYPE})
    return cbor.encode(cbor.Tag(_SIGN1, [protected, {}, payload, sign(_covered(protected, payload))]))


def unambiguous(data: bytes, what: str) -> None:
    """Raise EnvelopeInvalid where JSON says something twice, or what no number is."""
    try:
        json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=len, parse_float=len)
    except (ValueError, RecursionError) as error:
        raise EnvelopeInvalid(f"{what}: {error}"[:300]) from error


def _jose(data: bytes) -> Signed:
    parts = data.split(b".")
    if len(parts) != 3 or not data.isascii():
        raise EnvelopeInvalid("not a JWS in compact form: three parts of base64url")
    if len(parts[0]) > MAX_HEADER:
        raise EnvelopeInvalid("a header that is too long")
    written, payload, signature = (part.decode() for part in parts)
    octets = unb64(written, "header")
    unambiguous(octets, "header")
    try:
        header = _header.decode(octets)
    except ValueError as error:
        raise EnvelopeInvalid(f"header: {error}"[:300]) from error
    if header.typ != JOSE_TYPE:
        raise EnvelopeInvalid(f"header: typ is not {JOSE_TYPE}")
    alg = next((name for name, one in SCHEMES.items() if header.alg in one.jose), None)
    covered = f"{written}.{payload}".encode()
    return _signed("jose", alg, header.kid, unb64(payload, "payload"), covered, unb64(signature, "signature"))


def _cose(data: bytes) -> Signed:
    try:
        match cbor.decode(data):
            case cbor.Tag(
                number=18, item=[bytes() as protected, dict() as beside, bytes() as payload, bytes() as made]
            ):
                header = cbor.decode(protected)
            case _:
                raise EnvelopeInvalid("not a COSE_Sign1 (tag 18) that carries its payload")
    except NotCanonical as error:
        raise EnvelopeInvalid(str(error)) from error
    if beside:
        raise EnvelopeInvalid("an unprotected header: what isn't signed isn't said")
    if not isinstance(header, dict) or header.keys() != {_ALG, _KID, _TYPE}:
        raise EnvelopeInvalid("the protected header has alg (1), kid (4) and typ (16), no others")
    if header[_TYPE] != COSE_TYPE:
        raise EnvelopeInvalid(f"protected header: typ (16) is not {COSE_TYPE}")
    kid, label = header[_KID], header[_ALG]
    if not isinstance(kid, bytes) or not kid.isascii():
        raise EnvelopeInvalid("protected header: kid is no thumbprint")
    alg = next((name for name, one in SCHEMES.items() if label in one.cose), None)
    return _signed("cose", alg, kid.decode(), payload, _covered(protected, payload), made)


def _covered(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052, section 4.4."""
    return cbor.encode(["Signature1", protected, b"", payload])


def _signed(form: Form, alg: Algorithm | None, kid: str, payload: bytes, covered: bytes, signature: bytes) -> Signed:
    if alg is None:
        raise EnvelopeInvalid(f"an algorithm that is not one of {', '.join(SCHEMES)}")
    if len(unb64(kid, "kid")) != 32:
        raise EnvelopeInvalid("kid is not the thumbprint of a key (SHA-256)")
    return Signed(form, alg, kid, payload, covered, signature)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) != len(members):
        raise ValueError("a member twice")
    return made


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")
