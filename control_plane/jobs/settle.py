# SPDX-License-Identifier: Apache-2.0
"""How a job ends: facts → charges → capture and release → evidence, in one transaction (design path step 7).

The entry that holds the outcome, the settled hold and the job's move to SEALING are one commit; a charge above the
hold is an `overrun`, told and never hidden. FAILED and CANCELED capture nothing and release all: what delivered no
result costs nothing here. UNCERTAIN parks its hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeAlias, assert_never

import msgspec
from msgspec import Struct

import finops.store
from control_plane import crash, environment, telemetry
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import approval, charging, evidence, exact, itemised, leases, meaning, metering, store
from control_plane.jobs.evidence import Content, Submitted
from control_plane.jobs.exact import Computed
from control_plane.jobs.gathered import Gathered, Program
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.state import moves
from control_plane.jobs.store import Change
from control_plane.jobs.vault import Sealed
from finops import charge_store
from finops.books import Share
from finops.budget import settlement
from finops.charges import Section
from finops.facts import Fact
from finops.holds import Parked, Settled
from finops.rates import Charge, RateCard, charge
from hal_drivers.base import Calibration, Compiled, Exhibit, Outcome
from hal_drivers.p2p import planned
from ledger.blob import SealedBlob
from ledger.canonical import dumps, parse_time, sha256, timestamp
from ledger.chain import Evidence, Pending
from ledger.predicate import Cost, CostLine, ExecutionMetadata, Fault, Gap, Predicate, statement_bytes


class Success(Struct, frozen=True):
    """A result came back."""

    compiled: Compiled
    outcome: Outcome
    calibration: Calibration
    computed: Computed = Computed()
    fees: Decimal | None = None
    """What others ask whose work was accepted; None where there is nobody else."""


class Failure(Struct, frozen=True):
    """No result; why, by a stable code."""

    code: str
    detail: str


class Cancellation(Struct, frozen=True):
    """Stopped because its owner asked."""


class Refusal(Struct, frozen=True):
    """Denied after all: nobody approved what policy let pass only with an approval."""

    code: str
    detail: str
    answer: approval.Word | None = None


class Uncertainty(Struct, frozen=True):
    """Handed to a vendor, outcome unknown."""

    detail: str


End: TypeAlias = Success | Failure | Cancellation | Refusal | Uncertainty
Level: TypeAlias = Literal["full", "standard", "sealed"]
Final: TypeAlias = Literal["COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"]


def artefact_hash(compiled: Compiled) -> str:
    """The hash of what will run, as the intent names it."""
    return sha256(compiled.artefact)


def read_submitted(plane: Plane, job: Mapping[str, Any]) -> Submitted:
    """Open the two blobs of a `store.taken` row; raises Refused `content_erased` where they are gone."""
    sealed = leases.submitted(job)
    if sealed is None:
        raise Refused("content_erased", "the content was erased; its commitment stays in the ledger")
    spec, judged = (plane.vault.open(blob).content for blob in sealed)
    return Submitted(spec, judged)


class Shown(Struct, frozen=True):
    """What is kept of a job beside how it ended, and what of that couldn't be had."""

    exhibits: tuple[Exhibit, ...] = ()
    gaps: tuple[Gap, ...] = ()


NOTHING = Shown()


