# SPDX-License-Identifier: Apache-2.0
"""Admission: price, decide, hold, and write it all in one transaction (design path step 3).

Enters an envelope with a submit; leaves an `Admission` value. A denial is a value with reasons, recorded before it is
answered. The decision judges a snapshot; the hold is the authority: refused there, the job is DENIED
`budget_exceeded` and the decision stays as made. Nothing is stored where no decision could be had (I5).
`dry_run` prices and decides and writes nothing.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import finops.store
import ledger.store
from control_plane import telemetry
from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.db import closing
from control_plane.errors import Refused
from control_plane.jobs import evidence, store
from control_plane.jobs import spec as specs
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.jobs.evidence import Submitted
from control_plane.jobs.routing import Candidate, eligible
from control_plane.jobs.spec import BackendConstraints, Circuit, JobSpec
from control_plane.jobs.state import State, moves
from control_plane.policy.decision import Decision, problem_code
from finops.budget import BudgetView
from finops.errors import FinopsError
from finops.rates import RateCard, upper_bound
from hal_drivers.prescan import Limits, prescan
from ledger.canonical import dumps, timestamp
from ledger.chain import Evidence, Pending

NO_CONSTRAINTS = BackendConstraints()


class Admission(Struct, frozen=True):
    """What became of a submission; `problem` is the code of a denial, `repeated` tells an idempotent answer."""

    job_id: str
    state: State
    decision: Decision | None
    amount: str | None
    currency: str | None
    rate_card: str | None
    problem: str | None = None
    repeated: bool = False
    advisory: bool = False


class Snapshot(Struct, frozen=True):
    """What price and policy are judged on, read once."""

    candidates: tuple[Candidate, ...]
    card: RateCard
    budgets: tuple[BudgetView, ...]
    document: dict[str, Any]
    price: Decimal


def _told_of(admission: Admission) -> dict[str, telemetry.Value]:
    """What a trace says of an admission."""
    decision_id = admission.decision.id if admission.decision is not None else None
    return {
        "job_id": admission.job_id,
        "decision_id": decision_id,
        "outcome": "repeated" if admission.repeated else admission.state.lower(),
        "code": admission.problem,
    }


@telemetry.traced("job.admit", _told_of)
async def admit(plane: Plane, envelope: Envelope, submit: Submit) -> Admission:
    """Admit or deny one job; raises Refused, DriverError or PolicyUnavailable where nothing was stored."""
    principal, spec = envelope.principal, submit.spec
    circuit = specs.single_sampler(spec)
    qubits = await _scan(plane, circuit)
    if not submit.dry_run and (known := await _known(plane, principal, submit)) is not None:
        return known
    snapshot = await _snapshot(plane, principal, spec, circuit, qubits, envelope.received_at)
    decision = await plane.pdp.decide(snapshot.document, str(uuid.uuid4()), envelope.received_at)
    if submit.dry_run:
        return _answer(
            spec.job_id or "",
            "QUEUED" if decision.allow else "DENIED",
            decision,
            snapshot,
            advisory=True,
        )
    job_id = spec.job_id or new_job_id(envelope.received_at)
    async with plane.transaction(principal.tenant) as conn:
        repeated = await _bind_key(conn, principal, submit, job_id)
        if repeated is not None:
            return repeated
        return await _record(plane, conn, envelope, spec, job_id, snapshot, decision)


def duplicate(job_id: str) -> Refused:
    """The tenant has a job of this id; nothing of the new one is kept."""
    return Refused(
        "duplicate_job_id",
        f"the tenant already has a job {job_id}",
        errors=({"field": "job_id", "message": "in use"},),
    )


def new_job_id(at: dt.datetime) -> str:
    """An id for a job that came without one."""
    return f"qcos-job-{at:%Y-%m-%d}-{secrets.token_hex(6)}"


async def _scan(plane: Plane, circuit: Circuit) -> int:
    """The declared qubits, from a scan that parses nothing; raises a DriverError."""
    if circuit.format == "QPY" and not plane.settings.qpy_enabled:
        raise Refused(
            "format_disabled",
            "QPY is switched off on this plane",
            errors=({"field": "circuit.format", "message": "QPY is switched off"},),
        )
    source, limits = specs.source_bytes(circuit), Limits(qpy=plane.settings.qpy_enabled)
    return (await aside(len(source), prescan, circuit.format, source, limits)).qubits_declared


async def _known(plane: Plane, principal: Principal, submit: Submit) -> Admission | None:
    if submit.idempotency_key is None:
        return None
    async with plane.transaction(principal.tenant) as conn:
        row = await store.known_key(conn, principal.subject, submit.idempotency_key)
        return None if row is None else await _repeat(conn, row, submit)


async def _bind_key(conn: AsyncConnection, principal: Principal, submit: Submit, job_id: str) -> Admission | None:
    if submit.idempotency_key is None:
        return None
    row = await store.remember_key(
        conn,
        principal.tenant,
        principal.subject,
        submit.idempotency_key,
        submit.body_sha256,
        job_id,
    )
    return None if row is None else await _repeat(conn, row, submit)


async def _repeat(conn: AsyncConnection, row: Any, submit: Submit) -> Admission:
    if row["body_sha256"] != submit.body_sha256:
        raise Refused("idempotency_conflict", "this Idempotency-Key was used with another body")
    job = await store.find(conn, row["job_id"])
    if job is None:
        raise Refused("idempotency_conflict", "the job of this Idempotency-Key is gone")
    return Admission(
        job["job_id"],
        shown_state(job),
        None,
        store.numeric(job["hold_amount"]),
        job["currency"],
        job["rate_card"],
        problem=(job["error"] or {}).get("code") if job["state"] == "DENIED" else None,
        repeated=True,
    )


def shown_state(row: Any) -> State:
    """The state that a row means: `final` once its evidence is ready, whatever the cache column still says."""
    state: State = row["final"] if row["state"] == "SEALING" and row["ready"] else row["state"]
    return state


@telemetry.traced("job.price")
async def _snapshot(
    plane: Plane,
    principal: Principal,
    spec: JobSpec,
    circuit: Circuit,
    qubits: int,
    at: dt.datetime,
) -> Snapshot:
    governance = spec.governance
    async with plane.transaction(principal.tenant) as conn:
        rows = await plane.known.backends(conn)
        card = await plane.known.current_card(conn, principal.tenant, at)
        usage = await store.usage(conn, team=principal.team, project=governance.project, at=at)
        candidates = priced(rows, card, spec.executions, plane.settings.job_deadline_s)
        # Policy sees every backend that could take the work, so that a denial can name what would pass; price and
        # budgets are those of the backends that the spec's constraints leave.
        offered = eligible(candidates, NO_CONSTRAINTS, circuit.format, 0)
        left = eligible(candidates, spec.execution.backend_constraints, circuit.format, qubits) or offered
        providers = {c.provider for c in left}
        budgets = await finops.store.applicable(
            conn,
            principal.tenant,
            project=governance.project,
            cost_center=governance.cost_center,
            user=principal.name,
            # Of several, which one is paid is known at routing; a hold in each would charge all of them.
            provider=providers.pop() if len(providers) == 1 else None,
            at=at,
        )
    price = max((c.price for c in left if c.price is not None), default=Decimal(0))
    document = _document(principal, spec, circuit, qubits, at)
    document |= {
        "price": _price(price, card.currency) if offered else None,
        "budgets": [_budget(budget) for budget in budgets],
        "usage": msgspec.to_builtins(usage),
        "limits": plane.pdp.engine.policies.limits(governance.project, principal.team, principal.department),
        "backends": [_backend(c) for c in offered],
    }
    return Snapshot(candidates, card, tuple(budgets), document, price)


def priced(rows: Sequence[Any], card: RateCard, executions: int, deadline_s: float) -> tuple[Candidate, ...]:
    """The registry's rows as candidates, each with its upper-bound price; None where the card has no price."""
    return tuple(_candidate(row, card, executions, deadline_s) for row in rows)


