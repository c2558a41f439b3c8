# SPDX-License-Identifier: Apache-2.0
"""What an operator does about the plane's keys, on its machine: see, encrypt, rotate, revoke them (G12).

A revocation is an entry of the log under the plane's own tenant, which the trust file carries; asked for here and not
through the API, because no tenant's administrator may end the keys of all. Whoever may read `QCOS_HOME/db` may ask.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import ledger.signature_store
import ledger.store
from control_plane import trust
from control_plane.db import Database, engine, transaction
from control_plane.errors import Refused
from control_plane.home import running_record
from control_plane.seed import PLANE_ACTOR
from control_plane.settings import Settings
from ledger import document_keys, policy_key, rotating
from ledger.canonical import parse_time, timestamp
from ledger.chain import PLANE, Pending
from ledger.errors import NotCanonical
from ledger.keyring import Keyring
from ledger.rotation import REVOKED, Revoked
from ledger.sealer_keys import NAMES
from ledger.trust import TrustFile, parse_trust

SEALED_S = 30.0
ROTATED_S = 60.0
LOOK_S = 0.05
AHEAD = timedelta(minutes=10)
FOLDERS = {"sealer": (*NAMES, document_keys.NAME, policy_key.NAME), "tsa": ("tsa",)}


def rings(settings: Settings) -> dict[str, Keyring]:
    """The folders of keys that sign, by the process that opens them."""
    return {name: Keyring(settings.home / "keys" / name, settings.keys) for name in FOLDERS}


def encrypt(settings: Settings) -> list[str]:
    """Encrypt each key file that nothing encrypts yet; which."""
    found = [(ring, name, key) for name, ring in rings(settings).items() for key in FOLDERS[name]]
    return [f"{name}/{key}" for ring, name, key in found if ring.encrypt(key)]


async def told(settings: Settings) -> TrustFile:
    """What a trust file of now would say; raises Unreachable where no plane runs here."""
    running_record(settings.home)
    app = engine(Database.of_home(settings.home / "db").app, connections=1, name="qcos-keys")
    try:
        async with transaction(app, PLANE) as conn:
            keys, history = await ledger.signature_store.keys(conn), await ledger.signature_store.key_history(conn)
    finally:
        await app.dispose()
    data = await asyncio.to_thread(trust.build, settings, settings.plane, keys, history, datetime.now(UTC))
    return parse_trust(data).file


def listed(settings: Settings, found: TrustFile) -> list[dict[str, Any]]:
    """Each key and authority: its window, its revocations, and for those in use where the private half lies."""
    rows: list[dict[str, Any]] = []
    for purpose, keys in (("log", found.log.keys), ("evidence", found.evidence)):
        rows += [_row(settings, found, purpose, key.id, key.alg, key) for key in keys]
    rows += [_row(settings, found, f"tsa ({one.operator})", one.name, None, one) for one in found.tsa]
    rows += [_row(settings, found, "witness", one.id, one.alg, one) for one in found.witnesses]
    return rows


def _row(settings: Settings, found: TrustFile, purpose: str, name: str, alg: str | None, one: Any) -> dict[str, Any]:
    held = None if one.valid_until is not None else _lies(settings, purpose, alg)
    return {
        "id": name,
        "purpose": purpose,
        "alg": alg,
        "valid_from": one.valid_from,
        "valid_until": one.valid_until,
        "revoked": [{"at": entry.at, "reason": entry.reason} for entry in found.revoked if entry.id == name],
        "private": held,
    }


def _lies(settings: Settings, purpose: str, alg: str | None) -> str | None:
    if purpose == "tsa (self)":
        return where(settings.home / "keys" / "tsa", "tsa")
    names = [name for name, (of, kind) in NAMES.items() if (of, kind) == (purpose, alg)]
    return where(settings.home / "keys" / "sealer", names[0]) if names else None


def where(folder: Path, name: str) -> str:
    """Where a private key lies, in a word."""
    if (folder / f"{name}.hsm").exists():
        return "hsm, wrapped seed" if b'"wrapped":"' in (folder / f"{name}.hsm").read_bytes() else "hsm"
    if not (folder / f"{name}.pem").exists():
        return "missing"
    encrypted = (folder / f"{name}.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED")
    return "encrypted file" if encrypted else "plain file"


async def revoke(settings: Settings, name: str, at: str | None, reason: str) -> dict[str, Any]:
    """Write that keys prove nothing from a moment on; `name` is an id of `told`, or one that two of them begin with.

    Refused (`unusable_input`) for another name, a moment to come, or no reason. Sealed when it returns.
    """
    now = datetime.now(UTC)
    try:
        since = now if at is None else parse_time(at)
    except NotCanonical as error:
        raise Refused("unusable_input", f"--at: {error}; wanted: {timestamp(now)}, for instance") from None
    if since > now + AHEAD:
        raise Refused("unusable_input", f"--at: {at} is still to come")
    if not reason.strip() or len(reason) > 500 or not reason.isascii():
        raise Refused("unusable_input", "--reason: 1 to 500 ASCII characters, of which readers judge the first word")
    found = await told(settings)
    known = [row["id"] for row in listed(settings, found)] + [one.name for one in found.documents]
    ids = [one for one in known if one == name] or [one for one in known if one.startswith(f"{name}-")]
    if not ids:
        raise Refused("unusable_input", f"no key or authority {name!r:.80}; known: {', '.join(known)}")
    entries = [Revoked(one, timestamp(since), reason) for one in ids]
    await write(settings, [(REVOKED, one.body()) for one in entries])
    version = (await told(settings)).version
    return {"revoked": ids, "at": timestamp(since), "reason": reason, "trust_version": version}


async def write(settings: Settings, told: list[tuple[str, dict[str, Any]]]) -> None:
    """Write entries of the plane's own and wait until they are sealed."""
    app = engine(Database.of_home(settings.home / "db").app, connections=1, name="qcos-keys")
    now = datetime.now(UTC)
    entries = [
        Pending(entry_id=str(uuid.uuid4()), tenant=PLANE, kind=kind, actor=PLANE_ACTOR, time=now, body=body)
        for kind, body in told
    ]
    wanted, until = {entry.entry_id for entry in entries}, time.monotonic() + SEALED_S
    try:
        async with transaction(app, PLANE) as conn:
            await ledger.store.append(conn, [(entry, None) for entry in entries])
        while True:
            async with transaction(app, PLANE) as conn:
                if await ledger.store.sealed(conn, wanted) == wanted:
                    return
            if time.monotonic() > until:
                raise Refused("evidence_pending", "written, and not sealed yet; qcos status says why")
            await asyncio.sleep(LOOK_S)
    finally:
        await app.dispose()


