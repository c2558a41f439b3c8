# SPDX-License-Identifier: Apache-2.0
"""Whether a restored database is the plane that it says it is: log, fold, keys, and the heads that others kept.

Everything here reads; what is wrong raises. The newest checkpoint must be signed by the very keys that were restored,
so the whole tree under it is theirs; the rows must be what the entries tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

import ledger.blob_store
import ledger.signature_store
from control_plane import db
from control_plane.backup import store
from control_plane.backup.archive import BackupInvalid, Manifest
from control_plane.db import Database
from control_plane.jobs import refold
from ledger import checkpoint
from ledger.audit import Verification, verify_log
from ledger.blob import BlobKeys
from ledger.custody import Custody
from ledger.errors import CheckpointInvalid, KeyInvalid, LedgerRollback, LogForeign
from ledger.keys import LOG, read_secret
from ledger.sealer_keys import load_sealer_keys, published
from ledger.succession import Head, head_of

_SHOWN = 3


class Sound(Struct, frozen=True):
    """What was found good."""

    entries: int
    jobs: int


async def judge(database: Database, manifest: Manifest, keys: Path, custody: Custody) -> Sound:
    """Verify the whole log and hold every row against its fold; raises BackupInvalid or KeyInvalid."""
    note = manifest.log.checkpoint.encode() if manifest.log else None
    audit = db.engine(database.audit, connections=2, name="qcos-restore")
    try:
        async with db.snapshot(audit) as conn:
            report = await verify_log(conn, head=note)
            known = {key.public for key in await ledger.signature_store.keys(conn)}
            wrapped = await ledger.blob_store.tenant_keys(conn)
        _log(report, manifest)
        folded = await refold.replay(audit, compare=True)
    finally:
        await audit.dispose()
    if folded.differences:
        raise BackupInvalid(f"its rows aren't what its ledger tells: {'; '.join(folded.differences[:_SHOWN])}")
    await asyncio.to_thread(_keys, keys, custody, known, wrapped, note)
    return Sound(report.checked, folded.jobs)


def _log(report: Verification, manifest: Manifest) -> None:
    if report.failures:
        named = "; ".join(f"entry {failure.index}: {failure.reason}" for failure in report.failures[:_SHOWN])
        raise BackupInvalid(f"its ledger doesn't verify: {named}")
    size, root = (manifest.log.size, manifest.log.root) if manifest.log else (0, report.root)
    if (report.size, report.root) != (size, root):
        raise BackupInvalid(f"its ledger has {report.size} entries, its manifest says {size}")


def _keys(folder: Path, custody: Custody, known: set[bytes], wrapped: Sequence[bytes], note: bytes | None) -> None:
    """The keys are those of this log and of these contents."""
    ours = published(load_sealer_keys(folder / "sealer", custody))
    if known and not {key.public for key in ours} <= known:
        raise KeyInvalid("keys/sealer holds other keys than the log has published")
    if note is not None:
        origin = checkpoint.parse(note).origin
        verifiers = checkpoint.verifiers(origin, [key.public for key in ours if key.purpose == LOG])
        try:
            checkpoint.verify(note, verifiers)
        except CheckpointInvalid as error:
            raise BackupInvalid(f"its newest checkpoint isn't signed by the keys in keys/sealer: {error}") from error
    root = BlobKeys.load(folder / "blob" / "root")
    for one in wrapped:
        root.tenant_key(one)
    read_secret(folder / "pseudonym")


def lost(database: Database, kept: Sequence[bytes], *, origin: str) -> Head | None:
    """The largest of the heads kept outside that this log doesn't contain; None where it contains each.

    `origin` is the plane's first: a head of another plane's log raises LogForeign, for there it says nothing.
    """
    missing = []
    with store.snapshot(database) as conn:
        for note in kept:
            head = head_of(note)
            if head.origin != origin and not head.origin.startswith(f"{origin}/"):
                raise LogForeign(head.origin, origin)
            if store.note_of(conn, head.size) != note:
                missing.append(head)
    return max(missing, key=lambda head: head.size, default=None)


def refuse_older(manifest: Manifest, kept: Sequence[bytes]) -> None:
    """Raise LedgerRollback where a head kept outside is ahead of the backup: seen before anything is loaded."""
    size = manifest.log.size if manifest.log else 0
    for note in kept:
        ahead = head_of(note).size
        if ahead > size:
            raise rollback(ahead, size)


def rollback(kept: int, size: int) -> LedgerRollback:
    """The refusal, with the way out."""
    reason = "sealed entries are lost: restore a newer backup, or begin a new log with --new-log REASON"
    return LedgerRollback(kept_size=kept, stored_size=size, reason=reason)
