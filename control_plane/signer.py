# SPDX-License-Identifier: Apache-2.0
"""The signing keys of whoever uses the command line: made, kept in QCOS_HOME/signing-keys, and used (S1).

A file a key, 0600: its private JWK (RFC 8037 `d`, RFC 9964 `priv`) and the audience that it was enrolled for. The key
never leaves it: what is sent is an envelope around the request, or the proof that enrols the key.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey

from control_plane.errors import Refused
from ledger import asker, envelope
from ledger.asker import Algorithm, AskerKey, Form
from ledger.envelope import Kind
from ledger.errors import EnvelopeInvalid, KeyInvalid
from ledger.keys import read_secret, sync_folder, write_secret

LASTS_S = 120
_FOLDER = "signing-keys"
Private: TypeAlias = Ed25519PrivateKey | MLDSA44PrivateKey | MLDSA65PrivateKey | MLDSA87PrivateKey
_KINDS: dict[Algorithm, type[Any]] = {
    "Ed25519": Ed25519PrivateKey,
    "ML-DSA-44": MLDSA44PrivateKey,
    "ML-DSA-65": MLDSA65PrivateKey,
    "ML-DSA-87": MLDSA87PrivateKey,
}


class Signer:
    """A private key that is at hand."""

    def __init__(self, alg: Algorithm, private: Private) -> None:
        self._private = private
        self.key = AskerKey(alg, private.public_key().public_bytes_raw())

    def envelope(self, kind: Kind, body: bytes, audience: str, form: Form = "jose") -> bytes:
        """A fresh envelope around `body`, which is JSON."""
        now = int(time.time())
        claims = {"aud": audience, "jti": secrets.token_urlsafe(24), "iat": now, "exp": now + LASTS_S, "kind": kind}
        payload = json.dumps(claims)[:-1].encode() + b', "body": ' + body + b"}"
        return envelope.make(form, self.key.alg, self.key.id, payload, self._private.sign)

    def jwk(self) -> dict[str, str]:
        """The private key, as its file has it."""
        name = "d" if self.key.alg == "Ed25519" else "priv"
        return self.key.jwk() | {name: asker.b64(self._private.private_bytes_raw())}


def made(alg: Algorithm) -> Signer:
    """A new key."""
    return Signer(alg, _KINDS[alg].generate())


def read_jwk(jwk: Mapping[str, Any]) -> Signer:
    """The signer of a private JWK; Refused `unusable_input` where it is none, or its halves don't match."""
    kept = {name: value for name, value in jwk.items() if name not in ("d", "priv")}
    try:
        key = asker.from_jwk(kept)
        seed = asker.unb64(str(jwk.get("d" if key.alg == "Ed25519" else "priv", "")), "private key")
        kind = _KINDS[key.alg]
        read = kind.from_private_bytes if key.alg == "Ed25519" else kind.from_seed_bytes
        signer = Signer(key.alg, read(seed))
    except (KeyInvalid, EnvelopeInvalid, ValueError) as error:
        raise Refused("unusable_input", f"not a private JWK: {error}") from None
    if signer.key != key:
        raise Refused("unusable_input", "not a private JWK: its halves don't belong together")
    return signer


def keep(home: Path, signer: Signer, audience: str, subject: str) -> tuple[Path, bool]:
    """Keep a key that `subject` enrolled for this audience; whether it wasn't here before."""
    folder = home / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{signer.key.id}.json"
    new = not path.exists()
    if new:
        write_secret(path, json.dumps({"audience": audience, "subject": subject, "jwk": signer.jwk()}).encode())
    return path, new


def forget(home: Path, key_id: str) -> None:
    """Remove a key that was revoked, where it is here."""
    path = home / _FOLDER / f"{key_id}.json"
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)


def chosen(home: Path, key_id: str | None) -> tuple[Signer, str]:
    """The key to sign with and its audience: the one that is named, else the newest of who is signed in here."""
    files = sorted((home / _FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    held = {path.stem: _held(path) for path in files if key_id in (None, path.stem)}
    who = _signed_in(home)
    mine = [one for one in held.values() if who is None or one["subject"] == who]
    if key_id is not None:
        mine = list(held.values())
    if not mine:
        why = "no signing key of yours is here" if key_id is None else f"the signing key {key_id} isn't here"
        raise Refused("unusable_input", f"{why}; qcos signing-key create")
    return read_jwk(mine[0]["jwk"]), mine[0]["audience"]


def request(home: Path, kind: Kind, body: bytes, key_id: str | None, form: Form) -> tuple[bytes, dict[str, str]]:
    """An envelope around the body, and the header that says in which form it is."""
    signer, audience = chosen(home, key_id)
    return signer.envelope(kind, body, audience, form), {"Content-Type": f"application/{form}"}


def _held(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(read_secret(path))
        if isinstance(held["jwk"], dict) and isinstance(held["audience"], str) and isinstance(held["subject"], str):
            return dict(held)
    except KeyInvalid as error:
        raise Refused("unusable_input", f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused("unusable_input", f"{path}: not a signing key")


def _signed_in(home: Path) -> str | None:
    """Whose credentials lie here."""
    try:
        held = json.loads((home / "credentials.json").read_bytes())
    except (OSError, ValueError):
        return None
    return held.get("subject") if isinstance(held, dict) else None
