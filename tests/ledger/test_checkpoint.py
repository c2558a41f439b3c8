# SPDX-License-Identifier: Apache-2.0
"""The signed head: both lines must hold, and every byte of the note matters (G5, I4)."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from ledger import checkpoint
from ledger.errors import CheckpointInvalid
from ledger.keys import spki
from ledger.signer import Held

ORIGIN = "qcos.test/log"
ED25519 = Held(Ed25519PrivateKey.from_private_bytes(bytes(32)))
ML_DSA_65 = Held(MLDSA65PrivateKey.from_seed_bytes(bytes(32)))
ROOT = bytes(range(32))
NOTE = checkpoint.sign(ORIGIN, 7, ROOT, ed25519=ED25519, mldsa65=ML_DSA_65)
KEYS = checkpoint.verifiers(ORIGIN, [spki(ED25519.public), spki(ML_DSA_65.public)])
VECTOR = Path(__file__).parents[1] / "vectors" / "ledger" / "checkpoint.json"


def test_a_signed_head_verifies_and_says_what_was_signed() -> None:
    found = checkpoint.verify(NOTE, KEYS)
    assert (found.origin, found.size, found.root) == (ORIGIN, 7, ROOT)
    assert NOTE.startswith(b"qcos.test/log\n7\n" + base64.b64encode(ROOT) + b"\n\n")


def test_any_changed_bit_or_byte_is_found() -> None:
    """I4: a note has one byte string; spare bits of base64 included."""
    for at in range(0, len(NOTE), 7):
        for bit in (1, 128):
            bent = bytearray(NOTE)
            bent[at] ^= bit
            with pytest.raises(CheckpointInvalid):
                checkpoint.verify(bytes(bent), KEYS)


def lines() -> list[bytes]:
    return NOTE.partition(b"\n\n")[2].splitlines(keepends=True)


TEXT = NOTE.partition(b"\n\n")[0]
BAD: dict[str, bytes] = {
    "no signatures": TEXT + b"\n\n",
    "one line": TEXT + b"\n\n" + lines()[0],
    "other line": TEXT + b"\n\n" + lines()[1],
    "other order": TEXT + b"\n\n" + lines()[1] + lines()[0],
    "a line twice": TEXT + b"\n\n" + lines()[0] * 2,
    "three lines": NOTE + lines()[0],
    "no last newline": NOTE[:-1],
    "extension line": NOTE.replace(b"\n\n", b"\nextra\n\n"),
    "size with a zero": NOTE.replace(b"\n7\n", b"\n07\n"),
    "size negative": NOTE.replace(b"\n7\n", b"\n-7\n"),
    "short root": b"qcos.test/log\n7\nAAAA\n\n" + b"".join(lines()),
    "huge": NOTE + b"x" * 30_000,
    "not UTF-8": NOTE.replace(b"qcos", b"\xff\xfeos", 1),
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_note_is_refused(name: str) -> None:
    with pytest.raises(CheckpointInvalid):
        checkpoint.verify(BAD[name], KEYS)


@pytest.mark.parametrize("missing", [0, 1])
def test_both_keys_must_be_known(missing: int) -> None:
    """A broken algorithm alone does not let a head through."""
    with pytest.raises(CheckpointInvalid):
        checkpoint.verify(NOTE, [key for at, key in enumerate(KEYS) if at != missing])


def test_a_head_of_another_log_is_refused() -> None:
    other = checkpoint.verifiers("other", [spki(ED25519.public), spki(ML_DSA_65.public)])
    with pytest.raises(CheckpointInvalid):
        checkpoint.verify(NOTE, other)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "é"])
def test_an_origin_must_fit_a_signed_note(origin: str) -> None:
    with pytest.raises(CheckpointInvalid):
        checkpoint.text(origin, 1, ROOT)


def test_the_committed_vector_verifies() -> None:
    """For other implementations: the same note, keys and key hashes, as data."""
    vector: dict[str, Any] = json.loads(VECTOR.read_text())
    publics = [base64.b64decode(vector[name]) for name in ("ed25519_spki", "mldsa65_spki")]
    found = checkpoint.verify(vector["note"].encode(), checkpoint.verifiers(vector["origin"], publics))
    assert (found.size, base64.b64encode(found.root).decode()) == (vector["size"], vector["root"])
    for line, kind, public in zip(found.lines, (b"\x01", checkpoint.ML_DSA_65_TYPE), publics, strict=True):
        raw = public[-32:] if kind == b"\x01" else public[-1952:]
        assert line.key_hash == hashlib.sha256(vector["origin"].encode() + b"\n" + kind + raw).digest()[:4]