async def settle(
    plane: Plane, job: Mapping[str, Any], spec: JobSpec, submitted: Submitted, end: End, shown: Shown = NOTHING
) -> Change:
    """The change that ends a job: outcome, money, evidence and its move to SEALING, to be written in one call."""
    await plane.vault.ready(plane.engine, job["tenant"])
    final = _final(end)
    now = plane.now()
    closed = _closed(job, end)
    if closed is not None:
        job = {**job, "approval": closed.document()}
    events = moves(job["state"], job["seq"], ("SEALING",), timestamp(now))
    history = [*job["history"], *msgspec.to_builtins(list(events))]
    ids = {"bundle_id": str(uuid.uuid4()), "outcome_entry": str(uuid.uuid4()), "final": final}
    contents = [evidence.spec_content(submitted.spec), evidence.input_content(submitted.decision_input)]
    level: Level = job["level"] if job["token"] is not None else "sealed"
    charged: Charge | None = None
    told: Section | None = None
    used: metering.Used | None = None
    facts: list[Fact] = []
    if isinstance(end, Success):
        card = await plane.known.card(plane.engine, job["tenant"], job["rate_card"])
        backend = await plane.known.backend(plane.engine, job["backend"])
        used = metering.Used(
            end.compiled,
            end.outcome,
            simulator=backend["simulator"],
            result_bytes=len(result_bytes(end.outcome)),
            session=bool(spec.execution.session),
            fees=end.fees,
        )
        facts = metering.facts(job, used)
        sold = backend["provider"], job["backend"], backend["capability"].get("sku")
        each = metering.of_each_task(used, facts, card.by_task(*sold))
        charged = charge(card, backend["provider"], facts, device=sold[1], sku=sold[2], each=each)
        told = charging.result(job, spec.governance, end.outcome, charged, facts, backend)
        contents += [*_outcome_contents(end, card, facts, each), *_computed(spec, end)]
        ended = _success(job, end, charged, level, contents, backend)
    else:
        ended = _without_result(job, end, final, level)
    contents += [Content(one.name, one.media_type, one.data) for one in shown.exhibits]
    contents += _obligations(job)
    unknown = metering.gaps(used) if used is not None else ()
    ended = msgspec.structs.replace(ended, gaps=(*ended.gaps, *unknown, *shown.gaps))
    if job["route"]:
        by = {"routing": plane.settings.routing.shown}
        ended = msgspec.structs.replace(ended, environment=ended.environment | by)
    crash.point("settle.charged")
    record = evidence.predicate(plane, {**job, **ids}, spec, ended, contents, history)
    kept = _keep(plane, job, contents, record)
    crash.point("settle.proven")
    money = _money(job, end, charged)
    cost = charged.amount if charged else Decimal(0)
    columns = (
        ids
        | ({} if closed is None else {"approval": job["approval"]})
        | measured(job, end)
        | {
            "statement_blob": kept.statement.commitment,
            "result_blob": kept.commitments.get("result"),
            "artefacts": kept.commitments,
            "cost_amount": cost,
            "partial": ended.partial,
            "error": {"code": ended.error.code, "detail": ended.error.detail} if ended.error else job["error"],
        }
    )
    body: dict[str, Any] = {
        "job_id": job["job_id"],
        "attempt": job["attempt"],
        "events": msgspec.to_builtins(list(events)),
        "final": final,
        "bundle_id": ids["bundle_id"],
        "backend": job["backend"],
        "error": ended.error.code if ended.error else None,
        "cost": {"amount": store.numeric(cost), "currency": job["currency"]},
        "rate_card": job["rate_card"],
        "settle": money.body(),
        "facts": [one.record() for one in facts],
        "output_hash": ended.output_hash,
    }
    if isinstance(end, Success) and end.outcome.accounting:
        body["accounting"] = columns["ran_as"] = end.outcome.accounting
    if job.get("vendor_tasks"):
        body["vendor_tasks"] = job["vendor_tasks"]
    if told is not None:
        body["charge"] = told.body()
    pending = Pending(
        entry_id=ids["outcome_entry"],
        tenant=job["tenant"],
        kind=f"job:outcome:{final.lower()}",
        actor=job["pseudonym"],
        time=now,
        body=body,
        commitments=kept.commitments | {"statement": kept.statement.commitment},
        traceparent=telemetry.traceparent(),
    )
    telemetry.count("qcos.jobs.ended", state=final, code=ended.error.code if ended.error else None)
    telemetry.measure("qcos.job.duration", (now - job["submitted_at"]).total_seconds(), state=final)
    proof = Evidence(bundle_id=record.bundle_id, level=level, statement=kept.bytes, salt=kept.statement.salt)
    written = {"parked": True} if isinstance(money, Parked) else finops.store.settling(money)
    # Nothing of a job is told after its outcome.
    items = (*(((approval.entry(job, closed, now), None),) if closed is not None else ()), (pending, proof))
    charges = None if told is None else charge_store.writing(ids["outcome_entry"], parse_time(timestamp(now)), (told,))
    return Change(job["job_id"], job["seq"], events, columns, items, kept.blobs, written, charges)


def _closed(job: Mapping[str, Any], end: End) -> approval.Approval | None:
    code = end.code if isinstance(end, Failure | Refusal) else None
    answer = end.answer if isinstance(end, Refusal) else None
    return approval.closed(approval.of(job), code, answer)


def measured(job: Mapping[str, Any], end: End) -> dict[str, float | None]:
    """How long the job waited in all and at its backend, and ran: what later routes and figures are made of."""
    if not isinstance(end, Success):
        return {}
    began = end.outcome.started_at
    handed = next(e["at"] for e in reversed(job["history"]) if e["state"] == "EXECUTING")
    return {
        "queue_s": max(0.0, (began - job["submitted_at"]).total_seconds()),
        "wait_s": max(0.0, (began - parse_time(handed)).total_seconds()),
        "run_s": max(0.0, (end.outcome.ended_at - began).total_seconds()),
    }


