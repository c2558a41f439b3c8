# SPDX-License-Identifier: Apache-2.0
"""What one log entry is: from the writer's pending record to the exact bytes of its leaf, and back.

A writer makes a `Pending`; its canonical bytes lie in the inbox. The sealer alone adds what places it in the
log: `index`, `tenant_index`, `tenant_prev` (the RFC 6962 leaf hash of the tenant's entry before it, so that a
tenant's history can be shown complete without showing others) and, on a batch's first entry,
`prev_checkpoint`. Invariant: leaf = canonical JSON of {v: 1, type: "entry"} + the pending fields + the
placement, nothing else, so the same pending record in the same place has the same bytes (I6), and parsing
accepts those bytes alone. `hashedrekord` leaves (docs/evidence-format.md section 2) are Rekor bodies without
this header and stand outside the tenant chain; `parse_leaf` refuses them, `leaf_type` tells them apart,
`ledger.rekor` reads them. Pure: no clock, no randomness, no I/O.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.canonical import dumps, loads, parse_time, sha256, timestamp
from ledger.errors import EvidenceUnbound, LeafInvalid, LedgerError

PLANE = "_plane"  # the tenant of entries that belong to no tenant
LEAF_VERSION: Literal[1] = 1
MAX_PENDING = 60_000  # bytes; with its placement a leaf fits the 16-bit length of C2SP entry bundles
SALT_BYTES = 32

EntryId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Tenant = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}\Z")]
Kind = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*){1,3}\Z", max_length=100)]
Hash = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
TimeText = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Number = Annotated[int, Meta(ge=0)]
Level = Literal["full", "standard", "sealed"]


class Pending(Struct, frozen=True, kw_only=True):
    """An entry as its writer knows it; `kind` is source:subject:action, `actor` a pseudonym, `time` aware.

    `traceparent` and `patient` travel beside the entry and are no part of it: to whoever traces its sealing, and to the
    sealer, where nobody waits for this entry by itself.
    """

    entry_id: str
    tenant: str
    kind: str
    actor: str
    time: datetime
    body: dict[str, Any]
    commitments: dict[str, str] = {}
    schema: int = 1
    traceparent: str | None = None
    patient: bool = False


class Evidence(Struct, frozen=True, kw_only=True):
    """The finished Statement of a bundle, for the sealer to sign, and the 32-byte salt of its commitment."""

    bundle_id: str
    level: Level
    statement: bytes
    salt: bytes


class Draft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pending record read back from its canonical bytes; `body` stays the bytes that the writer chose."""

    entry_id: EntryId
    tenant: Tenant
    kind: Kind
    actor: Name
    time: TimeText
    body: msgspec.Raw
    commitments: dict[Name, Hash]
    schema: Annotated[int, Meta(ge=1)]


