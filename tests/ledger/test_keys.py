# SPDX-License-Identifier: Apache-2.0
"""Key files: private, whole, never overwritten (G12, I10)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import KeyInvalid
from ledger.keys import parse_spki, read_secret, spki
from ledger.sealer_keys import create_sealer_keys, load_sealer_keys, published


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "keys" / "sealer"
    create_sealer_keys(folder)
    first = published(load_sealer_keys(folder))
    create_sealer_keys(folder)
    assert published(load_sealer_keys(folder)) == first
    names = {"log_ed25519.pem", "log_mldsa65.pem", "evidence_mldsa65.pem", "evidence_p256.pem"}
    assert {path.name for path in folder.iterdir()} == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len({key.public for key in first}) == 4


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_sealer_keys(tmp_path)
    (tmp_path / "log_mldsa65.pem").chmod(0o640)
    with pytest.raises(KeyInvalid, match=r"log_mldsa65\.pem: mode 0640"):
        load_sealer_keys(tmp_path)


@pytest.mark.parametrize("name", ["log_ed25519", "log_mldsa65", "evidence_mldsa65", "evidence_p256"])
def test_a_key_of_another_kind_is_refused_by_name(tmp_path: Path, name: str) -> None:
    create_sealer_keys(tmp_path)
    wrong = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (wrong, b"no key"):
        (tmp_path / f"{name}.pem").write_bytes(content)
        with pytest.raises(KeyInvalid, match=f"{name}.pem"):
            load_sealer_keys(tmp_path)


def test_a_missing_or_linked_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("link", "nothing"):
        with pytest.raises(KeyInvalid, match=name):
            read_secret(tmp_path / name)


def test_a_public_key_has_one_encoding() -> None:
    public = spki(Ed25519PrivateKey.generate().public_key())
    assert spki(parse_spki(public)) == public
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
    others = (
        public + b"\x00",
        b"",
        p384.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    for data in others:
        with pytest.raises(KeyInvalid):
            parse_spki(data)
