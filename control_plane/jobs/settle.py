# SPDX-License-Identifier: Apache-2.0
"""How a job ends: facts → charges → capture and release → evidence, in one transaction (design path step 7).

The entry that holds the outcome, the settled hold and the job's move to SEALING are one commit; a charge above the
hold is an `overrun`, told and never hidden. FAILED and CANCELED capture nothing and release all: what delivered no
result costs nothing here. UNCERTAIN parks its hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias, assert_never

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import finops.store
from control_plane import environment, telemetry
from control_plane.context import Plane
from control_plane.jobs import evidence, store
from control_plane.jobs.evidence import Content, Submitted
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.state import moves
from control_plane.jobs.transition import MovedOn
from finops.facts import Fact, fact
from finops.rates import Charge, RateCard, charge
from hal_drivers.base import Calibration, Compiled, Outcome
from ledger.canonical import dumps, sha256, timestamp
from ledger.chain import Evidence, Pending
from ledger.predicate import Cost, CostLine, ExecutionMetadata, Fault, Gap, Predicate, statement_bytes


class Success(Struct, frozen=True):
    """A result came back."""

    compiled: Compiled
    outcome: Outcome
    calibration: Calibration


class Failure(Struct, frozen=True):
    """No result; why, by a stable code."""

    code: str
    detail: str


class Cancellation(Struct, frozen=True):
    """Stopped because its owner asked."""


class Uncertainty(Struct, frozen=True):
    """Handed to a vendor, outcome unknown."""

    detail: str


End: TypeAlias = Success | Failure | Cancellation | Uncertainty
Final: TypeAlias = Literal["COMPLETED", "FAILED", "CANCELED", "UNCERTAIN"]


def artefact_hash(compiled: Compiled) -> str:
    """The hash of what will run, as the intent names it."""
    return sha256(compiled.artefact)


async def read_submitted(plane: Plane, conn: AsyncConnection, job: Mapping[str, Any]) -> Submitted:
    """Open a job's two blobs; raises Refused `content_erased` where they are gone."""
    spec, judged = await plane.vault.read_all(conn, job["tenant"], (job["spec_blob"], job["input_blob"]))
    return Submitted(spec.content, judged.content)


async def settle(
    plane: Plane, conn: AsyncConnection, job: dict[str, Any], spec: JobSpec, submitted: Submitted, end: End
) -> tuple[Pending, Evidence]:
    """Write the end of a job; the caller MUST append the entry in the same transaction, at once.

    Raises MovedOn where the row has moved on. The job's row is locked before its budgets, as everywhere.
    """
    match end:
        case Success():
            final: Final = "COMPLETED"
        case Failure():
            final = "FAILED"
        case Cancellation():
            final = "CANCELED"
        case Uncertainty():
            final = "UNCERTAIN"
        case _:
            assert_never(end)
    now = plane.now()
    events = moves(job["state"], job["seq"], ("SEALING",), timestamp(now))
    history = [*job["history"], *msgspec.to_builtins(list(events))]
    job |= {
        "bundle_id": str(uuid.uuid4()),
        "outcome_entry": str(uuid.uuid4()),
        "final": final,
    }
    contents = [evidence.spec_content(submitted.spec), evidence.input_content(submitted.decision_input)]
    level: Literal["full", "standard", "sealed"] = job["level"] if job["token"] is not None else "sealed"
    if isinstance(end, Success):
        card = await plane.known.card(conn, job["tenant"], job["rate_card"])
        backend = await plane.known.backend(conn, job["backend"])
        charged = charge(card, backend["provider"], facts(job, end), device=job["backend"])
        contents += _outcome_contents(job, end, card)
        ended = _success(job, end, charged, level, contents, backend)
        job["partial"] = end.outcome.partial
    else:
        charged = None
        ended = _without_result(job, end, final, level)
        job["error"] = {"code": ended.error.code, "detail": ended.error.detail} if ended.error else None
    record = evidence.predicate(plane, job, spec, ended, contents, history)
    artefacts, proof = await _keep(plane, conn, job, contents, record, level)
    job["cost_amount"] = charged.amount if charged else Decimal(0)
    columns = (
        "bundle_id",
        "outcome_entry",
        "final",
        "statement_blob",
        "result_blob",
        "artefacts",
        "cost_amount",
        "partial",
        "error",
    )
    moved = await store.advance(
        conn,
        job["job_id"],
        seq=job["seq"],
        events=events,
        **{name: job[name] for name in columns},
    )
    if not moved:
        raise MovedOn
    # The budgets are locked from here to the commit, so this comes late (decision 6).
    settled = await _money(conn, job, charged, parked=isinstance(end, Uncertainty))
    body: dict[str, Any] = {
        "job_id": job["job_id"],
        "attempt": job["attempt"],
        "events": msgspec.to_builtins(list(events)),
        "final": final,
        "bundle_id": job["bundle_id"],
        "backend": job["backend"],
        "error": job["error"]["code"] if job["error"] else None,
        "cost": {
            "amount": store.numeric(job["cost_amount"]),
            "currency": job["currency"],
        },
        "rate_card": job["rate_card"],
        "settle": settled,
        "facts": [one.record() for one in facts(job, end)] if isinstance(end, Success) else [],
        "output_hash": ended.output_hash,
    }
    pending = Pending(
        entry_id=job["outcome_entry"],
        tenant=job["tenant"],
        kind=f"job:outcome:{final.lower()}",
        actor=job["pseudonym"],
        time=now,
        body=body,
        commitments=artefacts | {"statement": job["statement_blob"]},
        traceparent=telemetry.traceparent(),
    )
    telemetry.count("qcos.jobs.ended", state=final, code=job["error"]["code"] if job["error"] else None)
    telemetry.measure("qcos.job.duration", (now - job["submitted_at"]).total_seconds(), state=final)
    job.update(state="SEALING", seq=events[-1].seq, history=history)
    return pending, proof


