# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the state that the register tells, with their hash in the ledger (S4).

Enters: a plane's home, on its machine. Leaves: `QCOS_HOME/snapshots/SIZE.json`, canonical JSON of the note of a
checkpoint and the state of the entries under it (`jobs.register`), and for each tenant an entry `ledger:snapshot:made`
{size, root, checkpoint, state_sha256}: the plane's own over the whole state, a tenant's over its part. A snapshot is
believed only if such an entry names its hash, so that a file that somebody changed starts no replay. It holds every
tenant's jobs and balances, and is of mode 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import ledger.head_store
import ledger.store
from control_plane.db import Database, engine, snapshot, transaction
from control_plane.errors import QcosError, Refused
from control_plane.home import make_folder
from control_plane.jobs import refold
from control_plane.jobs.refold import Start
from control_plane.jobs.register import Register, restored
from control_plane.sealing import utc_now
from control_plane.seed import PLANE_ACTOR
from control_plane.settings import Settings
from ledger import canonical, checkpoint
from ledger.chain import PLANE, Draft, Pending, body_of, scan_leaf
from ledger.errors import LedgerError
from ledger.head_store import StoredCheckpoint

KIND = "ledger:snapshot:made"
KEPT = 12


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file's members."""

    type: Literal["urn:qcos:snapshot:v1"] = "urn:qcos:snapshot:v1"
    checkpoint: str
    state: dict[str, Any]


class Made(msgspec.Struct, frozen=True):
    """What was written; `entry_id` of the plane's own entry, null where nothing had changed since the one before."""

    file: str
    size: int
    root: str
    state_sha256: str
    entry_id: str | None


def folder(settings: Settings) -> Path:
    """Where the plane's snapshots lie."""
    return settings.home / "snapshots"


def files(settings: Settings) -> list[Path]:
    """The snapshots that are kept, oldest first."""
    return sorted(folder(settings).glob("[0-9]*.json"))


async def make(settings: Settings) -> Made:
    """Fold what was sealed since the last snapshot, write the state, and tell it in the ledger."""
    database = Database.of_home(settings.home / "db")
    audit = engine(database.audit, connections=2, name="qcos-snapshot")
    app = engine(database.app, connections=1, name="qcos-snapshot")
    written: list[tuple[Made, dict[str, str], str]] = []

    def keep(register: Register, head: StoredCheckpoint) -> None:
        if register.faults:
            raise Refused("ledger_inconsistent", f"no snapshot of what does not follow: {register.faults[0]}")
        state = register.document()
        name = folder(settings) / f"{head.size:015}.json"
        note = head.note.decode()
        _write(name, canonical.dumps(msgspec.to_builtins(Snapshot(checkpoint=note, state=state))))
        whole = canonical.sha256(canonical.dumps(state))
        written.append((Made(str(name), head.size, head.root.hex(), whole, None), register.hashes(), note))

    try:
        await refold.replay(audit, compare=False, start=await newest(settings, audit), keep=keep)
        if not written:
            raise Refused("not_in_log", "the log has no checkpoint yet")
        made, parts, note = written[0]
        known = await _told(audit, made.size)
        if made.state_sha256 not in known:
            made = msgspec.structs.replace(made, entry_id=await _tell(app, made, parts, note))
    finally:
        await audit.dispose()
        await app.dispose()
    for old in files(settings)[:-KEPT]:
        old.unlink(missing_ok=True)
    return made


async def keep_making(settings: Settings) -> None:
    """Make one whenever the newest is older than `snapshot_every_s`, each in a process of its own, until canceled.

    One that fails is told in `log/snapshot.log` and tried again next time: without it a replay only takes longer.
    """
    every_s = settings.snapshot_every_s
    if not every_s:
        return
    since_s = time.time()
    while True:
        last = max([since_s, *(file.stat().st_mtime for file in files(settings)[-1:])])
        await asyncio.sleep(max(last + every_s - time.time(), min(every_s, 1.0)))
        log = settings.home / "log" / "snapshot.log"
        with log.open("ab") as out:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "control_plane.cli", "ledger", "snapshot", "--json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "QCOS_HOME": str(settings.home)},
            )
        try:
            await child.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            raise
        since_s = time.time()


async def newest(settings: Settings, audit: AsyncEngine) -> Start | None:
    """The newest snapshot that the ledger names; None where there is none, and replaying begins at the first entry."""
    for file in reversed(files(settings)):
        try:
            return await opened(file, audit)
        except QcosError:
            continue
    return None


async def opened(file: Path, audit: AsyncEngine) -> Start:
    """A snapshot as a state to go on from; Refused `snapshot_invalid` unless the ledger names its very bytes."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Refused("unusable_input", f"{file}: {error.strerror}") from None
    try:
        canonical.loads(data, what="snapshot")
        found = msgspec.json.decode(data, type=Snapshot)
        head = checkpoint.parse(found.checkpoint.encode())
    except (LedgerError, ValueError) as error:
        raise Refused("snapshot_invalid", f"{file}: {error}") from None
    digest = canonical.sha256(canonical.dumps(found.state))
    async with snapshot(audit) as conn:
        stored = await ledger.head_store.checkpoint(conn, head.size)
        told = await _hashes(conn, head.size)
    if stored is None or stored.note != found.checkpoint.encode():
        raise Refused("snapshot_invalid", f"{file}: its checkpoint is not this log's")
    if digest not in told:
        raise Refused("snapshot_invalid", f"{file}: no entry of the ledger names its hash {digest}")
    return Start(head.size, restored(found.state))


async def _told(audit: AsyncEngine, size: int) -> set[str]:
    async with snapshot(audit) as conn:
        return await _hashes(conn, size)


async def _hashes(conn: AsyncConnection, size: int) -> set[str]:
    """The hashes of snapshots of this size that the ledger tells of, sealed or durable."""
    records: list[Draft] = [scan_leaf(leaf) for leaf in await ledger.store.leaves(conn, PLANE, KIND, size - 1, 2**62)]
    records += [draft for draft in await ledger.store.waiting(conn) if (draft.tenant, draft.kind) == (PLANE, KIND)]
    bodies = [body_of(record) for record in records]
    return {body["state_sha256"] for body in bodies if body["size"] == size}


async def _tell(app: AsyncEngine, made: Made, parts: dict[str, str], note: str) -> str:
    """One entry of the plane's own, last, and before it one for each tenant over what is the tenant's."""
    name = str(uuid.uuid4())
    hashes = {tenant: digest for tenant, digest in parts.items() if tenant != PLANE}
    for tenant, digest in (*hashes.items(), (PLANE, made.state_sha256)):
        pending = Pending(
            entry_id=name if tenant == PLANE else str(uuid.uuid4()),
            tenant=tenant,
            kind=KIND,
            actor=PLANE_ACTOR,
            time=utc_now(),
            body={
                "size": made.size,
                "root": made.root,
                "checkpoint": checkpoint.note_hash(note.encode()),
                "state_sha256": digest,
            },
        )
        async with transaction(app, tenant) as conn:
            await ledger.store.append(conn, [(pending, None)])
    return name


def _write(file: Path, data: bytes) -> None:
    """The whole file or none, for nobody else to read."""
    make_folder(file.parent)
    part = file.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
