# SPDX-License-Identifier: Apache-2.0
"""A job's evidence as a Sigstore bundle, of its ECDSA signature or of the ML-DSA-65 twin over the same payload.

Enters a job's row; leaves the file, or Refused: `form_unsigned` where the level has no such signature, `form_unlogged`
where it was sealed before signatures were logged. A stock verifier wants a time-stamp over the signature itself. A
`full` job's were made at sealing; a `standard` one rests on its checkpoint's, so that the plane's own authority stamps
its signature when it is asked for: a time after the fact, and a new one each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.folded_store
import ledger.head_store
import ledger.signature_store
import ledger.store
from control_plane import trust
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs.evidence import Row
from ledger import export, sigstore
from ledger.batch import LOGGED
from ledger.chain import leaf_hash_text, scan_leaf
from ledger.checkpoint import parse
from ledger.errors import LedgerError
from ledger.keys import ECDSA_P256, ED25519, EVIDENCE, LOG, ML_DSA_65
from ledger.logged import LoggedLeaf, parse_logged
from ledger.predicate import pae
from ledger.rekor import P256, HashedRekord, KeyDetails, leaf_of
from ledger.signature_store import StoredKey, StoredSignature
from ledger.tsa_client import UNIX, stamp

# Which of the log's two signature lines a stock verifier is led to: that of the signature's own age.
_LOG_KEY = {ECDSA_P256: ED25519, ML_DSA_65: ML_DSA_65}


async def bundle(plane: Plane, row: Row, details: KeyDetails) -> bytes:
    """The bundle of the signature by a key of this kind."""
    if row["statement_blob"] is None:
        raise Refused("evidence_pending", "the job has not ended")
    async with plane.transaction(row["tenant"]) as conn:
        signed = await _signed(conn, row, details)
        logged = await _logged(plane, conn, row, signed, details)
    if not logged.tokens:
        try:
            made = await stamp(f"{UNIX}{plane.settings.tsa_socket}", [_imprint(logged.record)])
        except LedgerError as error:
            raise Refused("evidence_pending", f"waiting for a time-stamp: {error}") from None
        logged = replace(logged, tokens=tuple(made))
    return sigstore.bundle(logged)


async def _signed(conn: AsyncConnection, row: Row, details: KeyDetails) -> StoredSignature:
    """The signature row of the job's evidence, which has the signature that is asked for."""
    signed = await ledger.signature_store.signature(conn, str(row["bundle_id"]))
    entry_id = str(row["outcome_entry"] or row["admission_entry"])
    # A record that is folded has level `sealed` and no row, as one that waits has none yet.
    waits = signed is None and not await ledger.store.sealed(conn, [entry_id])
    if waits and await ledger.folded_store.fold_of(conn, entry_id) is None:
        raise Refused("evidence_pending", "the entry is durable and not sealed yet")
    level = signed.level if signed is not None else "sealed"
    if signed is None or level == "sealed":
        raise Refused("form_unsigned", "its evidence is of level sealed: it rests on checkpoint and proof, unsigned")
    if details == P256 and signed.p256 is None:
        raise Refused("form_unsigned", f"its evidence is of level {level}, which has an ML-DSA-65 signature alone")
    return signed


async def _logged(
    plane: Plane, conn: AsyncConnection, row: Row, signed: StoredSignature, details: KeyDetails
) -> sigstore.Logged:
    head = await ledger.head_store.checkpoint_over(conn, signed.index)
    if head is None:  # entry and checkpoint are one commit; a missing one is a broken ledger
        raise Refused("not_in_log", f"no checkpoint covers entry {signed.index}")
    named = await _named(conn, signed, head.size, details)
    keys = await ledger.signature_store.keys(conn)
    statement = (await plane.vault.read(conn, row["tenant"], row["statement_blob"])).content
    record, key = _record(statement, signed, named, keys)
    return sigstore.Logged(
        statement=statement,
        record=record,
        hint=trust.name_of(key),
        index=named.index,
        path=tuple(await export.inclusion(conn, named.index, head.size)),
        note=head.note,
        log_id=_log_id(head.note, [one.public for one in keys if (one.purpose, one.alg) == (LOG, _LOG_KEY[key.alg])]),
        tokens=await _tokens(conn, record) if signed.level == "full" else (),
    )


async def _named(conn: AsyncConnection, signed: StoredSignature, end: int, details: KeyDetails) -> LoggedLeaf:
    """Where the log has the record: an entry of the tenant's, later in the same batch, says it."""
    for leaf in await ledger.store.leaves(conn, signed.tenant, LOGGED, signed.index, end):
        found = parse_logged(scan_leaf(leaf).body)
        if found.bundle_id == signed.bundle_id:
            return next(one for one in found.leaves if one.key_details == details)
    raise Refused("form_unlogged", "it was sealed before this plane logged each signature by itself")


def _record(
    statement: bytes, signed: StoredSignature, named: LoggedLeaf, keys: Sequence[StoredKey]
) -> tuple[HashedRekord, StoredKey]:
    """The record whose hash the log has, and the key that made its signature."""
    digest = hashlib.sha256(pae(statement)).digest()
    alg, made = (ECDSA_P256, signed.p256) if named.key_details == P256 else (ML_DSA_65, signed.mldsa65)
    for key in keys:
        if key.purpose == EVIDENCE and key.alg == alg and made is not None:
            record = HashedRekord(digest=digest, signature=made, key_details=named.key_details, public=key.public)
            if leaf_hash_text(leaf_of(record)) == named.leaf_hash:
                return record, key
    raise Refused("not_in_log", f"entry {named.index} is not the record of the job's signature")


def _log_id(note: bytes, publics: Sequence[bytes]) -> bytes:
    """The log by that of its keys which signed this note."""
    head = parse(note)
    hints = {line.key_hash for line in head.lines}
    for public in publics:
        found = sigstore.log_id(head.origin, public)
        if found[:4] in hints:
            return found
    raise Refused("not_in_log", f"no key of the log signed checkpoint {head.size}")


async def _tokens(conn: AsyncConnection, record: HashedRekord) -> tuple[bytes, ...]:
    found = await ledger.signature_store.tokens(conn, _imprint(record))
    if not found:
        raise Refused("evidence_pending", "waiting for a time-stamp")
    return tuple(token.der for token in sorted(found, key=lambda token: token.operator != "self"))


def _imprint(record: HashedRekord) -> bytes:
    return hashlib.sha256(record.signature).digest()