def _candidate(row: Any, card: RateCard, executions: int, deadline_s: float) -> Candidate:
    try:
        price = upper_bound(card, row["provider"], row["id"], executions, deadline_s).amount
    except FinopsError:
        price = None
    return Candidate(
        id=row["id"],
        provider=row["provider"],
        qubits=row["qubits"],
        formats=tuple(row["formats"]),
        state=row["state"] if row["fresh"] else "offline",
        reason=row["reason"] if row["fresh"] else "no worker has reported it lately",
        region=row["region"],
        compliance_zone=row["compliance_zone"],
        sovereign=row["sovereign"],
        price=price,
        currency=card.currency,
    )


def micros(amount: Decimal) -> int:
    """Integer micro-units, rounded up: what policy compares."""
    return int((amount * 1_000_000).to_integral_value(rounding="ROUND_CEILING"))


def _document(principal: Principal, spec: JobSpec, circuit: Circuit, qubits: int, at: dt.datetime) -> dict[str, Any]:
    constraints, governance = spec.execution.backend_constraints, spec.governance
    return {
        "action": "job:submit",
        "principal": {
            "subject": principal.subject,
            "name": principal.name,
            "domain": principal.domain,
            "tenant": principal.tenant,
            "roles": list(principal.roles_in(governance.project)),
            "team": principal.team,
            "department": principal.department,
            "kind": principal.kind,
        },
        "job": {
            "project": governance.project,
            "cost_center": governance.cost_center,
            "classification": governance.classification,
            "purpose": governance.purpose,
            "justification": governance.justification,
            "format": circuit.format,
            "shots": spec.shots,
            "executions": spec.executions,
            "qubits": max(qubits, constraints.min_qubits or 0),
            "max_depth": constraints.max_depth,
            "evidence_level": spec.evidence_requirements.level,
            "retention_days": spec.evidence_requirements.retention_days,
            "allowed_providers": list(constraints.allowed_providers) if constraints.allowed_providers else None,
            "backend": constraints.backend,
        },
        "time": {"now": timestamp(at), "date": f"{at:%Y-%m-%d}"},
    }


