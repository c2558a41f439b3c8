# SPDX-License-Identifier: Apache-2.0
"""A folder of private keys by name, each in a file or in an HSM: made, opened, taken away.

A key NAME is either `NAME.pem` (PKCS8, encrypted unless the custody admits plain keys; ML-DSA as its 32-byte seed,
RFC 9881 section 6) or `NAME.hsm` (`ledger.hsm`: what names the key in its token). Files have mode 0600 in a folder of
0700, are written whole or not at all and never overwritten. A key that others may read, or that nothing encrypts
where that isn't admitted, is refused and not repaired: what was exposed stays exposed. `create` makes keys where the
custody says; `load` opens whichever kind is there, so that a plane goes over to an HSM by one rotation.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ledger import hsm
from ledger.custody import PLAIN, Custody
from ledger.errors import KeyInvalid
from ledger.keys import read_secret, sync_folder, write_secret
from ledger.signer import Held, PrivateKey, Signer, algorithm, generate

PASSPHRASE_BYTES = 16  # at least so many: PKCS8's derivation is no defence for a word
_KINDS = (".pem", ".hsm")


class Keyring:
    """The keys of a folder, under a custody."""

    def __init__(self, folder: Path, custody: Custody = PLAIN) -> None:
        self.folder = folder
        self.custody = custody

    def has(self, name: str) -> bool:
        """Whether there is such a key; nothing is opened."""
        return any((self.folder / f"{name}{kind}").exists() for kind in _KINDS)

    def names(self) -> list[str]:
        """The names of the keys that are there."""
        found = (path for path in self.folder.glob("*") if path.suffix in _KINDS and not path.name.startswith("."))
        return sorted({path.stem for path in found if not path.stem.endswith("-chain")})

    def create(self, name: str, alg: str) -> Signer:
        """A new key under this name; FileExistsError if there is one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.has(name):
            raise FileExistsError(self.folder / name)
        if self.custody.backend == "pkcs11":
            write_secret(self.folder / f"{name}.hsm", hsm.create(self.custody, f"qcos {name}", alg))
        else:
            write_secret(self.folder / f"{name}.pem", self._pem(generate(alg)))
        return self.load(name, alg)

    def load(self, name: str, alg: str) -> Signer:
        """The key of this name; KeyInvalid says which file can't be used and why."""
        if (self.folder / f"{name}.hsm").exists():
            signer: Signer = hsm.load(self.custody, f"{name}.hsm", read_secret(self.folder / f"{name}.hsm"))
        else:
            signer = Held(self._open(f"{name}.pem"))
        if signer.alg != alg:
            raise KeyInvalid(f"{name}: not an {alg} key but {signer.alg}")
        return signer

    def put(self, name: str, private: PrivateKey) -> None:
        """Keep a key that was made elsewhere, as a file; FileExistsError if there is one."""
        write_secret(self.folder / f"{name}.pem", self._pem(private))

    def encrypt(self, name: str) -> bool:
        """Replace an unencrypted file by one under the passphrase; whether there was something to do.

        The old bytes may lie on the disk still: what matters is rotated afterwards.
        """
        path = self.folder / f"{name}.pem"
        if not path.exists() or _encrypted(read_secret(path)):
            return False
        if self.custody.passphrase_file is None:
            raise KeyInvalid("no passphrase file is set: QCOS_KEY_PASSPHRASE_FILE, or passphrase_file under [keys]")
        part = path.with_name(f"{name}.pem.encrypted")
        part.unlink(missing_ok=True)
        write_secret(part, self._pem(_parse(path.name, read_secret(path), None)))
        part.replace(path)
        sync_folder(self.folder)
        return True

    def move(self, name: str, to: Path) -> None:
        """Take a key over into another folder, replacing what has its name there; repeating it changes nothing."""
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kind in _KINDS:
            path = self.folder / f"{name}{kind}"
            if path.exists():
                path.replace(to / path.name)
                for other in _KINDS:
                    if other != kind:
                        (to / f"{name}{other}").unlink(missing_ok=True)
        sync_folder(to)
        sync_folder(self.folder)

    def destroy(self, name: str) -> None:
        """End a key for ever: its file is overwritten and removed, its object in the HSM destroyed."""
        if not self.has(name):
            return
        token = self.folder / f"{name}.hsm"
        if token.exists():
            hsm.destroy(self.custody, read_secret(token))
        for kind in _KINDS:
            path = self.folder / f"{name}{kind}"
            with suppress(FileNotFoundError):
                # Of little use on a copying or wearing-levelled disk, and free: an encrypted key is gone with its file.
                size = path.stat().st_size
                with path.open("r+b") as file:
                    file.write(b"\0" * size)
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
        sync_folder(self.folder)

    def _pem(self, key: PrivateKey) -> bytes:
        custody = self.custody
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if custody.passphrase_file is not None:
            how = serialization.BestAvailableEncryption(read_passphrase(custody.passphrase_file))
        elif not custody.plain:
            raise KeyInvalid(_WANTED)
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)

    def _open(self, name: str) -> PrivateKey:
        data = read_secret(self.folder / name)
        if not _encrypted(data):
            if not self.custody.plain:
                raise KeyInvalid(f"{name}: nothing encrypts it, which this profile refuses: qcos keys encrypt")
            return _parse(name, data, None)
        if self.custody.passphrase_file is None:
            raise KeyInvalid(f"{name}: encrypted; {_WANTED}")
        return _parse(name, data, read_passphrase(self.custody.passphrase_file))


_WANTED = "say where its passphrase lies: QCOS_KEY_PASSPHRASE_FILE, or passphrase_file under [keys]"


def read_passphrase(path: Path) -> bytes:
    """The passphrase in a file, without the line's end; KeyInvalid if others may read it or it is short.

    A group may read it and it may be a link: that is how services are handed their secrets.
    """
    try:
        with path.open("rb") as file:
            mode, data = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read(4097)
    except OSError as error:
        raise KeyInvalid(f"passphrase file {path.name}: {error.strerror}") from error
    if mode & 0o037:
        raise KeyInvalid(f"passphrase file {path.name}: mode {mode:04o}, must be 0600 or 0640 or less")
    found = data.removesuffix(b"\n")
    if not PASSPHRASE_BYTES <= len(found) <= 1024:  # the most that OpenSSL takes
        raise KeyInvalid(f"passphrase file {path.name}: {len(found)} bytes, must be {PASSPHRASE_BYTES} to 1024")
    return found


def _encrypted(pem: bytes) -> bool:
    return pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def _parse(name: str, data: bytes, passphrase: bytes | None) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "not a PKCS8 key" if passphrase is None else "not a PKCS8 key, or of another passphrase"
        raise KeyInvalid(f"{name}: {what}") from error
    try:
        algorithm(key)
    except KeyInvalid as error:
        raise KeyInvalid(f"{name}: {error}") from error
    return key  # type: ignore[return-value]  # `algorithm` has refused every other kind