class LeafRecord(Draft, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A leaf's fields as they are written; `body` stays bytes, so that reading a whole log is quick."""

    index: Number
    tenant_index: Number
    tenant_prev: Hash | None  # no default, hence always written
    type: Literal["entry"]
    v: Literal[1]
    prev_checkpoint: Hash | None = None


class Skimmed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A leaf's fields without the forms of their texts, which take most of the time of reading a leaf."""

    entry_id: str
    tenant: str
    kind: str
    actor: str
    time: str
    body: msgspec.Raw
    commitments: dict[str, str]
    schema: int
    index: int
    tenant_index: int
    tenant_prev: str | None
    type: Literal["entry"]
    v: Literal[1]
    prev_checkpoint: str | None = None


class Leaf(Struct, frozen=True, kw_only=True):
    """A sealed entry: what the writer said and where the sealer put it."""

    entry_id: str
    tenant: str
    kind: str
    actor: str
    time: datetime
    body: dict[str, Any]
    commitments: dict[str, str]
    schema: int
    index: int
    tenant_index: int
    tenant_prev: str | None
    prev_checkpoint: str | None


_draft = msgspec.json.Decoder(Draft).decode
_wire = msgspec.json.Decoder(LeafRecord).decode
_skim = msgspec.json.Decoder(Skimmed).decode
_encode = msgspec.json.Encoder(order="sorted").encode


_BESIDE = frozenset({"traceparent", "patient"})


def pending_bytes(pending: Pending) -> bytes:
    """The canonical bytes that go into the inbox; LeafInvalid or NotCanonical when a field is ill-formed."""
    fields = {name: getattr(pending, name) for name in pending.__struct_fields__ if name not in _BESIDE}
    data = dumps(fields | {"time": timestamp(pending.time)})
    parse_pending(data)
    return data


def parse_pending(data: bytes) -> Draft:
    """Read a pending record, refusing unknown fields, ill-formed ones and any spelling but the canonical."""
    if len(data) > MAX_PENDING:
        raise LeafInvalid(f"an entry of {len(data)} bytes; the limit is {MAX_PENDING}")
    loads(data, what="pending entry")
    try:
        draft = _draft(data)
    except msgspec.ValidationError as error:
        raise LeafInvalid(f"pending entry: {error}") from error
    _check(draft)
    return draft


def place(
    draft: Draft, *, index: int, tenant_index: int, tenant_prev: str | None, prev_checkpoint: str | None
) -> bytes:
    """The leaf of a draft in its place. Only the sealer MUST call this on live data."""
    return _encode(
        LeafRecord(
            entry_id=draft.entry_id,
            tenant=draft.tenant,
            kind=draft.kind,
            actor=draft.actor,
            time=draft.time,
            body=draft.body,
            commitments=draft.commitments,
            schema=draft.schema,
            index=index,
            tenant_index=tenant_index,
            tenant_prev=tenant_prev,
            prev_checkpoint=prev_checkpoint,
            type="entry",
            v=LEAF_VERSION,
        )
    )


def is_leaf_of(draft: Draft, leaf: bytes) -> bool:
    """Whether a sealed leaf says what the draft says, wherever it lies."""
    wire = _wire(leaf)
    return leaf == place(
        draft,
        index=wire.index,
        tenant_index=wire.tenant_index,
        tenant_prev=wire.tenant_prev,
        prev_checkpoint=wire.prev_checkpoint,
    )


def leaf_bytes(
    pending: Pending, *, index: int, tenant_index: int, tenant_prev: str | None, prev_checkpoint: str | None
) -> bytes:
    """The exact leaf bytes of a pending entry at a place in the log."""
    return place(
        parse_pending(pending_bytes(pending)),
        index=index,
        tenant_index=tenant_index,
        tenant_prev=tenant_prev,
        prev_checkpoint=prev_checkpoint,
    )


def parse_leaf(data: bytes) -> Leaf:
    """Read an `entry` leaf; LeafInvalid or NotCanonical for anything that `leaf_bytes` would not have
    written.
    """
    value = loads(data, what="leaf")
    try:
        wire = _wire(data)
    except msgspec.ValidationError as error:
        raise LeafInvalid(f"leaf: {error}") from error
    _check(wire)
    if (wire.tenant_index == 0) != (wire.tenant_prev is None):
        raise LeafInvalid("leaf: tenant_prev is null on a tenant's first entry and on no other")
    if "prev_checkpoint" in value and wire.prev_checkpoint is None:
        raise LeafInvalid("leaf: prev_checkpoint is left out, never null")
    return Leaf(
        entry_id=wire.entry_id,
        tenant=wire.tenant,
        kind=wire.kind,
        actor=wire.actor,
        time=parse_time(wire.time),
        body=value["body"],
        commitments=wire.commitments,
        schema=wire.schema,
        index=wire.index,
        tenant_index=wire.tenant_index,
        tenant_prev=wire.tenant_prev,
        prev_checkpoint=wire.prev_checkpoint,
    )


def scan_leaf(data: bytes) -> LeafRecord:
    """The fields of a leaf whose bytes are held against the tree, hence not against their canonical form
    again.
    """
    try:
        return _wire(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LeafInvalid(f"leaf: {error}") from error


def skim_leaf(data: bytes) -> Skimmed:
    """The fields of a leaf that the sealer placed, for whoever reads a whole log: the sealer has checked their forms.

    One that doesn't decode is read again by `scan_leaf`, which says why it is none.
    """
    try:
        return _skim(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        scan_leaf(data)
        raise LeafInvalid("leaf: not an entry") from None


def body_of(record: Draft | Skimmed) -> dict[str, Any]:
    """The body of a draft or a scanned leaf."""
    try:
        body = msgspec.json.decode(record.body)
    except ValueError as error:  # text in it that is no UTF-8: a raw member isn't looked into when a leaf is read
        raise LeafInvalid("body is not JSON in UTF-8") from error
    if not isinstance(body, dict):
        raise LeafInvalid("body is not an object")
    return body


def leaf_type(data: bytes) -> Literal["entry", "hashedrekord"]:
    """Which of the two leaf types the bytes claim to be; a Rekor body has `apiVersion` and no `type`."""
    value = loads(data, what="leaf")
    if isinstance(value, dict):
        if value.get("type") == "entry":
            return "entry"
        if value.get("kind") == "hashedrekord" and "apiVersion" in value:
            return "hashedrekord"
    raise LeafInvalid("leaf: neither an entry nor a hashedrekord")


def bind(pending: Pending, evidence: Evidence) -> Pending:
    """The entry that rests on `evidence`: body names bundle and level, commitments hold SHA-256(salt ‖
    statement).

    Idempotent. EvidenceUnbound when the entry already says otherwise, or the salt is not 32 bytes.
    """
    if len(evidence.salt) != SALT_BYTES:
        raise EvidenceUnbound(f"the statement's salt has {len(evidence.salt)} bytes, not {SALT_BYTES}")
    body = {"evidence": {"bundle_id": evidence.bundle_id, "level": evidence.level}}
    commitments = {"statement": commitment(evidence.salt, evidence.statement)}
    if pending.body.get("evidence", body["evidence"]) != body["evidence"]:
        raise EvidenceUnbound("the entry names another bundle")
    if pending.commitments.get("statement", commitments["statement"]) != commitments["statement"]:
        raise EvidenceUnbound("the entry commits to another statement")
    return msgspec.structs.replace(pending, body=pending.body | body, commitments=pending.commitments | commitments)


def check_bound(draft: Draft, evidence: Evidence) -> None:
    """Raise EvidenceUnbound unless the draft is what `bind` made for this evidence."""
    if body_of(draft).get("evidence") != {"bundle_id": evidence.bundle_id, "level": evidence.level}:
        raise EvidenceUnbound("the entry does not name this bundle and level")
    if len(evidence.salt) != SALT_BYTES:
        raise EvidenceUnbound("the statement has no salt")
    if draft.commitments.get("statement") != commitment(evidence.salt, evidence.statement):
        raise EvidenceUnbound("the entry does not commit to this statement")


def claims_evidence(draft: Draft | Skimmed) -> bool:
    """Whether an entry says that a signed statement rests on it."""
    return "statement" in draft.commitments and "evidence" in body_of(draft)


def commitment(salt: bytes, content: bytes) -> str:
    """`sha256:` of salt ‖ content: says nothing about the content once the salt is erased with it."""
    return sha256(salt + content)


def leaf_hash_text(leaf: bytes) -> str:
    """The RFC 6962 section 2.1 leaf hash as `tenant_prev` writes it."""
    return "sha256:" + hashlib.sha256(b"\x00" + leaf).hexdigest()


def _check(record: Draft) -> None:
    if memoryview(record.body)[0] != ord("{"):
        raise LeafInvalid("body is not an object")
    try:
        parse_time(record.time)
    except LedgerError as error:
        raise LeafInvalid(f"time: {error}") from error
