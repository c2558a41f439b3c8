# SPDX-License-Identifier: Apache-2.0
"""The evidence of one job: the closed predicate (version 1), the in-toto Statement made of it, and the bundle file.

Enters: values that the plane measured or decided. Leaves: the Statement's bytes (what is committed, signed and
stamped) and the bundle file (canonical JSON: the predicate's fields on top, beside `signatures`, `proof`, `contents`).
The Statement is derived from the predicate alone, so the file carries no second copy of it that could disagree.
The field set is closed: a missing, unknown or null-where-required member is refused; a later version adds a struct
beside this one and `parse_bundle` then reads both. docs/evidence-format.md explains every field.
Not here: whether any of it is true (`ledger.verify`), keys, clocks, I/O. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from ledger import canonical
from ledger.errors import EvidenceInvalid, NotCanonical, UsageError

PREDICATE_TYPE: Final = "urn:qcos:evidence:v1"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"  # DSSE payload type of an in-toto Statement
STATEMENT_COMMITMENT = "statement"  # the name under which an entry's leaf commits to salt ‖ statement
SALT_BYTES = 32
MAX_FILE_BYTES = (
    16 * 1024 * 1024
)  # a bundle carries at most 1 MB of artefacts; the rest is slack for long histories
MAX_CARRIED_BYTES = 1_000_000  # all artefacts of one file together (contracts.md); larger sets go by hash

Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Count = Annotated[int, Meta(ge=0, le=canonical.MAX_INTEGER)]
Hash = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Time = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")]
Money = Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?\Z")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]

State = Literal["COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"]
Level = Literal["full", "standard", "sealed"]
Profile = Literal["dev", "saas", "dedicated", "onprem", "airgapped"]


class _Closed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every field is required and no other is allowed: a dropped or added member never passes unseen."""


class Scope(_Closed, frozen=True):
    """Where the evidence was made; signed, so that a development key cannot speak for production."""

    profile: Profile
    plane: Text
    tenant: Text


class Fault(_Closed, frozen=True):
    """Why a job ended without a complete result."""

    code: Text
    detail: str


class ExecutionMetadata(_Closed, frozen=True):
    """What ran where and when (G3, G4); null where the job never came that far."""

    backend: Text | None
    provider: Text | None
    region: Text | None
    compliance_zone: Text | None
    start_time: Time | None
    end_time: Time | None
    shots_executed: Count
    queue_time_ms: Count
    attempt: Count
    seed: Annotated[int, Meta(ge=-canonical.MAX_INTEGER, le=canonical.MAX_INTEGER)] | None
    method: Text | None


class PolicyReason(_Closed, frozen=True):
    """One reason of a denial."""

    code: Text
    message: str


class GovernanceRecord(_Closed, frozen=True):
    """Who, for what, and by which decision (G3, G4)."""

    actor: Annotated[str, Meta(pattern=r"^(user|service):[^@\s]+@[^@\s]+\Z", max_length=512)]
    team: Text | None
    department: Text | None
    project: Text
    cost_center: Text | None
    classification: Text
    purpose: Text
    justification: str | None
    policies_applied: tuple[Text, ...]
    policy_decisions: Annotated[tuple[Literal["allow", "deny"], ...], Meta(min_length=1)]
    decision_id: Uuid
    policy_revision: Text
    policy_engine: Text
    reasons: tuple[PolicyReason, ...]


class Submission(_Closed, frozen=True):
    """What was asked for."""

    submitted_at: Time
    format: Literal["QASM2", "QASM3", "QPY"]
    compiler_version: Text | None
    shots: Count
    retention_days: Count


class CostLine(_Closed, frozen=True):
    """One meter's charge; `amount` is `quantity` times `rate`, exactly."""

    meter: Text
    quantity: Money
    unit: Text
    rate: Money
    amount: Money
    source: Text


class Cost(_Closed, frozen=True):
    """What the job was charged, by the rate card of that hash."""

    amount: Money
    currency: Currency
    rate_card: Hash
    lines: tuple[CostLine, ...]


class Transition(_Closed, frozen=True):
    """One step of the job's state, with its sequence number in the job."""

    seq: Count
    state: Text
    at: Time


class RouteChoice(_Closed, frozen=True):
    """What routing made of one backend."""

    backend: Text
    verdict: Literal["chosen", "not_chosen", "excluded"]
    reason: str


class Artefact(_Closed, frozen=True):
    """One content by hash; `carried` says that the file's `contents` holds its bytes."""

    name: Text
    media_type: Text
    sha256: Hash
    size: Count
    carried: bool
    source: Literal["asserted", "observed", "recomputed"]


class Gap(_Closed, frozen=True):
    """A field that could not be captured, and why."""

    field: Text
    reason: Text


class Predicate(_Closed, frozen=True):
    """The evidence record, version 1: what the signatures cover."""

    version: Literal[1]
    bundle_id: Uuid
    job_id: Text
    scope: Scope
    evidence_level: Level
    state: State
    partial: Text | None
    error: Fault | None
    input_hash: Hash
    output_hash: Hash | None
    execution_metadata: ExecutionMetadata
    governance_record: GovernanceRecord
    submission: Submission
    cost: Cost | None
    history: tuple[Transition, ...]
    route: tuple[RouteChoice, ...]
    environment: dict[str, str]
    artefacts: tuple[Artefact, ...]
    provenance: dict[str, Literal["asserted", "observed", "recomputed"]]
    gaps: tuple[Gap, ...]