def _final(end: End) -> Final:
    match end:
        case Success():
            return "COMPLETED"
        case Failure():
            return "FAILED"
        case Cancellation():
            return "CANCELED"
        case Refusal():
            return "DENIED"
        case Uncertainty():
            return "UNCERTAIN"
        case _:
            assert_never(end)


def result_bytes(outcome: Outcome) -> bytes:
    """The `result` artefact: measured integers only (decision 12); `output_hash` covers exactly these bytes."""
    if isinstance(outcome, Gathered):
        return itemised.result_bytes(outcome)
    blocks = itemised.blocks(outcome)
    return dumps({"counts": outcome.counts, "shots": outcome.shots_executed, "blocks": blocks})


def _obligations(job: Mapping[str, Any]) -> list[Content]:
    """What the admission bound the job to, where it did; the level and the backend stand in the record beside it."""
    decision = job["decision"]
    if not decision.get("obligations"):
        return []
    document = {"version": 1, "decision_id": str(job["decision_id"]), "obligations": decision["obligations"]}
    return [Content("obligations", "application/json", dumps(document), "observed")]


def _computed(spec: JobSpec, end: Success) -> list[Content]:
    """What is computed of the counts and beside them: apart from the result, which is measured integers only."""
    made = dict(end.computed.members)
    sampled = meaning.estimated(spec, end.outcome) if isinstance(end.outcome, Gathered) else {}
    for name, rows in sampled.items():
        made[name] = [*rows, *made.get(name, ())]
    made |= meaning.precision(spec)
    if not made:
        return []
    document = msgspec.json.encode({"version": 1} | made, order="sorted")
    files = [Content(name, exact.NPY, data) for name, data in end.computed.files]
    return [Content("analysis", "application/json", document), *files]


def _outcome_contents(
    end: Success, card: RateCard, told: list[Fact], each: Sequence[Mapping[str, Decimal]]
) -> list[Content]:
    compiled, outcome = end.compiled, end.outcome
    execution = _what_ran(compiled, outcome, each) | {
        "bit_order": "last classical bit left",
        "versions": compiled.versions,
        "facts": [one.record() for one in told],
        "calibration": {
            "id": end.calibration.id,
            "valid_from": timestamp(end.calibration.valid_from),
        },
    }
    contents = [
        Content("result", "application/json", result_bytes(outcome), "observed"),
        Content("rate_card", "application/json", card.document, "asserted"),
        Content("execution", "application/json", dumps(execution), "observed"),
        Content("calibration", "application/octet-stream", end.calibration.data, "asserted"),
    ]
    if isinstance(compiled, Program):
        return [*contents, Content("compiled.json", "application/json", compiled.artefact, "observed")]
    if compiled.format == "QPY":  # what runs as text is kept as the text below
        contents.append(Content("compiled.qpy", "application/octet-stream", compiled.artefact, "observed"))
    if compiled.qasm3 is not None:
        contents.append(Content("compiled.qasm3", "text/plain", compiled.qasm3.encode(), "observed"))
    return contents


def _what_ran(compiled: Compiled, outcome: Outcome, each: Sequence[Mapping[str, Decimal]]) -> dict[str, Any]:
    """Circuit and run, of each item where there are several."""
    if isinstance(compiled, Program) and isinstance(outcome, Gathered):
        return {"items": itemised.executed(compiled, outcome, each)}
    return {
        "seed": outcome.seed,
        "method": outcome.method,
        "layout": list(compiled.facts.layout) if compiled.facts.layout is not None else None,
        **({} if compiled.facts.final_layout is None else {"final_layout": list(compiled.facts.final_layout)}),
        "measured_bits": list(compiled.facts.measured_bits),
        "qubits": compiled.facts.qubits,
        "depth": compiled.facts.depth,
        "gates_before": compiled.facts.gates_before,
        "gates_after": compiled.facts.gates_after,
        "metadata": outcome.metadata,
    }


