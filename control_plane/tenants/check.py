# SPDX-License-Identifier: Apache-2.0
"""Judging a tenant's export offline: is it whole, and does all in it hold under a trust file from elsewhere (G11, G5).

Enters the archive and a trust file; leaves what was counted, or what is wrong. The archive's own words are believed in
nothing: each file is held against the manifest, each content against its name, each bundle and the whole chain of
entries against the trust. Nothing is unpacked to disk and no socket is opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from control_plane.tenants.archive import FORMAT, MANIFEST
from ledger import proofs
from ledger.errors import LedgerError, UsageError
from ledger.proved import prove
from ledger.verify import verify

MOST_BYTES = 512 << 20
"""Of one file in it: none that a plane writes is as large."""
TOLD = 20
_CONTENT = re.compile(r"contents/[0-9a-f]{64}")


def check(file: Path, trust: bytes, now: datetime) -> dict[str, Any]:
    """What is in the archive and what is wrong with it; UsageError where it is none."""
    found = _Found()
    try:
        with tarfile.open(file, mode="r|") as archive:
            for path, data in _files(archive):
                found.take(path, data, trust, now)
    except (tarfile.TarError, OSError, EOFError) as error:
        found.wrong(file.name, f"{type(error).__name__}: it breaks off, or is no archive")
    found.close(trust, now)
    return found.report()


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if not member.isreg() or member.size > MOST_BYTES:
            raise UsageError(f"{member.name[:200]}: not a file that an export holds")
        read = archive.extractfile(member)
        if read is None:
            raise UsageError(f"{member.name[:200]}: no file")
        yield member.name, read.read()


class _Found:
    """What was read so far."""

    def __init__(self) -> None:
        self.hashes: dict[str, tuple[int, str]] = {}
        self.faults: list[dict[str, str]] = []
        self.manifest: dict[str, Any] | None = None
        self.evidence = self.contents = self.entries = 0
        self.tenant: str | None = None
        self._leaves: list[bytes] = []
        self._records: dict[int, tuple[bytes, ...]] = {}
        self._last: proofs.Inclusion | None = None

    def wrong(self, path: str, said: str) -> None:
        """One more fault."""
        self.faults.append({"file": path, "message": said})

    def take(self, path: str, data: bytes, trust: bytes, now: datetime) -> None:
        """One file, in the order of the archive."""
        if self.manifest is not None:
            self.wrong(path, "it comes after the manifest")
        if path == MANIFEST:
            self._read_manifest(data)
            return
        if path in self.hashes:
            self.wrong(path, "it is there twice")
        self.hashes[path] = len(data), (digest := hashlib.sha256(data).hexdigest())
        if _CONTENT.fullmatch(path):
            self.contents += 1
            if path != f"contents/{digest}":
                self.wrong(path, "its content is another than its name commits to")
        elif path.startswith("evidence/"):
            self._bundle(path, data, trust, now)
        elif path.startswith("ledger/"):
            self._ledger(path, data)

    def _read_manifest(self, data: bytes) -> None:
        try:
            said = json.loads(data)
            if said["format"] != FORMAT:
                raise ValueError
            files = {one["path"]: (one["bytes"], one["sha256"]) for one in said["files"]}
            self.tenant = str(said["tenant"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self.wrong(MANIFEST, f"it is no manifest of {FORMAT}")
            return
        self.manifest = said
        for path in sorted(files.keys() | self.hashes.keys()):
            if files.get(path) != self.hashes.get(path):
                self.wrong(path, "it isn't there, or isn't what the manifest names")

    def _bundle(self, path: str, data: bytes, trust: bytes, now: datetime) -> None:
        self.evidence += 1
        try:
            report = verify(data, trust, now)
        except LedgerError as error:
            self.wrong(path, str(error))
            return
        if report.verdict != "valid":
            self.wrong(path, f"{report.verdict}: {report.reason}")
        elif path != f"evidence/{json.loads(data)['job_id']}.json":
            self.wrong(path, "it is the evidence of another job")

    def _ledger(self, path: str, data: bytes) -> None:
        try:
            if path.startswith("ledger/entries/"):
                for line in data.splitlines():
                    one = json.loads(line)
                    self._leaves.append(base64.b64decode(one["leaf"], validate=True))
                    if records := one["records"]:
                        self._records[one["index"]] = tuple(base64.b64decode(row, validate=True) for row in records)
            elif path == "ledger/last.json":
                document = proofs.parse_document(data)
                self._last = document if isinstance(document, proofs.Inclusion) else None
        except (ValueError, TypeError, KeyError, RecursionError, LedgerError) as error:
            self.wrong(path, f"{type(error).__name__}: it can't be read")

    def close(self, trust: bytes, now: datetime) -> None:
        """What only the whole can tell."""
        if self.manifest is None:
            self.wrong(MANIFEST, "there is none: the export broke off")
        if self._last is None or self.tenant is None:
            self.wrong("ledger/last.json", "there is no proof of the tenant's last entry")
            return
        self.entries = len(self._leaves)
        whole = proofs.completeness(self.tenant, self._leaves, self._records, self._last.path, self._last.checkpoint)
        report = prove(proofs.document(whole), trust, now)
        if report.verdict != "valid":
            self.wrong("ledger/entries", f"{report.verdict}: {report.reason}")

    def report(self) -> dict[str, Any]:
        """What a command shows."""
        return {
            "verdict": "invalid" if self.faults else "valid",
            "tenant": self.tenant,
            "files": len(self.hashes),
            "evidence": self.evidence,
            "contents": self.contents,
            "entries": self.entries,
            "faults": self.faults[:TOLD],
            "fault_count": len(self.faults),
        }
