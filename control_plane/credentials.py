# SPDX-License-Identifier: Apache-2.0
"""Credentials of backends: with the worker that drives them, encrypted at rest, and nowhere else (S6, I10).

Each lies in a file of its own below QCOS_HOME/keys/backends: AES-256-GCM under that folder's root key, its name and the
time of its setting bound in. The command line writes them on the worker's machine; a worker reads one each time it is
used, so that a new one counts at once. No setting, row, answer, log, span or entry carries one, and no child is given
one. Where all processes are one OS user, as in `dev`, that user can read the root key: then this keeps secrets out of
copies of single files and out of view, not from that user.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from control_plane.errors import Refused
from hal_drivers.errors import BackendUnavailable
from ledger.canonical import timestamp
from ledger.errors import KeyInvalid
from ledger.keys import read_secret, sync_folder, write_secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOST_BYTES = 64 * 1024
_NONCE = 12
_SUFFIX = ".sealed"


class _Stored(Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    name: str
    set_at: str
    nonce: str
    sealed: str


class Named(Struct, frozen=True):
    """What may be shown of a credential."""

    name: str
    set_at: str


class Credentials:
    """The folder of one home."""

    def __init__(self, home: Path) -> None:
        """Read nothing yet."""
        self._folder = home / "keys" / "backends"

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    def put(self, name: str, secret: bytes, now: dt.datetime) -> Named:
        """Keep a credential, in place of an older one of the name; raises Refused `unusable_input`."""
        path = self._path(name)
        if not secret.strip() or len(secret) > MOST_BYTES:
            raise Refused("unusable_input", f"a credential has 1 to {MOST_BYTES} bytes")
        for folder in (self._folder.parent.parent, self._folder.parent, self._folder):  # a parent's mode is its own
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._root.exists():
            write_secret(self._root, os.urandom(32))
        named, nonce = Named(name, timestamp(now)), os.urandom(_NONCE)
        sealed = AESGCM(self._key()).encrypt(nonce, secret, _context(named))
        stored = _Stored(1, name, named.set_at, _text(nonce), _text(sealed))
        part = path.with_name(f".{path.name}.new")
        part.unlink(missing_ok=True)
        write_secret(part, msgspec.json.encode(stored))
        part.replace(path)
        sync_folder(self._folder)
        return named

    def names(self) -> list[Named]:
        """Names and dates, by name."""
        found = [self._stored(path) for path in sorted(self._folder.glob(f"[A-Za-z0-9]*{_SUFFIX}"))]
        return [Named(stored.name, stored.set_at) for stored in found]

    def remove(self, name: str) -> None:
        """Forget it; raises Refused `not_found`."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise Refused("not_found", f"no credential {name}") from None
        sync_folder(self._folder)

    def read(self, name: str) -> bytes:
        """The credential; raises Refused `not_found`, KeyInvalid where it was changed or its key isn't there."""
        path = self._path(name)
        if not path.exists():
            raise Refused("not_found", f"no credential {name}")
        stored = self._stored(path)
        if stored.name != name:
            raise KeyInvalid(f"{path.name} is the credential of another name")
        try:
            nonce, sealed = base64.b64decode(stored.nonce), base64.b64decode(stored.sealed)
            return AESGCM(self._key()).decrypt(nonce, sealed, _context(Named(name, stored.set_at)))
        except (InvalidTag, ValueError):
            raise KeyInvalid(f"{path.name} doesn't open with this home's key") from None

    def _key(self) -> bytes:
        return read_secret(self._root)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise Refused("unusable_input", "a credential's name is 1 to 64 of A-Z a-z 0-9 . _ -")
        return self._folder / f"{name}{_SUFFIX}"

    def _stored(self, path: Path) -> _Stored:
        try:
            return msgspec.json.decode(read_secret(path), type=_Stored)
        except msgspec.DecodeError:
            raise KeyInvalid(f"{path.name} is no credential of this program") from None


def of_worker(home: Path) -> Callable[[str], str]:
    """What a worker's drivers ask for credentials; BackendUnavailable says why there is none, and no more."""
    kept = Credentials(home)

    def credential(name: str) -> str:
        try:
            return kept.read(name).decode()
        except Refused:
            raise BackendUnavailable(f"this worker has no credential {name}; qcos backends credential set") from None
        except (KeyInvalid, UnicodeDecodeError):
            raise BackendUnavailable(f"credential {name} can't be opened; qcos backends credential set") from None

    return credential


def _context(named: Named) -> bytes:
    return f"qcos-backend-credential/1\0{named.name}\0{named.set_at}".encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
