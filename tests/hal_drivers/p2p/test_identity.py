# SPDX-License-Identifier: Apache-2.0
"""A peer is its key: ids as libp2p spells them, signatures that the id alone verifies (N14)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.p2p import identity
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.wire import SIGNED_PREFIX

# Seed → peer id, both from libp2p 0.8.1.
VECTORS = {
    "00" * 32: "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
    "01" * 32: "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5",
    bytes(range(32)).hex(): "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB",
}
LIBP2P = """
import json, sys, warnings
warnings.simplefilter("ignore")
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
made = {seed: create_new_key_pair(bytes.fromhex(seed)).public_key for seed in sys.argv[1:]}
print(json.dumps({seed: str(ID.from_pubkey(key)) for seed, key in made.items()}))
"""


def _of(seed: str) -> identity.Identity:
    return identity.Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))


def test_ids_are_those_of_libp2p() -> None:
    seeds = [*VECTORS, "ff" * 32, "5a" * 32]
    done = subprocess.run([sys.executable, "-c", LIBP2P, *seeds], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {seed: _of(seed).peer_id for seed in seeds}


@pytest.mark.parametrize(("seed", "peer_id"), VECTORS.items())
def test_vectors(seed: str, peer_id: str) -> None:
    assert _of(seed).peer_id == peer_id
    assert identity.peer_id_of(identity.public_of(peer_id)) == peer_id


@given(st.binary(min_size=32, max_size=32))
def test_an_id_carries_its_key(public: bytes) -> None:
    assert identity.public_of(identity.peer_id_of(public)) == public


@given(st.text(max_size=60) | st.text(alphabet=identity._ALPHABET, min_size=52, max_size=52))
def test_what_is_no_id_is_refused(text: str) -> None:
    try:
        public = identity.public_of(text)
    except IdentityInvalid:
        return
    assert identity.peer_id_of(public) == text


@given(st.binary(max_size=200), st.integers(0, 7), st.data())
def test_a_signature_holds_for_its_bytes_and_its_peer_alone(body: bytes, bit: int, data: st.DataObject) -> None:
    signed = _of("01" * 32).sign(body)
    identity.verify(signed)
    place = data.draw(st.integers(0, 63))
    bent = bytearray(signed.signature)
    bent[place] ^= 1 << bit
    for other in (
        msgspec.structs.replace(signed, signature=bytes(bent)),
        msgspec.structs.replace(signed, body=body + b" "),
        msgspec.structs.replace(signed, node_id=_of("02" * 32).peer_id),
        msgspec.structs.replace(signed, node_id="nobody"),
        msgspec.structs.replace(signed, signature=b""),
    ):
        with pytest.raises(IdentityInvalid):
            identity.verify(other)


def test_the_prefix_keeps_a_node_from_signing_anything_else() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    bare = msgspec.structs.replace(identity.Identity(key).sign(b"x"), signature=key.sign(b"x"))
    with pytest.raises(IdentityInvalid):
        identity.verify(bare)
    assert SIGNED_PREFIX.endswith(b"\n")


def test_a_key_is_made_once_kept_and_private(tmp_path: Path) -> None:
    path = tmp_path / "nodes" / "node-1.pem"
    made = identity.make(path)
    assert identity.make(path).peer_id == made.peer_id == identity.load(path).peer_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["node-1.pem"]


def test_files_that_are_no_key_are_refused_by_name(tmp_path: Path) -> None:
    elliptic = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, data in {"empty": b"", "text": b"hello", "elliptic": elliptic}.items():
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(IdentityInvalid, match=name):
            identity.load(path)
    with pytest.raises(IdentityInvalid, match="No such file"):
        identity.load(tmp_path / "absent")
    open_to_all = tmp_path / "open"
    identity.make(open_to_all)
    open_to_all.chmod(0o644)
    with pytest.raises(IdentityInvalid, match="0644"):
        identity.load(open_to_all)
    (tmp_path / "link").symlink_to(open_to_all)
    open_to_all.chmod(0o600)
    with pytest.raises(IdentityInvalid):
        identity.load(tmp_path / "link")
    assert os.access(open_to_all, os.R_OK)
