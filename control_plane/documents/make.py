# SPDX-License-Identifier: Apache-2.0
"""A job's document, made once and kept: the second who asks gets the same bytes (G3, G4).

(1) what was issued before is opened from its blob; (2) a child draws the page and builds the signature's structure; (3)
an entry of the tenant asks the sealer for the signature, which lies in a table once that entry is sealed; (4) the
plane's authority stamps, and the outside one where there is one; (5) one transaction keeps the bytes, encrypted, and
writes the entry with their hash; whoever was second drops its own and takes the first; (6) it is handed out once that
entry is sealed. A child that is killed, or a sealer or authority that is away, leaves nothing but entries that asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from weakref import WeakValueDictionary

import ledger.store
from control_plane.context import Plane
from control_plane.documents import chains, store, talk
from control_plane.errors import Refused
from control_plane.jobs import evidence
from control_plane.jobs.evidence import Row
from control_plane.settings import Settings
from ledger import documents, tsa_client
from ledger.canonical import sha256
from ledger.chain import Pending
from ledger.document_keys import crls_of
from ledger.errors import LedgerError
from ledger.tsa import load_chain, load_revoked

ACTOR = "documents"  # of the entries that this writes; who asked is in the request's log
LIMIT_S = 60.0  # for a whole document: import, drawing, signature, tokens
SEAL_S = 10.0  # for the sealer to take an entry
LOOK_S = 0.02
AT_ONCE = 2  # children of one process
_under_way: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
_room = asyncio.Semaphore(AT_ONCE)


async def pdf(plane: Plane, row: Row) -> bytes:
    """The document about an ended job; Refused `evidence_pending` while anything that it needs is awaited."""
    async with plane.transaction(row["tenant"]) as conn:
        data = await evidence.bundle(plane, conn, row)  # says what is pending or erased before anything is made
    key = (row["tenant"], str(row["bundle_id"]))
    lock = _under_way.setdefault(key, asyncio.Lock())  # held by this name while anybody waits
    async with lock:
        found = await _issued(plane, row)
        if found is None:
            async with _room:
                made = await _made(plane, row, data)
            found = await _issue(plane, row, made)
        return found


async def _issued(plane: Plane, row: Row) -> bytes | None:
    tenant = row["tenant"]
    async with plane.transaction(tenant) as conn:
        known = await store.issued(conn, tenant, str(row["bundle_id"]))
        if known is None:
            return None
        opened = await plane.vault.read(conn, tenant, known.blob)
    await _sealed(plane, tenant, known.entry_id)
    return opened.content


async def _made(plane: Plane, row: Row, data: bytes) -> bytes:
    order = await asyncio.to_thread(_order, plane.settings, data)
    try:
        async with asyncio.timeout(LIMIT_S), _child() as process:
            return await _converse(plane, row, order, process)
    except TimeoutError:
        raise Refused("document_failed", f"not made within {LIMIT_S:.0f} s") from None
    except (OSError, EOFError, LedgerError, asyncio.IncompleteReadError) as error:
        if isinstance(error, LedgerError) and error.code in ("time_unavailable", "token_invalid"):
            raise Refused("evidence_pending", "waiting for a time-stamp on the document") from None
        raise Refused("document_failed", f"the document could not be made: {type(error).__name__}") from error


async def _converse(plane: Plane, row: Row, order: talk.Order, process: asyncio.subprocess.Process) -> bytes:
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes
    process.stdin.write(talk.frame(order))
    while True:
        await process.stdin.drain()
        match await talk.said(process.stdout):
            case talk.Sign(digest):
                given = await _signature(plane, row, digest, order.signer.certificates[0])
            case talk.Stamp(operator, digest):
                target = plane.settings.tsa_url if operator == "external" else f"unix:{plane.settings.tsa_socket}"
                (given,) = await tsa_client.stamp(str(target), (digest,))
            case talk.Made(document):
                return document
            case talk.Failed(error):
                raise Refused("document_failed", f"the document could not be made: {error}")
        process.stdin.write(talk.frame(talk.Given(given)))


async def _signature(plane: Plane, row: Row, digest: bytes, certificate: bytes) -> bytes:
    """Ask the sealer by an entry, and wait until it is sealed."""
    asked: dict[str, object] = {
        "bundle_id": str(row["bundle_id"]),
        "evidence_entry": str(row["outcome_entry"] or row["admission_entry"]),
        "digest": f"sha256:{digest.hex()}",
        "certificate": sha256(certificate),
    }
    pending = _entry(plane, row, documents.PREPARED, asked)
    async with plane.transaction(row["tenant"]) as conn:
        await ledger.store.append(conn, ((pending, None),))
    until = time.monotonic() + SEAL_S
    while time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        async with plane.transaction(row["tenant"]) as conn:
            sealed, signature = await store.signature(conn, pending.entry_id)
        if signature is not None:
            return signature
        if sealed:
            raise Refused("document_failed", f"the sealer refused to sign: entry {pending.entry_id}")
    raise Refused("evidence_pending", "the document waits for its seal")


async def _issue(plane: Plane, row: Row, document: bytes) -> bytes:
    """Keep the document and tell its hash in one transaction; the bytes of whoever was first."""
    tenant = row["tenant"]
    await plane.vault.ready(plane.engine, tenant)
    (sealed,) = plane.vault.seal(tenant, (document,))
    told: dict[str, object] = {"bundle_id": str(row["bundle_id"]), "job_id": row["job_id"], "format": "pdf"}
    told |= {"sha256": sha256(document), "size": len(document)}
    pending = _entry(plane, row, documents.ISSUED, told, document=sealed.commitment)
    kept = store.Issued(blob=sealed.commitment, entry_id=pending.entry_id, sha256=sha256(document))
    async with plane.transaction(tenant) as conn:
        first = await store.issue(conn, tenant, row["job_id"], str(row["bundle_id"]), kept)
        if first:
            await ledger.store.append(conn, ((pending, None),), (sealed.blob,))
    if first:
        await _sealed(plane, tenant, pending.entry_id)
        return document
    found = await _issued(plane, row)
    if found is None:
        raise Refused("content_erased", "the content was erased while the document was made")
    return found


def _entry(plane: Plane, row: Row, kind: str, body: dict[str, object], **commitments: str) -> Pending:
    return Pending(
        entry_id=str(uuid.uuid4()),
        tenant=row["tenant"],
        kind=kind,
        actor=ACTOR,
        time=plane.now(),
        body=body,
        commitments=commitments,
    )


async def _sealed(plane: Plane, tenant: str, entry_id: str) -> None:
    """Wait until the entry is sealed: the hash of what is handed out stands in the log by then."""
    until = time.monotonic() + SEAL_S
    while time.monotonic() < until:
        async with plane.transaction(tenant) as conn:
            if await ledger.store.sealed(conn, (entry_id,)):
                return
        await asyncio.sleep(LOOK_S)
    raise Refused("evidence_pending", "the document waits for its seal")


def _order(settings: Settings, data: bytes) -> talk.Order:
    chain, folder = chains.current(settings), settings.home / "keys" / "tsa"
    revoked = load_revoked(folder)
    outside = None
    if settings.tsa_url and settings.tsa_certificates:
        from control_plane.authorities import read_chain

        path = Path(settings.tsa_certificates)
        outside = talk.Chain(read_chain(path), crls_of(path.read_bytes()))
    return talk.Order(
        bundle=data,
        signer=talk.Chain(chain.certificates, chain.crls),
        self_issued=chains.self_issued(settings),
        stamper=talk.Chain(load_chain(folder), (revoked,) if revoked is not None else ()),
        outside=outside,
    )


@contextlib.asynccontextmanager
async def _child() -> AsyncIterator[asyncio.subprocess.Process]:
    """The child, without this process's environment; gone when the block is left, whatever happened."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "control_plane.documents.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
