# SPDX-License-Identifier: Apache-2.0
"""An outside RFC 3161 authority over heads of the log: somebody else's clock says that this head was there by then.

The token is checked against the authority's certificates before it is kept; note and token lie side by side in a
folder, `SIZE.note` and `SIZE.tsr`, written once. The authority keeps nothing: the folder is what remembers, and the
token is what nobody can make for another head afterwards. `openssl ts -verify -data SIZE.note -in SIZE.tsr -token_in`
reads it.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from ledger import checkpoint, timestamp
from ledger.anchors.base import file_name
from ledger.anchors.worm import WormFolder, write_once
from ledger.errors import AnchorAway, LedgerError
from ledger.tsa_client import stamp


class StampedFolder:
    """Stamped notes in a folder."""

    def __init__(self, folder: Path, url: str, certificates: tuple[bytes, ...]) -> None:
        """`certificates` as DER, the authority's own first."""
        self._notes = WormFolder(folder)
        self._url, self._certificates = url, certificates

    def put(self, note: bytes) -> str:
        """Have the note stamped and keep both, unless they are there."""
        imprint = hashlib.sha256(note).digest()
        where = Path(self._notes.put(note))
        beside = where.with_suffix(".tsr")
        if beside.exists():
            return str(where)
        if where.read_bytes() != note:
            raise AnchorAway(f"{where} holds another note and no token")
        try:
            (token,) = asyncio.run(stamp(self._url, [imprint]))
            self._authority().check(timestamp.parse(token), imprint)
            write_once(beside, token)
        except (OSError, LedgerError) as error:
            raise AnchorAway(f"{self._url}: {error}") from error
        return str(where)

    def heads(self) -> list[bytes]:
        """The notes whose token this authority made, largest first."""
        return [note for note in self._notes.heads() if self._proven(note)]

    def _proven(self, note: bytes) -> bool:
        head = checkpoint.parse(note)
        name = hashlib.sha256(head.origin.encode()).hexdigest()[:16]
        try:
            token = (self._notes.folder / name / file_name(head)).with_suffix(".tsr").read_bytes()
            self._authority().check(timestamp.parse(token), hashlib.sha256(note).digest())
        except (OSError, LedgerError):
            return False
        return True

    def _authority(self) -> timestamp.Authority:
        return timestamp.Authority("external", self._url, self._certificates)
