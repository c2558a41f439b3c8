# SPDX-License-Identifier: Apache-2.0
"""The export of a tenant as a file: a tar archive that is written as it is read, with a manifest at its end. Pure.

The manifest names each file with length and SHA-256; an archive without one is not whole. docs/tenant-export.md is the
format.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import Any

from ledger.canonical import dumps

FORMAT = "urn:qcos:tenant-export:v1"
MANIFEST = "manifest.json"


class _Sink(io.RawIOBase):
    """What tarfile writes, until it is taken."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # a buffer of any kind, as io says
        self.parts.append(bytes(data))
        return len(data)


class Writer:
    """Files in, chunks of the archive out; every file has the time `at` and one owner, so alike exports are alike."""

    def __init__(self, at: int) -> None:
        """`at` is in seconds since 1970."""
        self._at = at
        self._sink = _Sink()
        self._tar = tarfile.open(mode="w|", fileobj=self._sink, format=tarfile.PAX_FORMAT)  # noqa: SIM115 - by `end`
        self._files: list[dict[str, Any]] = []

    def add(self, path: str, data: bytes) -> bytes:
        """The bytes of the archive that are due with this file."""
        self._files.append({"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        return self._put(path, data)

    def end(self, about: Mapping[str, Any]) -> bytes:
        """The last bytes: the manifest, and what ends an archive."""
        whole = {"format": FORMAT, **about, "files": self._files}
        last = self._put(MANIFEST, dumps(whole))
        self._tar.close()
        return last + self._taken()

    def _put(self, path: str, data: bytes) -> bytes:
        member = tarfile.TarInfo(path)
        member.size, member.mtime, member.mode = len(data), self._at, 0o600
        self._tar.addfile(member, io.BytesIO(data))
        return self._taken()

    def _taken(self) -> bytes:
        parts, self._sink.parts = self._sink.parts, []
        return b"".join(parts)
