# SPDX-License-Identifier: Apache-2.0
"""The evidence record of one job: the closed predicate, version 1, and the in-toto Statement made of it.

Enters: values that the plane measured or decided. Leaves: the Statement's bytes, which are what the ledger
entry commits to and what both signatures sign (through `pae`).
The field set is closed: every member is required, but those that came later, which a record has or hasn't.
docs/evidence-format.md explains every field. Not here: the file, whether anything is true, keys. Pure.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ledger import canonical
from ledger.errors import EvidenceInvalid, UsageError

PREDICATE_TYPE: Final = "urn:qcos:evidence:v1"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"  # DSSE payload type of an in-toto Statement
STATEMENT_COMMITMENT = "statement"  # under this name the entry's leaf commits to salt ‖ statement

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


class Closed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every field is required and no other is allowed: a dropped or added member never passes unseen."""


class Scope(Closed, frozen=True):
    """Where the evidence was made; signed, so that a development key cannot speak for production."""

    profile: Profile
    plane: Text
    tenant: Text


class Fault(Closed, frozen=True):
    """Why a job ended without a complete result."""

    code: Text
    detail: str


class ExecutionMetadata(Closed, frozen=True):
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


class PolicyReason(Closed, frozen=True):
    """One reason of a denial."""

    code: Text
    message: str


class GovernanceRecord(Closed, frozen=True):
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


class Submission(Closed, frozen=True):
    """What was asked for."""

    submitted_at: Time
    format: Literal["QASM2", "QASM3", "QPY"]
    compiler_version: Text | None
    shots: Count
    retention_days: Count


class CostLine(Closed, frozen=True):
    """One meter's charge; `amount` is `quantity` times `rate`, exactly."""

    meter: Text
    quantity: Money
    unit: Text
    rate: Money
    amount: Money
    source: Text


class Cost(Closed, frozen=True):
    """What the job was charged, by the rate card of that hash."""

    amount: Money
    currency: Currency
    rate_card: Hash
    lines: tuple[CostLine, ...]


class Transition(Closed, frozen=True):
    """One step of the job's state, with its sequence number in the job."""

    seq: Count
    state: Text
    at: Time


class RouteChoice(Closed, frozen=True):
    """What routing made of one backend."""

    backend: Text
    verdict: Literal["chosen", "not_chosen", "excluded"]
    reason: str


class Artefact(Closed, frozen=True):
    """One content by hash; `carried` says that the file's `contents` holds its bytes."""

    name: Text
    media_type: Text
    sha256: Hash
    size: Count
    carried: bool
    source: Literal["asserted", "observed", "recomputed"]


class Gap(Closed, frozen=True):
    """A field that could not be captured, and why."""

    field: Text
    reason: Text


class Answer(Closed, frozen=True):
    """What a second person said: yes with `expires_at`, no without."""

    by: Annotated[str, Meta(pattern=r"^(user|service):[^@\s]+@[^@\s]+\Z", max_length=512)]
    reason: Text
    at: Time
    decision_id: Uuid
    expires_at: Time | None


class Approval(Closed, frozen=True):
    """What policy let pass only with an approval: what was asked for, what was answered, and its one use."""

    state: Literal["preparing", "requested", "granted", "used", "rejected", "expired", "refused"]
    reasons: Annotated[tuple[Text, ...], Meta(min_length=1)]
    wait_until: Time
    requested_at: Time | None
    sources: tuple[Hash, ...]
    compiled: Hash | None
    target: Hash | None
    backend: Text | None
    answer: Answer | None
    used_at: Time | None


class Envelope(Closed, frozen=True):
    """The key under whose signature the job was asked for, and the entry that tells of its enrolment."""

    form: Literal["jose", "cose"]
    alg: Literal["Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]
    key_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
    enrolled: Uuid


class Handed(Closed, frozen=True):
    """One step of a delegation: `by` handed a part of the actor's rights to `to`."""

    delegation: Text
    by: Text
    to: Text


class Predicate(Closed, frozen=True):
    """The evidence record, version 1: what the signatures cover.

    `approval` is there where somebody had to approve, `envelope` where the asker signed the request,
    `delegation` where somebody acted for the actor: who for whom, the actor's own step first.
    """

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
    artefacts: Annotated[tuple[Artefact, ...], Meta(max_length=256)]  # a check each in the report
    provenance: dict[str, Literal["asserted", "observed", "recomputed"]]
    gaps: tuple[Gap, ...]
    approval: Approval | UnsetType = UNSET
    envelope: Envelope | UnsetType = UNSET
    delegation: Annotated[tuple[Handed, ...], Meta(min_length=1, max_length=8)] | UnsetType = UNSET


class _Digest(Closed, frozen=True):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Subject(Closed, frozen=True):
    name: str
    digest: _Digest


class _Statement(Closed, frozen=True):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: Literal["urn:qcos:evidence:v1"] = msgspec.field(name="predicateType")
    predicate: Predicate


_T = TypeVar("_T")
_statement = msgspec.json.Decoder(_Statement)


def statement_bytes(predicate: Predicate, *, decoded: bool = False) -> bytes:
    """The in-toto Statement v1 of a predicate, as canonical JSON; its subjects are input and output.

    `decoded` says that the predicate was read by a decoder, so that its types have held its values already.
    """
    subjects = [_Subject(name="input", digest=_Digest(sha256=predicate.input_hash[7:]))]
    if predicate.output_hash is not None:
        subjects.append(_Subject(name="output", digest=_Digest(sha256=predicate.output_hash[7:])))
    statement = _Statement(
        type=STATEMENT_TYPE, subject=tuple(subjects), predicate_type=PREDICATE_TYPE, predicate=predicate
    )
    if not decoded:
        return canonical.dumps(msgspec.to_builtins(statement))
    return canonical.dumps_closed(statement, (*predicate.environment, *predicate.provenance))


def pae(statement: bytes) -> bytes:
    """The DSSE v1 pre-authentication encoding of a Statement: the exact bytes that both signatures sign."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def parse_statement(data: bytes) -> Predicate:
    """The predicate of a Statement's bytes; EvidenceInvalid unless `statement_bytes` makes exactly them."""
    predicate = decode(_statement, data, "statement").predicate
    if statement_bytes(predicate, decoded=True) != data:
        raise EvidenceInvalid("statement: not in canonical form, or subjects that are not the predicate's hashes")
    return predicate


def decode(decoder: msgspec.json.Decoder[_T], data: bytes, what: str) -> _T:
    """One closed struct from JSON; UsageError if it is no JSON, EvidenceInvalid naming the wrong member."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        _whole(data, what)
        raise EvidenceInvalid(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:  # msgspec's DecodeError and UnicodeError are ValueErrors
        raise UsageError(f"{what}: not JSON in UTF-8") from error


def _whole(data: bytes, what: str) -> None:
    """UsageError if it is no JSON: the decoder stops at the first wrong member and reads no further.

    What is nested too deep to be read is no known member's either: that error stands.
    """
    try:
        msgspec.json.decode(data)
    except RecursionError:
        return
    except ValueError as error:
        raise UsageError(f"{what}: not JSON in UTF-8") from error