async def rotate(settings: Settings, purpose: Literal["log", "evidence"], *, archive: bool) -> dict[str, Any]:
    """Have the sealer rotate keys, and wait until it has told what became of the old ones.

    What was asked for stands until it is done: it waits while time-stamps are awaited, and through restarts.
    """
    running_record(settings.home)
    folder, request = settings.home / "keys" / "sealer", str(uuid.uuid4())
    try:
        rotating.ask(folder, rotating.Request(request, purpose, archive))
    except FileExistsError:
        raise Refused("evidence_pending", "another rotation isn't over yet; qcos status says why") from None
    until = time.monotonic() + ROTATED_S
    while (folder / rotating.FILE).exists():
        if time.monotonic() > until:
            raise Refused("evidence_pending", "asked for, and waiting: time-stamps are awaited, or sealing has stopped")
        await asyncio.sleep(LOOK_S)
    app = engine(Database.of_home(settings.home / "db").app, connections=1, name="qcos-keys")
    try:
        async with transaction(app, PLANE) as conn:
            history = await ledger.signature_store.key_history(conn)
    finally:
        await app.dispose()
    said = next(one.statement for one in history.rotations if one.statement.request == request)
    return {
        "purpose": purpose,
        "ended": [trust.name_of(key) for key in said.ended],
        "begun": [trust.name_of(key) for key in said.begun],
        "size": said.size,
        "at": said.at,
        "private": "archived" if archive else "destroyed",
        "trust_version": (await told(settings)).version,
    }
