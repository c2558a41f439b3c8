# SPDX-License-Identifier: Apache-2.0
"""Writes `forged.json` and `jwks.json`: tokens that must be refused, and the keys they pretend to be signed by.

Run as a script; a test makes both again and compares. Nothing is random: Ed25519 keys come from fixed seeds that sign
nothing else, its signatures are deterministic, and the time is fixed at `NOW`. Each case has a name, the token, and the
code and reason of its refusal; `accepted` holds the one token that is sound, so that a verifier that refuses everything
fails too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_790_000_000
ISSUER = "http://127.0.0.1:9/issuer"
AUDIENCE = "qcos-test"
KID = "key-1"

_OURS = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"qcos test vectors: the issuer").digest())
_STRANGER = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"qcos test vectors: a stranger").digest())
_HEADER: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": KID}
_CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "iat": NOW - 60,
    "nbf": NOW - 60,
    "exp": NOW + 3_600,
    "roles": ["quantum-engineer@demo"],
}


def anew(now: int, issuer: str) -> None:
    """From now on make the same tokens for another moment and another issuer; the committed ones are made without."""
    global NOW, ISSUER
    NOW, ISSUER = now, issuer
    _CLAIMS.update(iss=issuer, iat=now - 60, nbf=now - 60, exp=now + 3_600)


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwk(key: Ed25519PrivateKey, kid: str) -> dict[str, str]:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), "kid": kid, "use": "sig"}


def jwks() -> dict[str, Any]:
    """The issuer's key set: two keys, so that a token must say which."""
    return {"keys": [_jwk(_OURS, KID), _jwk(Ed25519PrivateKey.from_private_bytes(bytes(32)), "key-0")]}


def signed(header: bytes, payload: bytes, key: Ed25519PrivateKey = _OURS) -> str:
    """A compact JWS over exactly these bytes, sound or not."""
    first = f"{b64(header)}.{b64(payload)}"
    return f"{first}.{b64(key.sign(first.encode()))}"


