# SPDX-License-Identifier: Apache-2.0
"""The evidence of a job: the finished Statement that the sealer signs, and the bundle file that a person takes away.

Enters a job's row and what the run observed; leaves a `ledger.chain.Evidence` beside the entry that commits to it
(G3, G4), or the assembled file. Every ended job has evidence, whatever its end. What could not be captured stands in
`gaps` with a reason; a gap never loses the record. Not here: signing, stamping, sealing (`ledger.sealer`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.folded_store
import ledger.head_store
import ledger.signature_store
import ledger.store
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import approval
from control_plane.jobs.spec import JobSpec
from finops import card_store
from ledger import export
from ledger.blob import SealedBlob
from ledger.bundle import MAX_COSIGNATURES, Enrolment, Proof, Signatures, Stamp, assemble, choose_carried
from ledger.canonical import sha256, timestamp
from ledger.chain import Evidence
from ledger.checkpoint import parse as parse_note
from ledger.predicate import (
    Answer,
    Approval,
    Artefact,
    Cost,
    Envelope,
    ExecutionMetadata,
    Fault,
    Gap,
    GovernanceRecord,
    Handed,
    Level,
    PolicyReason,
    Predicate,
    Profile,
    RouteChoice,
    Scope,
    Submission,
    Transition,
    parse_statement,
    statement_bytes,
)
from ledger.timestamp import Operator

Row: TypeAlias = Mapping[str, Any] | RowMapping

MEDIA = {"jose": "application/jose", "cose": 'application/cose; cose-type="cose-sign1"'}
NOT_STARTED = ExecutionMetadata(
    backend=None,
    provider=None,
    region=None,
    compliance_zone=None,
    start_time=None,
    end_time=None,
    shots_executed=0,
    queue_time_ms=0,
    attempt=0,
    seed=None,
    method=None,
)

# Who vouches for which part of the record; the verifier recomputes what says so.
_PROVENANCE: dict[str, Literal["asserted", "observed", "recomputed"]] = {
    "input_hash": "recomputed",
    "submission": "asserted",
    "governance_record.actor": "asserted",
    "governance_record.policy_decisions": "observed",
    "history": "observed",
}
_EXECUTED: dict[str, Literal["asserted", "observed", "recomputed"]] = {
    "output_hash": "recomputed",
    "execution_metadata.shots_executed": "recomputed",
    "execution_metadata.region": "asserted",
    "execution_metadata.compliance_zone": "asserted",
    "execution_metadata.start_time": "observed",
    "execution_metadata.end_time": "observed",
    "cost": "recomputed",
}


class Content(Struct, frozen=True):
    """One artefact of the evidence; `source` says who vouches for it."""

    name: str
    media_type: str
    data: bytes
    source: Literal["asserted", "observed", "recomputed"] = "observed"


class End(Struct, frozen=True):
    """How a job ended, as the run saw it."""

    state: Literal["COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"]
    level: Literal["full", "standard", "sealed"]
    execution: ExecutionMetadata = NOT_STARTED
    partial: str | None = None
    error: Fault | None = None
    cost: Cost | None = None
    output_hash: str | None = None
    environment: dict[str, str] = {}
    gaps: tuple[Gap, ...] = ()


def predicate(
    plane: Plane,
    row: Row,
    spec: JobSpec,
    end: End,
    contents: Sequence[Content],
    history: Sequence[Mapping[str, Any]],
) -> Predicate:
    """The evidence record of one ended job. Its input is the first of `contents`."""
    parts = _parts(row, contents)
    carried = choose_carried([(part.name, part.size) for part in parts])
    executed = _EXECUTED if end.execution.start_time is not None else {}
    return Predicate(
        version=1,
        bundle_id=str(row["bundle_id"]),
        job_id=row["job_id"],
        scope=Scope(
            profile=cast("Profile", plane.settings.profile),
            plane=plane.name,
            tenant=row["tenant"],
        ),
        evidence_level=end.level,
        state=end.state,
        partial=end.partial,
        error=end.error,
        input_hash=sha256(contents[0].data),
        output_hash=end.output_hash,
        execution_metadata=end.execution,
        governance_record=_governance(row, spec),
        submission=_submission(row, spec),
        cost=end.cost,
        history=tuple(Transition(seq=e["seq"], state=e["state"], at=e["at"]) for e in history),
        route=tuple(
            RouteChoice(backend=r["backend"], verdict=r["verdict"], reason=routed(r)) for r in row.get("route") or ()
        ),
        environment=end.environment,
        artefacts=tuple(replace(part, carried=part.name in carried) for part in parts),
        provenance=_PROVENANCE | executed,
        gaps=end.gaps,
        approval=_approval(row),
        envelope=_envelope(row),
        delegation=_delegation(row),
    )


def _envelope(row: Row) -> Envelope | UnsetType:
    """The key under whose signature the job was asked for; its public half stands in the entry of its enrolment."""
    said = row.get("envelope")
    if said is None:
        return UNSET
    return Envelope(form=said["form"], alg=said["alg"], key_id=said["key_id"], enrolled=said["enrolled"])


def _parts(row: Row, contents: Sequence[Content]) -> list[Artefact]:
    """The artefacts by importance; the signed envelope comes after what nothing could be computed again without."""
    parts = [_artefact(content) for content in contents]
    if (said := row.get("envelope")) is not None:
        first = sum(content.name in ("spec", "decision_input", "result") for content in contents)
        parts.insert(first, _part("envelope", MEDIA[said["form"]], said["sha256"], said["size"], "asserted"))
    return parts


def _delegation(row: Row) -> tuple[Handed, ...] | UnsetType:
    """Who acted for the actor."""
    steps = row["decision"].get("acting")
    return UNSET if not steps else msgspec.convert(steps, tuple[Handed, ...])


def _approval(row: Row) -> Approval | UnsetType:
    """What somebody had to approve, and did or didn't; the approver by the name that evidence has."""
    given = approval.of(row)
    if given is None:
        return UNSET
    bound, word = given.bound, given.answer
    answer = None
    if word is not None:
        answer = Answer(
            by=row["approver"], reason=word.reason, at=word.at, decision_id=word.decision_id, expires_at=word.expires_at
        )
    return Approval(
        state=given.state,
        reasons=given.reasons,
        wait_until=given.wait_until,
        requested_at=given.requested_at,
        sources=bound.sources if bound is not None else (),
        compiled=bound.compiled if bound is not None else None,
        target=bound.target if bound is not None else None,
        backend=bound.backend if bound is not None else None,
        answer=answer,
        used_at=given.used_at,
    )


