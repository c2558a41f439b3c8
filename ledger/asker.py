# SPDX-License-Identifier: Apache-2.0
"""Keys with which people sign what they ask for: Ed25519 and ML-DSA, as JWK and COSE_Key, and the name of each.

A key's name is its JWK thumbprint (RFC 7638 with SHA-256; RFC 8037 for Ed25519, RFC 9964 for ML-DSA), so that nobody
has to be believed about which key a name means. JOSE and COSE name the algorithms as RFC 9864 and RFC 9964 do; `EdDSA`
and -8, which are older, stand for Ed25519. Points of Ed25519 under which anything looks signed are no keys.
Not here: private keys, whose key it is (`control_plane.signing`). Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final, Literal, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey, MLDSA87PublicKey
from msgspec import Struct

from ledger import canonical
from ledger.errors import EnvelopeInvalid, KeyInvalid

Algorithm: TypeAlias = Literal["Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]
Form: TypeAlias = Literal["jose", "cose"]


class Scheme(Struct, frozen=True):
    """What is fixed by an algorithm: its names in JOSE and COSE, and the lengths of key and signature."""

    jose: tuple[str, ...]
    cose: tuple[int, ...]
    key: int
    signature: int


SCHEMES: Final[dict[Algorithm, Scheme]] = {
    "Ed25519": Scheme(("Ed25519", "EdDSA"), (-19, -8), 32, 64),
    "ML-DSA-44": Scheme(("ML-DSA-44",), (-48,), 1312, 2420),
    "ML-DSA-65": Scheme(("ML-DSA-65",), (-49,), 1952, 3309),
    "ML-DSA-87": Scheme(("ML-DSA-87",), (-50,), 2592, 4627),
}
_MLDSA: Final[dict[str, Any]] = {
    "ML-DSA-44": MLDSA44PublicKey,
    "ML-DSA-65": MLDSA65PublicKey,
    "ML-DSA-87": MLDSA87PublicKey,
}
_OKP, _AKP = 1, 7  # COSE key types
_PRIVATE: Final = frozenset({"d", "priv"})
_TOLD: Final = frozenset({"kty", "crv", "x", "alg", "pub", "kid", "use", "key_ops"})
_P = 2**255 - 19
# The y of Ed25519's points of order 1, 2, 4 and 8 (and p, p + 1, which some readers take for 0 and 1).
_SMALL: Final = frozenset(
    {
        *(0, 1, _P - 1, _P, _P + 1),
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)


class AskerKey(Struct, frozen=True):
    """A public key: its algorithm, and its bytes as the algorithm has them."""

    alg: Algorithm
    public: bytes

    @property
    def id(self) -> str:
        """The thumbprint: 43 letters of base64url."""
        return b64(hashlib.sha256(canonical.dumps(self.jwk())).digest())

    def jwk(self) -> dict[str, str]:
        """The members that a thumbprint is made of, which are all that a public key needs."""
        if self.alg == "Ed25519":
            return {"crv": "Ed25519", "kty": "OKP", "x": b64(self.public)}
        return {"alg": self.alg, "kty": "AKP", "pub": b64(self.public)}


def asker_key(alg: Algorithm, public: bytes) -> AskerKey:
    """The key of these bytes; KeyInvalid where they are no key that only its holder signs with."""
    if len(public) != SCHEMES[alg].key:
        raise KeyInvalid(f"a {alg} key has {SCHEMES[alg].key} bytes, not {len(public)}")
    if alg == "Ed25519" and int.from_bytes(public, "little") & ~(1 << 255) in _SMALL:
        raise KeyInvalid("an Ed25519 point of small order, under which anything looks signed")
    return AskerKey(alg, public)


def from_jwk(jwk: dict[str, Any]) -> AskerKey:
    """The key of a JWK; KeyInvalid says what is wrong, and of a private key that it shouldn't have been sent."""
    if _PRIVATE & jwk.keys():
        raise KeyInvalid("this is a private key; only its public half leaves your hands")
    if odd := jwk.keys() - _TOLD:
        raise KeyInvalid(f"a JWK with {', '.join(sorted(map(str, odd)))[:100]}")
    kind, alg = jwk.get("kty"), jwk.get("alg")
    if kind == "OKP" and jwk.get("crv") == "Ed25519" and alg in (None, *SCHEMES["Ed25519"].jose):
        return asker_key("Ed25519", _member(jwk, "x"))
    if kind == "AKP" and isinstance(alg, str) and alg in _MLDSA:
        return asker_key(alg, _member(jwk, "pub"))  # type: ignore[arg-type]
    raise KeyInvalid("wanted a JWK of kty OKP with crv Ed25519, or of kty AKP with alg ML-DSA-44, -65 or -87")


def from_cose(key: object) -> AskerKey:
    """The key of a decoded COSE_Key: {1: 1, -1: 6, -2: x} or {1: 7, 3: alg, -1: pub}, `kid` (2) passed over."""
    if not isinstance(key, dict):
        raise KeyInvalid("a COSE_Key is a map")
    if (key.get(1), key.get(-1)) == (_OKP, 6) and key.keys() <= {1, 2, 3, -1, -2}:
        public = key.get(-2)
        if isinstance(public, bytes) and key.get(3) in (None, *SCHEMES["Ed25519"].cose):
            return asker_key("Ed25519", public)
    if key.get(1) == _AKP and key.keys() <= {1, 2, 3, -1}:
        public = key.get(-1)
        found: list[Algorithm] = [name for name, one in SCHEMES.items() if key.get(3) in one.cose and name in _MLDSA]
        if found and isinstance(public, bytes):
            return asker_key(found[0], public)
    raise KeyInvalid("wanted a public COSE_Key of Ed25519 (kty 1, crv 6) or ML-DSA (kty 7, alg -48, -49 or -50)")


def verify(key: AskerKey, covered: bytes, signature: bytes) -> None:
    """Raise EnvelopeInvalid unless `key` made this signature; of ML-DSA pure and with empty context."""
    if len(signature) != SCHEMES[key.alg].signature:
        raise EnvelopeInvalid(f"a signature of {len(signature)} bytes; {key.alg} has {SCHEMES[key.alg].signature}")
    try:
        if key.alg == "Ed25519":
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, covered)
        else:
            _MLDSA[key.alg].from_public_bytes(key.public).verify(signature, covered)
    except (InvalidSignature, ValueError) as error:
        raise EnvelopeInvalid("not a signature of this key") from error


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str, what: str) -> bytes:
    """The bytes of base64url in its one form; EnvelopeInvalid where it is in another."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeInvalid(f"{what}: not base64url") from error
    if b64(data) != text:
        raise EnvelopeInvalid(f"{what}: not base64url in its one form")
    return data


def _member(jwk: dict[str, Any], name: str) -> bytes:
    try:
        return unb64(str(jwk.get(name, "")), name)
    except EnvelopeInvalid as error:
        raise KeyInvalid(str(error)) from error