def token(
    *, key: Ed25519PrivateKey = _OURS, drop: str = "", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """A signed token with a changed header or claims; `drop` names a header or claim to leave out."""
    full = {name: value for name, value in {**_HEADER, **(header or {})}.items() if name != drop}
    said = {name: value for name, value in {**_CLAIMS, **claims}.items() if name != drop}
    return signed(json.dumps(full).encode(), json.dumps(said).encode(), key)


def _with_mac(secret: bytes, alg: str = "HS256") -> str:
    first = f"{b64(json.dumps({**_HEADER, 'alg': alg}).encode())}.{b64(json.dumps(_CLAIMS).encode())}"
    return f"{first}.{b64(hmac.new(secret, first.encode(), hashlib.sha256).digest())}"


def _algorithms() -> Iterator[tuple[str, str, str]]:
    public = _OURS.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    unsigned = f"{b64(json.dumps({**_HEADER, 'alg': 'none'}).encode())}.{b64(json.dumps(_CLAIMS).encode())}"
    yield "alg-none-no-signature", f"{unsigned}.", "not_a_jws"
    yield "alg-none-some-signature", f"{unsigned}.AAAA", "algorithm"
    for name in ("None", "NONE", "nOnE", "HS256", "ES256K", "dir", "A128KW", "ECDH-ES", ""):
        yield f"alg-{name or 'empty'}", token(header={"alg": name}), "algorithm"
    yield "alg-missing", token(drop="alg"), "algorithm"
    yield "alg-number", token(header={"alg": 256}), "algorithm"
    yield "alg-list", token(header={"alg": ["EdDSA"]}), "algorithm"
    yield "hmac-keyed-by-public-pem", _with_mac(pem), "algorithm"
    yield "hmac-keyed-by-public-raw", _with_mac(raw), "algorithm"
    yield "hmac-called-rs256", _with_mac(pem, "RS256"), "key_unknown"
    yield "hmac-called-eddsa", _with_mac(pem, "EdDSA"), "signature"
    yield "rs256-for-an-ed25519-key", token(header={"alg": "RS256"}), "key_unknown"
    yield "es256-for-an-ed25519-key", token(header={"alg": "ES256"}), "key_unknown"


def _keys() -> Iterator[tuple[str, str, str]]:
    stranger = _jwk(_STRANGER, KID)
    yield "signed-by-a-stranger", token(key=_STRANGER), "signature"
    yield (
        "signed-by-a-stranger-kid-of-another-key",
        token(key=_STRANGER, header={"kid": "key-0"}),
        "signature",
    )
    yield "right-key-wrong-kid", token(header={"kid": "key-0"}), "signature"
    yield "kid-missing", token(drop="kid"), "key_unknown"
    for name, kid in (
        ("unknown", "key-2"),
        ("empty", ""),
        ("path-up", "../../../../dev/null"),
        ("path-absolute", "/etc/passwd"),
        ("path-key", "../keys/issuer/key.pem"),
        ("url", "http://127.0.0.1:9/jwks.json"),
        ("sql", "key-1' OR '1'='1"),
        ("nul", "key-1\x00"),
        ("newline", "key-1\nX-Injected: 1"),
        ("other-case", "KEY-1"),
        ("padded", " key-1"),
        ("shell", "$(id)"),
        ("long", "k" * 257),
        ("number", 1),
        ("list", [KID]),
        ("object", {"kid": KID}),
    ):
        yield f"kid-{name}", token(header={"kid": kid}), "key_unknown"
    yield "header-brings-jwk", token(key=_STRANGER, header={"jwk": stranger}), "header"
    yield "header-points-jku", token(key=_STRANGER, header={"jku": "http://127.0.0.1:9/x"}), "header"
    yield "header-points-x5u", token(key=_STRANGER, header={"x5u": "http://127.0.0.1:9/x"}), "header"
    yield "header-brings-x5c", token(key=_STRANGER, header={"x5c": ["AAAA"]}), "header"
    yield "header-null-jwk", token(header={"jwk": None}), "header"
    yield "header-crit", token(header={"crit": ["exp"]}), "header"
    yield "header-b64-false", token(header={"b64": False, "crit": ["b64"]}), "header"
    yield "header-zip", token(header={"zip": "DEF"}), "header"


def _types() -> Iterator[tuple[str, str, str]]:
    yield "typ-missing", token(drop="typ"), "type"
    for kind in ("JWT", "id_token", "jwt+at", "at+jwt ", "dpop+jwt", "logout+jwt", "", 1, ["at+jwt"]):
        yield f"typ-{json.dumps(kind)}", token(header={"typ": kind}), "type"


def _claims() -> Iterator[tuple[str, str, str]]:
    yield "expired", token(exp=NOW - 3_600), "expired"
    yield "expired-at-the-leeway", token(exp=NOW - 10), "expired"
    yield "exp-missing", token(drop="exp"), "expiry_missing"
    for name, value in (
        ("null", None),
        ("text", str(NOW + 60)),
        ("true", True),
        ("list", [NOW + 60]),
        ("huge", 10**300),
    ):
        yield f"exp-{name}", token(exp=value), "time"
    yield "exp-nan", token(exp=float("nan")), "not_json"
    yield "exp-infinity", token(exp=float("inf")), "not_json"
    yield "not-yet-valid", token(nbf=NOW + 3_600), "not_yet_valid"
    yield "issued-in-the-future", token(iat=NOW + 3_600), "not_yet_valid"
    yield "nbf-text", token(nbf="now"), "time"
    for name, audience in (
        ("other", "someone-else"),
        ("prefix", AUDIENCE + "-2"),
        ("empty", ""),
        ("number", 1),
        ("none", []),
    ):
        yield f"aud-{name}", token(aud=audience), "audience"
    yield "aud-mixed-list", token(aud=[AUDIENCE, 1]), "audience"
    yield "aud-object", token(aud={AUDIENCE: True}), "audience"
    yield "aud-missing", token(drop="aud"), "audience"
    for name, issuer in (
        ("other", "https://evil.example"),
        ("slash", ISSUER + "/"),
        ("case", ISSUER.upper()),
        ("list", [ISSUER]),
    ):
        yield f"iss-{name}", token(iss=issuer), "issuer"
    yield "iss-missing", token(drop="iss"), "issuer"
    yield "sub-missing", token(drop="sub"), "subject"
    for name, subject in (
        ("empty", ""),
        ("number", 7),
        ("newline", "alice\nadmin"),
        ("nul", "a\x00"),
        ("long", "a" * 256),
    ):
        yield f"sub-{name}", token(sub=subject), "claim"
    yield "team-object", token(team={"name": "a"}), "claim"
    yield "department-control", token(department="a\x1b[2J"), "claim"
    yield "roles-number", token(roles=1), "roles"
    yield "roles-object", token(roles={"quantum-admin": True}), "roles"
    yield "roles-mixed", token(roles=["quantum-admin", 1]), "roles"
    yield "roles-bomb", token(roles=["r"] * 513), "roles"


def _bytes() -> Iterator[tuple[str, str, str]]:
    header, claims = json.dumps(_HEADER).encode(), json.dumps(_CLAIMS).encode()
    sound = token()
    first, second, third = sound.split(".")
    yield "claims-changed", f"{first}.{b64(claims.replace(b'alice', b'admin'))}.{third}", "signature"
    yield "header-changed", f"{b64(header + b' ')}.{second}.{third}", "signature"
    yield "signature-cut", sound[:-4], "signature"
    yield "signature-one-bit", f"{first}.{second}.{'B' if third[0] != 'B' else 'C'}{third[1:]}", "signature"
    yield "signature-not-base64", f"{first}.{second}.!!!!", "signature"
    yield "signature-of-zeros", f"{first}.{second}.{b64(bytes(64))}", "signature"
    yield "signature-empty", f"{first}.{second}.", "not_a_jws"
    yield "one-part", "abc", "not_a_jws"
    yield "two-parts", f"{first}.{second}", "not_a_jws"
    yield "four-parts", f"{sound}.{third}", "not_a_jws"
    yield "encrypted-five-parts", f"{first}.{second}.{third}.{second}.{third}", "not_a_jws"
    yield "dots", "..", "not_a_jws"
    yield "not-ascii", f"{sound}é", "not_a_jws"
    yield "huge", f"{first}.{'A' * 16_384}.{third}", "too_large"
    yield "header-huge", token(header={"x": "y" * 2_048}), "too_large"
    yield "header-not-base64", f"@@@@.{second}.{third}", "not_json"
    yield "header-not-json", signed(b"{", claims), "not_json"
    yield "header-list", signed(b"[]", claims), "not_json"
    yield "header-utf-16", signed(json.dumps(_HEADER).encode("utf-16"), claims), "not_json"
    yield "claims-not-json", signed(header, b"hello"), "not_json"
    yield "claims-list", signed(header, b"[1]"), "not_json"
    yield "claims-null", signed(header, b"null"), "not_json"
    yield "claims-jws-in-jws", signed(header, json.dumps(sound).encode()), "not_json"
    yield "claims-not-utf-8", signed(header, b'{"iss":"\xff"}'), "not_json"
    yield "claims-nested", signed(header, b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"), "not_json"
    yield "header-nested", signed(b'{"a":' + b"[" * 760 + b"]" * 760 + b"}", claims), "type"
    yield "duplicate-sub", signed(header, claims[:-1] + b',"sub":"admin"}'), "not_json"
    yield "duplicate-exp", signed(header, claims[:-1] + b',"exp":99999999999}'), "not_json"
    yield "duplicate-alg", signed(header[:-1] + b',"alg":"none"}', claims), "not_json"
    yield "number-bomb", signed(header, claims[:-1] + b',"x":' + b"9" * 6_000 + b"}"), "not_json"


def forged() -> dict[str, Any]:
    """All cases, in the order of this file."""
    cases = []
    for group in (_algorithms, _keys, _types, _claims, _bytes):
        for name, text, reason in group():
            code = "token_expired" if reason == "expired" else "token_invalid"
            cases.append({"name": name, "code": code, "reason": reason, "token": text})
    return {"now": NOW, "issuer": ISSUER, "audience": AUDIENCE, "accepted": token(), "refused": cases}


def documents() -> dict[str, str]:
    """File name → content, as committed."""
    made = {"forged.json": forged(), "jwks.json": jwks()}
    return {name: json.dumps(value, indent=1, sort_keys=True) + "\n" for name, value in made.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")