def facts(job: Mapping[str, Any], end: Success) -> list[Fact]:
    """What the job used (G6), each with who says so; what is unknown is absent."""
    outcome, usage = end.outcome, end.outcome.usage
    by = job["backend"]
    queued = max(0.0, (outcome.started_at - job["submitted_at"]).total_seconds())
    found = [
        fact("tasks", Decimal(1), "measured", "plane"),
        fact("shots", Decimal(outcome.shots_executed), "measured", "plane"),
        fact("queue_seconds", queued, "measured", "plane"),
        fact("circuit_depth", Decimal(end.compiled.facts.depth), "measured", "plane"),
        fact("egress_bytes", Decimal(len(result_bytes(outcome))), "measured", "plane"),
    ]
    if usage.qpu_s is not None:
        found.append(fact("qpu_seconds", usage.qpu_s, usage.source, by))
    else:
        found.append(fact("simulator_seconds", usage.wall_s, usage.source, by))
    if usage.cpu_s is not None:
        found.append(fact("simulator_cpu_seconds", usage.cpu_s, usage.source, by))
    if usage.peak_memory_bytes is not None:
        found.append(
            fact(
                "simulator_peak_memory",
                Decimal(usage.peak_memory_bytes),
                usage.source,
                by,
            )
        )
    return found


def result_bytes(outcome: Outcome) -> bytes:
    """The `result` artefact: measured integers only (decision 12); `output_hash` covers exactly these bytes."""
    blocks = [
        {
            "shots": b.shots,
            "counts": b.counts,
            "start": timestamp(b.start),
            "end": timestamp(b.end),
        }
        for b in outcome.blocks
    ]
    return dumps({"counts": outcome.counts, "shots": outcome.shots_executed, "blocks": blocks})


def _outcome_contents(job: Mapping[str, Any], end: Success, card: RateCard) -> list[Content]:
    compiled, outcome = end.compiled, end.outcome
    execution = {
        "seed": outcome.seed,
        "method": outcome.method,
        "bit_order": "last classical bit left",
        "layout": list(compiled.facts.layout) if compiled.facts.layout is not None else None,
        "measured_bits": list(compiled.facts.measured_bits),
        "qubits": compiled.facts.qubits,
        "depth": compiled.facts.depth,
        "gates_before": compiled.facts.gates_before,
        "gates_after": compiled.facts.gates_after,
        "versions": compiled.versions,
        "metadata": outcome.metadata,
        "facts": [one.record() for one in facts(job, end)],
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
        Content("compiled.qpy", "application/octet-stream", compiled.artefact, "observed"),
    ]
    if compiled.qasm3 is not None:
        contents.append(Content("compiled.qasm3", "text/plain", compiled.qasm3.encode(), "observed"))
    return contents


def _success(
    job: dict[str, Any],
    end: Success,
    charged: Charge,
    level: Literal["full", "standard", "sealed"],
    contents: list[Content],
    backend: evidence.Row,
) -> evidence.End:
    outcome = end.outcome
    execution = ExecutionMetadata(
        backend=job["backend"],
        provider=backend["provider"],
        region=backend["region"],
        compliance_zone=backend["compliance_zone"],
        start_time=timestamp(outcome.started_at),
        end_time=timestamp(outcome.ended_at),
        shots_executed=outcome.shots_executed,
        queue_time_ms=max(0, int((outcome.started_at - job["submitted_at"]).total_seconds() * 1000)),
        attempt=job["attempt"],
        seed=outcome.seed,
        method=outcome.method,
    )
    gaps = [] if end.compiled.qasm3 is not None else [Gap(field="artefacts.compiled.qasm3", reason="not expressible")]
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
    job: dict[str, Any],
    end: Failure | Cancellation | Uncertainty,
    final: Final,
    level: Literal["full", "standard", "sealed"],
) -> evidence.End:
    match end:
        case Failure(code=code, detail=detail):
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


async def _money(
    conn: AsyncConnection,
    job: Mapping[str, Any],
    charged: Charge | None,
    *,
    parked: bool,
) -> dict[str, Any]:
    if parked:
        return (await finops.store.park(conn, job["tenant"], job["job_id"])).body()
    amount = charged.amount if charged is not None else Decimal(0)
    return (await finops.store.settle(conn, job["tenant"], job["job_id"], amount)).body()


async def _keep(
    plane: Plane,
    conn: AsyncConnection,
    job: dict[str, Any],
    contents: list[Content],
    record: Predicate,
    level: Literal["full", "standard", "sealed"],
) -> tuple[dict[str, str], Evidence]:
    """Store what isn't stored yet, the Statement too; name → commitment of each artefact, and what is to be signed."""
    fresh = [content for content in contents if content.name not in ("spec", "decision_input", "rate_card")]
    statement = statement_bytes(record)
    written = await plane.vault.write(conn, job["tenant"], [*(content.data for content in fresh), statement])
    kept = {"spec": job["spec_blob"], "decision_input": job["input_blob"]}
    kept |= {content.name: blob.commitment for content, blob in zip(fresh, written, strict=False)}
    job["artefacts"] = kept
    job["result_blob"] = kept.get("result")
    job["statement_blob"] = written[-1].commitment
    proof = Evidence(bundle_id=record.bundle_id, level=level, statement=statement, salt=written[-1].salt)
    return kept, proof