def _success(
    job: Mapping[str, Any],
    end: Success,
    charged: Charge,
    level: Level,
    contents: list[Content],
    backend: evidence.Row,
) -> evidence.End:
    outcome = end.outcome
    region, zone = backend["region"], backend["compliance_zone"]
    if end.compiled.format == "PLAN":  # a network lies where its nodes lie
        region, zone = planned.read(end.compiled.artefact).places
    execution = ExecutionMetadata(
        backend=job["backend"],
        provider=backend["provider"],
        region=region or None,
        compliance_zone=zone or None,
        start_time=timestamp(outcome.started_at),
        end_time=timestamp(outcome.ended_at),
        shots_executed=outcome.shots_executed,
        queue_time_ms=max(0, int((outcome.started_at - job["submitted_at"]).total_seconds() * 1000)),
        attempt=job["attempt"],
        seed=outcome.seed,
        method=outcome.method,
    )
    gaps = _inexpressible(end.compiled)
    missing = {f"analysis.{one['field']}": one["reason"] for one in end.computed.members.get("refused", ())}
    gaps += [Gap(field=field, reason=reason) for field, reason in missing.items()]
    gaps += [Gap(field=f"cost.{meter}", reason="priced and not measured") for meter in charged.unmeasured]
    result = next(content.data for content in contents if content.name == "result")
    return evidence.End(
        state="COMPLETED",
        level=level,
        execution=execution,
        partial=outcome.partial,
        cost=_cost(charged),
        output_hash=sha256(result),
        environment=environment.versions() | end.compiled.versions,
        gaps=tuple(gaps),
    )


def _inexpressible(compiled: Compiled) -> list[Gap]:
    if isinstance(compiled, Program):
        if all(item.qasm3 is not None for item in compiled.items):
            return []
        return [Gap(field="artefacts.compiled.json", reason="a circuit is not expressible in OpenQASM 3")]
    if compiled.format == "PLAN":  # the program stands in the plan
        return []
    return [] if compiled.qasm3 is not None else [Gap(field="artefacts.compiled.qasm3", reason="not expressible")]


def _cost(charged: Charge) -> Cost:
    record = charged.record()
    lines = tuple(CostLine(**line) for line in record["lines"])  # type: ignore[attr-defined]
    return Cost(
        amount=str(record["amount"]),
        currency=charged.currency,
        rate_card=charged.card_hash,
        lines=lines,
    )


def _without_result(
    job: Mapping[str, Any],
    end: Failure | Cancellation | Refusal | Uncertainty,
    final: Final,
    level: Level,
) -> evidence.End:
    match end:
        case Failure(code=code, detail=detail) | Refusal(code=code, detail=detail):
            error = Fault(code=code, detail=detail)
        case Uncertainty(detail=detail):
            error = Fault(code="outcome_unknown", detail=detail)
        case Cancellation():
            error = Fault(code="canceled", detail="canceled on request")
        case _:
            assert_never(end)
    execution = msgspec.structs.replace(evidence.NOT_STARTED, attempt=job["attempt"], backend=job["backend"])
    gaps: tuple[Gap, ...] = ()
    if job["token"] is not None:
        gaps = (
            Gap(
                field="execution_metadata.start_time",
                reason="the attempt ended without a measured start",
            ),
        )
    return evidence.End(
        state=final,
        level=level,
        execution=execution,
        error=error,
        environment=environment.versions(),
        gaps=gaps,
    )


def _money(job: Mapping[str, Any], end: End, charged: Charge | None) -> Settled | Parked:
    """How the job's hold ends; the write finds it so or nothing is written (I3). Quotas count what gave a result."""
    held = job["hold"]
    shares = tuple(Share(*pair) for pair in zip(held["budgets"], held["windows"], strict=True))
    amount = Decimal(str(held["amount"]))
    if isinstance(end, Uncertainty):
        return Parked(job["job_id"], amount, held["currency"], shares)
    ended = settlement(amount, charged.amount if charged is not None else Decimal(0))
    counted = isinstance(end, Success) and held["shots"] is not None
    shots, jobs = (end.outcome.shots_executed, 1) if isinstance(end, Success) and counted else (0, 0)
    return Settled(
        job["job_id"],
        ended.captured,
        ended.released,
        ended.overrun,
        held["currency"],
        shares,
        Decimal(shots),
        Decimal(jobs),
    )


class _Kept(Struct, frozen=True):
    """What is stored with the end: blobs, the commitment to each artefact, and the Statement that is signed."""

    blobs: tuple[SealedBlob, ...]
    commitments: dict[str, str]
    statement: Sealed
    bytes: bytes


def _keep(plane: Plane, job: Mapping[str, Any], contents: list[Content], record: Predicate) -> _Kept:
    fresh = [content for content in contents if content.name not in ("spec", "decision_input", "rate_card")]
    statement = statement_bytes(record)
    sealed = plane.vault.seal(job["tenant"], [*(content.data for content in fresh), statement])
    commitments = evidence.submitted_blobs(job)
    commitments |= {content.name: one.commitment for content, one in zip(fresh, sealed, strict=False)}
    return _Kept(tuple(one.blob for one in sealed), commitments, sealed[-1], statement)