def routed(line: Mapping[str, Any]) -> str:
    """Why routing thought so of a backend; of a job with several attempts, in which of them."""
    attempt, failed = line.get("attempt", 1), line.get("failed")
    told = line["reason"] if attempt == 1 and not failed else f"attempt {attempt}: {line['reason']}"
    return f"{told}; it failed there: {failed['code']}: {failed['detail']}" if failed else told


def _artefact(content: Content) -> Artefact:
    return _part(content.name, content.media_type, sha256(content.data), len(content.data), content.source)


def _part(
    name: str, media_type: str, digest: str, size: int, source: Literal["asserted", "observed", "recomputed"]
) -> Artefact:
    return Artefact(name=name, media_type=media_type, sha256=digest, size=size, carried=False, source=source)


def _governance(row: Row, spec: JobSpec) -> GovernanceRecord:
    decision, governance = row["decision"], spec.governance
    return GovernanceRecord(
        actor=row["actor"],
        team=row["team"],
        department=decision.get("department"),
        project=governance.project,
        cost_center=governance.cost_center,
        classification=governance.classification,
        purpose=governance.purpose,
        justification=governance.justification,
        policies_applied=tuple(decision["policies_applied"]),
        policy_decisions=("allow" if decision["allow"] else "deny",),
        decision_id=str(row["decision_id"]),
        policy_revision=decision["policy_revision"],
        policy_engine=decision["engine"],
        reasons=tuple(PolicyReason(code=r["code"], message=r["message"]) for r in decision["reasons"]),
    )


def _submission(row: Row, spec: JobSpec) -> Submission:
    circuit = spec.circuits[0]
    return Submission(
        submitted_at=timestamp(row["submitted_at"]),
        format=circuit.format,
        compiler_version=circuit.compiler_version,
        shots=spec.shots,
        retention_days=spec.evidence_requirements.retention_days,
    )


def spec_content(data: bytes) -> Content:
    """The job spec as accepted: what `input_hash` covers."""
    return Content("spec", "application/json", data, "asserted")


def input_content(data: bytes) -> Content:
    """What policy judged."""
    return Content("decision_input", "application/json", data)


class Submitted(Struct, frozen=True):
    """What was submitted and judged, as its blobs hold it."""

    spec: bytes
    decision_input: bytes


def denied(plane: Plane, row: dict[str, Any], spec: JobSpec, submitted: Submitted) -> tuple[Evidence, SealedBlob]:
    """Evidence of a denial: unsigned, it rests on checkpoint and proof. Completes `row` with where it lies."""
    row["bundle_id"] = str(uuid.uuid4())
    row["artefacts"] = submitted_blobs(row)
    reason = row["error"]
    end = End(state="DENIED", level="sealed", error=Fault(code=reason["code"], detail=reason["detail"]))
    contents = (spec_content(submitted.spec), input_content(submitted.decision_input))
    statement = statement_bytes(predicate(plane, row, spec, end, contents, row["history"]))
    (sealed,) = plane.vault.seal(row["tenant"], (statement,))
    row["statement_blob"] = sealed.commitment
    proof = Evidence(bundle_id=row["bundle_id"], level="sealed", statement=statement, salt=sealed.salt)
    return proof, sealed.blob


def submitted_blobs(row: Row) -> dict[str, str]:
    """The commitment to each content that came in with the job."""
    signed = row.get("envelope")
    return {"spec": row["spec_blob"], "decision_input": row["input_blob"]} | (
        {"envelope": signed["blob"]} if signed is not None else {}
    )