def _price(amount: Decimal, currency: str) -> dict[str, Any]:
    return {
        "amount": format(amount, "f"),
        "currency": currency,
        "micros": micros(amount),
    }


def _budget(view: BudgetView) -> dict[str, Any]:
    return {
        "scope": view.scope,
        "period": view.period,
        "limit": format(view.limit, "f"),
        "held": format(view.held, "f"),
        "captured": format(view.captured, "f"),
        "available": format(view.available, "f"),
        "currency": view.currency,
        "available_micros": -micros(-view.available),
    }


def _backend(candidate: Candidate) -> dict[str, Any]:
    return {
        "id": candidate.id,
        "provider": candidate.provider,
        "qubits": candidate.qubits,
        "region": candidate.region,
        "compliance_zone": candidate.compliance_zone,
        "sovereign": candidate.sovereign,
        "price_micros": micros(candidate.price or Decimal(0)),
    }


async def _record(
    plane: Plane,
    conn: AsyncConnection,
    envelope: Envelope,
    spec: JobSpec,
    job_id: str,
    snapshot: Snapshot,
    decision: Decision,
) -> Admission:
    """Job row, hold, decision entry and admission entry; ends the caller's transaction.

    The hold locks budgets that others wait for, so what can come before it does; what follows is one round trip.
    """
    principal, at = envelope.principal, envelope.received_at
    accepted = msgspec.structs.replace(spec, job_id=job_id)
    submitted = Submitted(dumps(specs.canonical(accepted)), dumps(snapshot.document))
    blobs = await plane.vault.write(conn, principal.tenant, (submitted.spec, submitted.decision_input))
    row = _row(principal, accepted, job_id, decision, at) | {
        "spec_blob": blobs[0].commitment,
        "input_blob": blobs[1].commitment,
        "admission_entry": str(uuid.uuid4()),
        "rate_card": snapshot.card.hash,
        "currency": snapshot.card.currency,
        "allowed": list(decision.backends),
    }
    if not decision.allow:
        row |= _denial(decision, problem_code(decision), at)
        proof = await evidence.denied(plane, conn, row, accepted, submitted)
        if not await store.add(conn, row):
            raise duplicate(job_id)
        return await _tell(conn, row, decision, snapshot, None, proof)
    row |= _told("QUEUED", at) | {"hold_amount": snapshot.price}
    if not await store.add(conn, row):
        raise duplicate(job_id)
    ids = [budget.budget_id for budget in snapshot.budgets]
    hold = await finops.store.hold(conn, principal.tenant, job_id, ids, snapshot.price, snapshot.card.currency, at)
    match hold:
        case finops.store.Held():
            return await _tell(conn, row, decision, snapshot, hold.body(), None)
        case finops.store.Exceeded():
            problem = "budget_exceeded"
        case finops.store.Missing():
            problem = "budget_missing"
    row |= _denial(decision, problem, at) | {"hold_amount": None}
    proof = await evidence.denied(plane, conn, row, accepted, submitted)
    await store.refuse(conn, row)
    return await _tell(conn, row, decision, snapshot, None, proof)


def _told(state: State, at: dt.datetime) -> dict[str, Any]:
    """The first event of a job, as its row has it."""
    events = moves(None, 0, (state,), timestamp(at))
    return {"state": state, "seq": events[-1].seq, "history": msgspec.to_builtins(list(events))}


def _denial(decision: Decision, problem: str, at: dt.datetime) -> dict[str, Any]:
    return _told("DENIED", at) | {
        "final": "DENIED",
        "error": {"code": problem, "detail": denial_text(decision, problem)},
    }


