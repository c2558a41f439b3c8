# SPDX-License-Identifier: Apache-2.0
"""Every private key signs in one way, wherever it lies (G12): files, encrypted files, and a token of softhsm2."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ledger import checkpoint, keys, tsa
from ledger.custody import PLAIN, Custody
from ledger.errors import KeyInvalid
from ledger.keyring import Keyring, read_passphrase
from ledger.sealer_keys import create_sealer_keys, load_sealer_keys, published
from ledger.signer import Signer
from ledger.timestamp import low_s
from tests.ledger import softhsm

ALGORITHMS = (keys.ED25519, keys.ML_DSA_44, keys.ML_DSA_65, keys.ECDSA_P256)
MESSAGE = b"what is signed"


def passphrase(folder: Path, text: str = "correct horse battery staple") -> Path:
    path = folder / "passphrase"
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")
    return path


@pytest.fixture(params=["plain", "encrypted", "pkcs11"])
def custody(request: pytest.FixtureRequest, tmp_path: Path) -> Custody:
    if request.param == "plain":
        return PLAIN
    if request.param == "encrypted":
        return Custody(passphrase_file=passphrase(tmp_path))
    token = softhsm.token()
    if token is None:
        pytest.skip(softhsm.MISSING)
    return token


def check_signer(signer: Signer, alg: str) -> None:
    """What every signer promises: its algorithm, a public half that can be published, signatures of one form."""
    assert signer.alg == alg
    public = keys.parse_spki(keys.spki(signer.public))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(signer.sign, [MESSAGE] * 8))
    for signature in made:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, MESSAGE, ec.ECDSA(hashes.SHA256()))
            assert low_s(signature) == signature
        else:
            public.verify(signature, MESSAGE)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_signer_signs_alike_wherever_its_key_lies(custody: Custody, tmp_path: Path, alg: str) -> None:
    ring = Keyring(tmp_path / "keys", custody)
    made = ring.create("one", alg)
    check_signer(made, alg)
    again = Keyring(tmp_path / "keys", custody).load("one", alg)
    check_signer(again, alg)
    assert keys.spki(again.public) == keys.spki(made.public)
    assert ring.names() == ["one"]
    with pytest.raises(FileExistsError):
        ring.create("one", alg)


def test_a_key_that_is_moved_signs_on_and_one_that_is_destroyed_does_not(custody: Custody, tmp_path: Path) -> None:
    ring, place = Keyring(tmp_path / "next", custody), tmp_path / "keys"
    old = Keyring(place, custody).create("one", keys.ECDSA_P256)
    new = ring.create("one", keys.ECDSA_P256)
    ring.move("one", place)
    found = Keyring(place, custody).load("one", keys.ECDSA_P256)
    assert keys.spki(found.public) == keys.spki(new.public) != keys.spki(old.public)
    assert not ring.has("one")
    content = next(place.glob("one.*")).read_bytes()
    Keyring(place, custody).destroy("one")
    Keyring(place, custody).destroy("one")
    if custody.backend == "pkcs11":  # the object is gone, not only its name
        keys.write_secret(place / "one.hsm", content)
        with pytest.raises(KeyInvalid, match="NoSuchKey"):
            Keyring(place, custody).load("one", keys.ECDSA_P256)


def test_a_sealer_and_an_authority_take_their_keys_from_any_custody(custody: Custody, tmp_path: Path) -> None:
    create_sealer_keys(tmp_path / "sealer", custody)
    held = load_sealer_keys(tmp_path / "sealer", custody)
    note = checkpoint.sign("qcos/dev/k", 3, b"\x01" * 32, ed25519=held.log_ed25519, mldsa65=held.log_mldsa65)
    log = [key.public for key in published(held) if key.purpose == keys.LOG]
    assert checkpoint.verify(note, checkpoint.verifiers("qcos/dev/k", log)).size == 3
    tsa.create_tsa_keys(tmp_path / "tsa", custody, now=datetime(2026, 11, 21, tzinfo=UTC))
    assert tsa.load_tsa_keys(tmp_path / "tsa", custody).chain == tsa.load_chain(tmp_path / "tsa")


def test_an_encrypted_file_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    custody = Custody(passphrase_file=passphrase(tmp_path))
    Keyring(tmp_path / "keys", custody).create("one", keys.ML_DSA_65)
    path = tmp_path / "keys" / "one.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    load_pem_private_key(path.read_bytes(), b"correct horse battery staple")
    (tmp_path / "other").mkdir()
    other = Custody(passphrase_file=passphrase(tmp_path / "other", "another passphrase"))
    for wrong, said in ((other, "of another passphrase"), (PLAIN, "encrypted; say where")):
        with pytest.raises(KeyInvalid, match=said):
            Keyring(tmp_path / "keys", wrong).load("one", keys.ML_DSA_65)


def test_a_key_that_nothing_encrypts_is_for_development_and_can_be_encrypted(tmp_path: Path) -> None:
    made = Keyring(tmp_path / "keys").create("one", keys.ED25519)
    strict = Keyring(tmp_path / "keys", Custody(passphrase_file=passphrase(tmp_path)))
    with pytest.raises(KeyInvalid, match="nothing encrypts it"):
        strict.load("one", keys.ED25519)
    with pytest.raises(KeyInvalid, match="say where its passphrase lies"):
        Keyring(tmp_path / "none", Custody()).create("one", keys.ED25519)
    assert strict.encrypt("one")
    assert not strict.encrypt("one")
    assert keys.spki(strict.load("one", keys.ED25519).public) == keys.spki(made.public)


@pytest.mark.parametrize(("mode", "text", "said"), [(0o644, "x" * 20, "mode 0644"), (0o600, "short", "5 bytes")])
def test_a_passphrase_that_others_read_or_that_is_short_is_refused(
    tmp_path: Path, mode: int, text: str, said: str
) -> None:
    path = passphrase(tmp_path, text)
    path.chmod(mode)
    with pytest.raises(KeyInvalid, match=said):
        read_passphrase(path)


def test_the_file_of_a_wrapped_seed_is_bound_to_its_public_half(tmp_path: Path) -> None:
    token = softhsm.token()
    if token is None:
        pytest.skip(softhsm.MISSING)
    ring = Keyring(tmp_path, token)
    ring.create("one", keys.ML_DSA_65)
    ring.create("two", keys.ML_DSA_65)
    one, two = (msgspec.json.decode((tmp_path / f"{name}.hsm").read_bytes()) for name in ("one", "two"))
    assert load_is_refused(ring, one | {"public": two["public"]})
    assert load_is_refused(ring, one | {"alg": keys.ML_DSA_44})
    assert load_is_refused(ring, one | {"token": "another"})
    (tmp_path / "one.hsm").write_bytes(msgspec.json.encode(one))
    check_signer(ring.load("one", keys.ML_DSA_65), keys.ML_DSA_65)


def load_is_refused(ring: Keyring, reference: dict[str, object]) -> bool:
    (ring.folder / "one.hsm").write_bytes(msgspec.json.encode(reference))
    with pytest.raises(KeyInvalid):
        ring.load("one", keys.ML_DSA_65)
    return True