class Stamp(_Closed, frozen=True):
    """A time-stamp token (RFC 3161 TimeStampToken, DER) and whose it is."""

    operator: Literal["self", "external"]
    token: bytes


class Signatures(_Closed, frozen=True):
    """What was made over the statement's PAE, and the tokens over that (or over the checkpoint)."""

    qcos_signature: bytes | None
    ecdsa_p256_signature: bytes | None
    timestamp_authority: Annotated[tuple[Stamp, ...], Meta(max_length=16)]


class Proof(_Closed, frozen=True):
    """The entry that commits to the statement, and its place under a signed checkpoint."""

    leaf: bytes
    path: Annotated[tuple[bytes, ...], Meta(max_length=64)]
    checkpoint: str
    statement_salt: bytes


class Bundle(Predicate, frozen=True):
    """The file: the predicate's own fields, and what proves them."""

    signatures: Signatures
    proof: Proof
    contents: dict[str, bytes]

    def predicate(self) -> Predicate:
        """The record without its proofs, which is what was signed."""
        return Predicate(**{name: getattr(self, name) for name in Predicate.__struct_fields__})


class _Digest(_Closed, frozen=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Subject(_Closed, frozen=True):
    name: str
    digest: _Digest


class _Statement(_Closed, frozen=True):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: Literal["urn:qcos:evidence:v1"] = msgspec.field(name="predicateType")
    predicate: Predicate


_T = TypeVar("_T")
_bundle = msgspec.json.Decoder(Bundle)
_statement = msgspec.json.Decoder(_Statement)


def statement_bytes(predicate: Predicate) -> bytes:
    """The in-toto Statement v1 of a predicate, as canonical JSON; the subjects are its input and, if any, its output."""
    subjects = [_Subject(name="input", digest=_Digest(sha256=predicate.input_hash[7:]))]
    if predicate.output_hash is not None:
        subjects.append(_Subject(name="output", digest=_Digest(sha256=predicate.output_hash[7:])))
    statement = _Statement(
        type=STATEMENT_TYPE, subject=tuple(subjects), predicate_type=PREDICATE_TYPE, predicate=predicate
    )
    return canonical.dumps(msgspec.to_builtins(statement))


def pae(statement: bytes) -> bytes:
    """The DSSE v1 pre-authentication encoding of a Statement: the exact bytes that both signatures sign."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def statement_commitment(salt: bytes, statement: bytes) -> str:
    """What the entry's leaf holds under `commitments.statement`: SHA-256(salt ‖ statement), salt of 32 random bytes."""
    if len(salt) != SALT_BYTES:
        raise EvidenceInvalid(f"a salt of {len(salt)} bytes, not {SALT_BYTES}")
    return "sha256:" + hashlib.sha256(salt + statement).hexdigest()


def parse_statement(data: bytes) -> Predicate:
    """The predicate of a Statement's bytes; EvidenceInvalid unless they are exactly what `statement_bytes` makes."""
    predicate = _decode(_statement, data, "statement").predicate
    if statement_bytes(predicate) != data:
        raise EvidenceInvalid(
            "statement: not in canonical form, or subjects that are not the predicate's hashes"
        )
    return predicate


def assemble(
    predicate: Predicate,
    *,
    signatures: Signatures,
    proof: Proof,
    contents: Mapping[str, bytes],
) -> bytes:
    """The bundle file. `timestamp_authority` must be in the order that `ledger.verify` demands.

    That order: tokens over `qcos_signature`, then over `ecdsa_p256_signature`, then over the checkpoint; `self` before
    `external` within each. `contents` must hold exactly the artefacts that the predicate calls carried.
    """
    carried = {artefact.name for artefact in predicate.artefacts if artefact.carried}
    if carried != set(contents):
        raise EvidenceInvalid(f"contents {sorted(contents)} where the predicate carries {sorted(carried)}")
    fields: dict[str, Any] = {name: getattr(predicate, name) for name in Predicate.__struct_fields__}
    file = Bundle(**fields, signatures=signatures, proof=proof, contents=dict(contents))
    return canonical.dumps(msgspec.to_builtins(file))


def choose_carried(sizes: Sequence[tuple[str, int]]) -> frozenset[str]:
    """Which artefacts of (name, bytes), in order of importance, a file carries: each that still fits in 1 MB in all."""
    room, chosen = MAX_CARRIED_BYTES, []
    for name, size in sizes:
        if size <= room:
            chosen.append(name)
            room -= size
    return frozenset(chosen)


def parse_bundle(data: bytes) -> Bundle:
    """The bundle of a file's bytes.

    UsageError if it is too large or no JSON object; EvidenceInvalid, naming the member, if its fields are not exactly
    those of a known version; NotCanonical if the bytes are not the canonical form. Re-encoding the parsed value and
    comparing also refuses doubled keys, other spellings of a number or text, and base64 with spare bits or spaces.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"a file of {len(data)} bytes; a bundle has at most {MAX_FILE_BYTES}")
    if not data.lstrip(b" \t\r\n").startswith(b"{"):
        raise UsageError("not a JSON object")
    bundle = _decode(_bundle, data, "bundle")
    if canonical.dumps(msgspec.to_builtins(bundle)) != data:
        raise NotCanonical("the file is not in canonical form (RFC 8785)")
    return bundle


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise EvidenceInvalid(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:  # msgspec's DecodeError and UnicodeError are ValueErrors
        raise UsageError(f"{what}: not JSON in UTF-8") from error