async def _tell(
    conn: AsyncConnection,
    row: dict[str, Any],
    decision: Decision,
    snapshot: Snapshot,
    held: dict[str, Any] | None,
    proof: Evidence | None,
) -> Admission:
    """Both entries, and the commit."""
    at, state = row["submitted_at"], row["state"]
    who = (row["tenant"], row["pseudonym"])
    body = _admission_body(row, decision, snapshot)
    commitments = {"spec": row["spec_blob"], "decision_input": row["input_blob"]}
    problem = None
    if proof is None:
        body["hold"] = held
    else:
        problem = body["error"] = row["error"]["code"]
        body["bundle_id"] = row["bundle_id"]
        commitments["statement"] = row["statement_blob"]
    kind = f"job:admission:{'allowed' if proof is None else 'denied'}"
    decided = decision_entry(*who, row["job_id"], decision, row["input_blob"], at)
    async with closing(conn):
        if proof is None:
            await store.count_usage(conn, row)
        await ledger.store.append(
            conn, [(decided, None), (_entry(row["admission_entry"], *who, kind, body, commitments, at), proof)]
        )
    return _answer(row["job_id"], state, decision, snapshot, problem=problem)


def _row(
    principal: Principal,
    spec: JobSpec,
    job_id: str,
    decision: Decision,
    at: dt.datetime,
) -> dict[str, Any]:
    return {
        "tenant": principal.tenant,
        "job_id": job_id,
        "project": spec.governance.project,
        "team": principal.team,
        "subject": principal.subject,
        "actor": principal.actor,
        "pseudonym": principal.pseudonym,
        "level": spec.evidence_requirements.level,
        "executions": spec.executions,
        "submitted_at": at,
        "decision_id": decision.id,
        "traceparent": telemetry.traceparent(),
        "decision": decision.document()
        | {
            "engine": decision.engine,
            "department": principal.department,
            "policies_applied": list(decision.policies_applied),
        },
    }


def _admission_body(
    row: dict[str, Any],
    decision: Decision,
    snapshot: Snapshot,
) -> dict[str, Any]:
    return {
        "job_id": row["job_id"],
        "project": row["project"],
        "team": row["team"],
        "events": row["history"],
        "decision_id": decision.id,
        "evidence_level": row["level"],
        "executions": row["executions"],
        "price": {
            "amount": format(snapshot.price, "f"),
            "currency": snapshot.card.currency,
        },
        "rate_card": snapshot.card.hash,
        "allowed": list(decision.backends),
    }


def decision_entry(
    tenant: str,
    actor: str,
    job_id: str,
    decision: Decision,
    input_blob: str,
    at: dt.datetime,
) -> Pending:
    """The entry that records a decision, allow or deny (G2); its input lies in the blob it commits to."""
    body = {
        "decision_id": decision.id,
        "job_id": job_id,
        "action": "job:submit",
        "allow": decision.allow,
        "policies_applied": list(decision.policies_applied),
        "reasons": sorted({reason.code for reason in decision.reasons}),
        "policy_revision": decision.policy_revision,
        "engine": decision.engine,
        "input_hash": decision.input_hash,
    }
    kind = f"policy:decision:{'allow' if decision.allow else 'deny'}"
    return _entry(str(uuid.uuid4()), tenant, actor, kind, body, {"input": input_blob}, at)


def _entry(
    entry_id: str,
    tenant: str,
    actor: str,
    kind: str,
    body: dict[str, Any],
    commitments: dict[str, str],
    at: dt.datetime,
) -> Pending:
    return Pending(
        entry_id=entry_id,
        tenant=tenant,
        kind=kind,
        actor=actor,
        time=at,
        body=body,
        commitments=commitments,
        traceparent=telemetry.traceparent(),
    )


def denial_text(decision: Decision, problem: str) -> str:
    """One line that says what failed; the hold's refusal has no reason of policy to quote."""
    if decision.allow:
        return "the budget was spent between the decision and the hold"
    return "; ".join(reason.message for reason in decision.reasons) or problem


def _answer(
    job_id: str,
    state: State,
    decision: Decision,
    snapshot: Snapshot,
    *,
    problem: str | None = None,
    advisory: bool = False,
) -> Admission:
    if advisory and not decision.allow:
        problem = problem_code(decision)
    return Admission(
        job_id,
        state,
        decision,
        format(snapshot.price, "f"),
        snapshot.card.currency,
        snapshot.card.hash,
        problem=problem,
        advisory=advisory,
    )
