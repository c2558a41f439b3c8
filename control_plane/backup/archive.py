# SPDX-License-Identifier: Apache-2.0
"""A backup as a file: a ZIP with a manifest that hashes every other member. No database, no clock.

Members: `manifest.json`; `tables/SCHEMA.TABLE`, the rows as PostgreSQL's COPY text; `home/PATH`, files of the home.
Read strictly: the members are those that the manifest names and no others, each of the size and hash that it says. The
manifest is not signed: what proves a restored ledger is the ledger itself. Mode 0600, because keys lie in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import QcosError
from ledger.keys import sync_folder

TYPE: Literal["urn:qcos:backup:v1"] = "urn:qcos:backup:v1"
CHUNK = 1 << 20
MAX_MANIFEST = 16 << 20
_MANIFEST = "manifest.json"
_TABLE = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*\Z"
_PATH = r"^(keys/[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*){0,3}|dev-login|qcos\.toml)\Z"
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class BackupInvalid(QcosError):
    """The file isn't a whole backup as this program makes them."""

    code = "backup_invalid"


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """Size and hash of a member's content."""

    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """One table's rows, with the columns in their order."""

    name: Annotated[str, Meta(pattern=_TABLE)]
    columns: tuple[str, ...]
    rows: Annotated[int, Meta(ge=0)]
    content: Member


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the home, by its path in there."""

    path: Annotated[str, Meta(pattern=_PATH)]
    mode: Annotated[int, Meta(ge=0, le=0o777)]
    content: Member


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """The log as it stood: `checkpoint` is the signed note."""

    origin: str
    size: int
    root: str
    checkpoint: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is in the archive, and of what plane it is."""

    type: Literal["urn:qcos:backup:v1"] = TYPE
    created_at: str
    qcos: str
    profile: str
    plane: str
    schema_version: str
    postgresql: str
    log: Log | None
    waiting: int
    keys: bool
    settings: dict[str, Any]
    tables: tuple[Table, ...]
    files: tuple[File, ...]


class Writer:
    """An archive that is being written."""

    def __init__(self, into: zipfile.ZipFile) -> None:
        self._zip = into

    def member(self, name: str, write: Callable[[Callable[[bytes], None]], None]) -> Member:
        """Add a member; `write` is given what to call with each piece."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(name, "w", force_zip64=True) as out:

            def put(piece: bytes) -> None:
                nonlocal size
                out.write(piece)
                digest.update(piece)
                size += len(piece)

            write(put)
        return Member(size, digest.hexdigest())

    def end(self, manifest: Manifest) -> None:
        """Add the manifest, last."""
        self._zip.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Write a new archive that appears whole and durable, or not at all; FileExistsError if there is one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as into:
                yield Writer(into)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike rename, fails where a file already is
    finally:
        part.unlink()
    sync_folder(path.parent)


class Reader:
    """An archive that was opened; nothing in it is believed before `check`."""

    def __init__(self, source: zipfile.ZipFile) -> None:
        self._zip = source
        self.manifest = self._manifest()

    def check(self) -> None:
        """Raise BackupInvalid unless every member is there, once, of its size and hash, and no other is."""
        names = [info.filename for info in self._zip.infolist()]
        members = self._members()
        if sorted(names) != sorted([_MANIFEST, *members]):
            odd = sorted(set(names).symmetric_difference([_MANIFEST, *members]))
            raise BackupInvalid(f"not the members that the manifest names: {', '.join(odd[:5]) or 'one twice'}")
        for name in members:
            for _ in self.pieces(name):
                pass

    def pieces(self, name: str) -> Iterator[bytes]:
        """A member's content; BackupInvalid where it turns out not to be what the manifest says."""
        told, digest, left = self._members()[name], hashlib.sha256(), self._members()[name].size
        with _faults(name), self._zip.open(name) as source:
            while piece := source.read(CHUNK):
                digest.update(piece)
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left or digest.hexdigest() != told.sha256:
            raise BackupInvalid(f"{name} isn't what the manifest says")

    def _members(self) -> dict[str, Member]:
        tables = {f"tables/{table.name}": table.content for table in self.manifest.tables}
        return tables | {f"home/{file.path}": file.content for file in self.manifest.files}

    def _manifest(self) -> Manifest:
        with _faults(_MANIFEST), self._zip.open(_MANIFEST) as source:
            data = source.read(MAX_MANIFEST + 1)
        if len(data) > MAX_MANIFEST:
            raise BackupInvalid("a manifest that is too large")
        try:
            return msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise BackupInvalid(f"its manifest isn't understood: {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open an archive; BackupInvalid for any other file."""
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise BackupInvalid(f"{path}: {error.strerror}") from error
    with file, _faults(str(path)):
        source = zipfile.ZipFile(file)
    with path.open("rb") as file, zipfile.ZipFile(file) as source:
        yield Reader(source)


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Whatever a damaged or hostile ZIP makes its reader raise."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        raise BackupInvalid(f"{what}: {re.sub('[^ -~]', '?', str(error))[:200] or type(error).__name__}") from error
