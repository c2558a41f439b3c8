# SPDX-License-Identifier: Apache-2.0
"""What the sealer signs of a policy revision: a closed structure, checked, and the bundle signature built from it.

Whoever pushes policies writes an entry of kind `policy:pushed` that says which files the revision has, by hash, which
revision it replaces, and the hash of its data as the bundle has it. The sealer, who alone holds the key, recomputes the
revision from those hashes, demands that it replaces the last one that was signed, and builds the list of files that OPA
verifies (a JWT, ES256, as `.signatures.json` of a bundle has it) from that structure itself. So no policies are signed
without a sealed entry that names each of their files, and of two pushes on one base one is signed. Pure. Not here: the
files, which the sealer never sees; the database.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from msgspec import Meta, Struct

from ledger.canonical import dumps
from ledger.chain import Draft, Hash
from ledger.errors import PolicyUnsigned

PUSHED = "policy:pushed"
NOT_SIGNED = "policy:unsigned"
KEY_ID = "policy"
"""The `kid` of a bundle's signature, and how OPA's configuration names the public key."""

DATA, MANIFEST, MASK_FILE = "data/data.json", ".manifest", "system/log/mask.rego"
MASK = b"""# METADATA
# scope: package
# description: What OPA's decision log may carry - which rules spoke, and nothing of who asked for what.
package system.log

# METADATA
# description: Only decisions are logged, and no error, whose text may quote the input.
drop if input.path != "qcos/main/decision"

drop if input.error

# METADATA
# description: Names, subjects, purposes and justifications stand in the input.
mask contains "/input"

# METADATA
# description: Of the answer its checks and the codes of its reasons; their texts quote the input.
mask contains {"op": "upsert", "path": "/result", "value": told}

told := {
\t"checks": [{"name": check.name, "pass": check["pass"]} | some check in input.result.checks],
\t"reasons": [{"code": reason.code, "rule": reason.rule} | some reason in input.result.reasons],
}
"""
"""The one file of a bundle that is the plane's own (I10). It is signed with the rest and decides nothing, so it is no
part of a revision; no author can replace it, for each of their packages lies below `qcos`."""
_HALF = 32  # bytes of each number of an ES256 signature (RFC 7518 section 3.4)
_HEAD = {"alg": "ES256", "kid": KEY_ID, "typ": "JWT"}

Path = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_./-]+$")]
Number = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a revision and the SHA-256 of its bytes."""

    path: Path
    sha256: Hash


class Pushed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of the entry. `files` decide and are what `revision` is a hash of; `beside` are tests and schemas."""

    number: Number  # one more than that of the push before
    revision: Hash
    base: Hash | None  # the revision that it replaces; null for a log's first
    files: tuple[File, ...]
    beside: tuple[File, ...]
    data: Hash  # SHA-256 of the bundle's data, which has the data files under one key each


class Signed(Struct, frozen=True):
    """A push that was signed: its number, its revision, and the signature as a compact JWT."""

    number: int
    revision: str
    signature: str


def read(draft: Draft) -> Pushed:
    """The structure of an entry of kind PUSHED; PolicyUnsigned for another form, or a revision that isn't its hash."""
    try:
        pushed = msgspec.json.decode(draft.body, type=Pushed)
    except msgspec.ValidationError as error:
        raise PolicyUnsigned(f"not the closed structure: {error}") from error
    if draft.commitments or draft.schema != 1:
        raise PolicyUnsigned("an entry with commitments, or of another schema")
    paths = [file.path for file in (*pushed.files, *pushed.beside)]
    if len(set(paths)) != len(paths) or {DATA, MANIFEST, MASK_FILE} & set(paths):
        raise PolicyUnsigned("a path that is there twice, or that the bundle has for itself")
    if digest(pushed.files) != pushed.revision:
        raise PolicyUnsigned("the revision is not the hash of its files")
    return pushed


def check(pushed: Pushed, last: Signed | None) -> None:
    """PolicyUnsigned unless the push follows the last one that was signed."""
    if pushed.base != (last.revision if last is not None else None):
        raise PolicyUnsigned(f"it replaces {pushed.base}, in force is {last.revision if last else 'none'}")
    if last is not None and pushed.number <= last.number:
        raise PolicyUnsigned(f"push {pushed.number} comes after push {last.number}")


def digest(files: Sequence[File]) -> str:
    """The revision: `sha256:` over sorted lines of hash and path, as `sha256sum` prints them."""
    lines = (f"{file.sha256.removeprefix('sha256:')}  {file.path}\n" for file in sorted(files, key=lambda f: f.path))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def manifest(revision: str) -> bytes:
    """A bundle's `.manifest`: it owns every path, so that nobody writes policy or data beside it."""
    return dumps({"revision": revision, "rego_version": 1, "roots": [""]})


def payload(pushed: Pushed, entry_id: str, origin: str) -> bytes:
    """What is signed: the name and hash of each file that the bundle has, and which entry of which log told of it."""
    rules = [(file.path, file.sha256) for file in pushed.files if file.path.endswith(".rego")]
    own = hashlib.sha256(manifest(pushed.revision)).hexdigest()
    mask = hashlib.sha256(MASK).hexdigest()
    named = sorted([*rules, (DATA, pushed.data), (MANIFEST, own), (MASK_FILE, mask)])
    files = [{"name": name, "hash": found.removeprefix("sha256:"), "algorithm": "SHA-256"} for name, found in named]
    about = {"entry_id": entry_id, "number": pushed.number, "revision": pushed.revision}
    return dumps({"files": files, "iss": origin, "keyid": KEY_ID, "qcos": about})


def to_sign(content: bytes) -> bytes:
    """The signing input of a JWT with this payload (RFC 7515 section 5.1)."""
    return _b64(dumps(_HEAD)) + b"." + _b64(content)


def jwt(signing_input: bytes, signature: bytes) -> str:
    """The compact JWT, of an ECDSA signature in DER."""
    r, s = utils.decode_dss_signature(signature)
    return (signing_input + b"." + _b64(r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big"))).decode()


def verify(token: str, public: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """The payload of a signature by this key; PolicyUnsigned for anything else."""
    signing_input, _, tail = token.encode().rpartition(b".")
    head, _, content = signing_input.partition(b".")
    try:
        raw = _unb64(tail)
        numbers = int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big")
        public.verify(utils.encode_dss_signature(*numbers), signing_input, ec.ECDSA(hashes.SHA256()))
        if len(raw) != 2 * _HALF or msgspec.json.decode(_unb64(head)) != _HEAD:
            raise PolicyUnsigned("the bundle's signature has another form")
        found: dict[str, Any] = msgspec.json.decode(_unb64(content))
    except (InvalidSignature, ValueError) as error:
        raise PolicyUnsigned("the bundle's signature is not of this plane's policy key") from error
    return found


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unb64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