async def _enrolment(conn: AsyncConnection, record: Predicate, size: int) -> Enrolment | UnsetType:
    """The entry of the asker's key, under the same checkpoint; it was durable before the job was asked for."""
    if record.envelope is UNSET:
        return UNSET
    entry = await ledger.store.entry(conn, record.envelope.enrolled)
    if entry is None:
        raise Refused("not_in_log", f"no entry {record.envelope.enrolled} tells of the signing key")
    index, leaf = entry
    return Enrolment(leaf=leaf, path=tuple(await export.inclusion(conn, index, size)))


async def resting(conn: AsyncConnection, row: Row) -> tuple[tuple[int, bytes], tuple[str, int] | None]:
    """(index, leaf) of the sealed entry on which a job's evidence rests; with the place under it, where it folds.

    Raises Refused `evidence_pending` until it is sealed.
    """
    if row["statement_blob"] is None:
        raise Refused("evidence_pending", "the job has not ended")
    name = str(row["outcome_entry"] or row["admission_entry"])
    entry, place = await ledger.store.entry(conn, name), None
    if entry is None and (place := await ledger.folded_store.fold_of(conn, name)) is not None:
        entry = await ledger.store.entry(conn, place[0])
    if entry is None:
        raise Refused("evidence_pending", "the entry is durable and not sealed yet")
    return entry, place


async def bundle(plane: Plane, conn: AsyncConnection, row: Row, only: frozenset[str] | None = None) -> bytes:
    """The bundle file of an ended job, or an extract that carries `only` some of its contents.

    Raises Refused `evidence_pending` until it is sealed and stamped.
    """
    tenant = row["tenant"]
    (index, leaf), place = await resting(conn, row)
    inner = UNSET if place is None else await export.folded(conn, *place)
    opened = await plane.vault.read(conn, tenant, row["statement_blob"])
    record = parse_statement(opened.content)
    signatures, proof = await proven(conn, (index, leaf), record.bundle_id, record.evidence_level, opened.salt)
    contents = {
        artefact.name: await _content(plane, conn, tenant, row, artefact.name)
        for artefact in record.artefacts
        if artefact.carried and (only is None or artefact.name in only)
    }
    head = parse_note(proof.checkpoint.encode())
    proof = replace(proof, fold=inner, enrolment=await _enrolment(conn, record, head.size))
    return assemble(record, signatures=signatures, proof=proof, contents=contents, only=only)


async def proven(
    conn: AsyncConnection, entry: tuple[int, bytes], bundle_id: str, level: Level, salt: bytes
) -> tuple[Signatures, Proof]:
    """What was made over a record, and its sealed entry's place under a checkpoint, cosigned where one is.

    Raises Refused `evidence_pending` while a time-stamp is awaited.
    """
    index, leaf = entry
    checkpoint = await ledger.head_store.checkpoint_over(conn, index)
    if checkpoint is None:  # entry and checkpoint are one commit; a missing one is a broken ledger
        raise Refused("not_in_log", f"no checkpoint covers entry {index}")
    own = None if level == "full" else checkpoint.size
    if (seen := await ledger.head_store.cosigned_over(conn, index, own=own)) is not None:
        checkpoint = seen
    lines = await ledger.head_store.cosignatures(conn, checkpoint.size) if seen is not None else []
    signed = await ledger.signature_store.signature(conn, bundle_id)
    qcos, p256 = (signed.mldsa65, signed.p256) if signed is not None else (None, None)
    stamped = [qcos, p256] if level == "full" else [checkpoint.note]
    stamps = await _stamps(conn, [target for target in stamped if target is not None])
    proof = Proof(
        leaf=leaf,
        path=tuple(await export.inclusion(conn, index, checkpoint.size)),
        checkpoint=checkpoint.note.decode(),
        statement_salt=salt,
        cosignatures=tuple(lines[:MAX_COSIGNATURES]) if lines else UNSET,
    )
    return Signatures(qcos_signature=qcos, ecdsa_p256_signature=p256, timestamp_authority=stamps), proof


async def _stamps(conn: AsyncConnection, targets: Sequence[bytes]) -> tuple[Stamp, ...]:
    """Tokens over each target in turn, own before external; raises Refused while one is awaited."""
    stamps: list[Stamp] = []
    for target in targets:
        found = await ledger.signature_store.tokens(conn, hashlib.sha256(target).digest())
        if not found:
            raise Refused("evidence_pending", "waiting for a time-stamp")
        stamps += [
            Stamp(operator=cast("Operator", t.operator), token=t.der)
            for t in sorted(found, key=lambda t: t.operator != "self")
        ]
    return tuple(stamps)


async def _content(plane: Plane, conn: AsyncConnection, tenant: str, row: Row, name: str) -> bytes:
    if name == "rate_card":
        card = await card_store.card(conn, tenant, row["rate_card"])
        return card.document
    return (await plane.vault.read(conn, tenant, row["artefacts"][name])).content
