# SPDX-License-Identifier: Apache-2.0
"""Admission: price, decide, hold, and write it all in one call (design path step 3).

    1 scanned      the circuit's declared size, from a scan that parses nothing
    2 looked       price, budgets, usage and backends, and what the idempotency key is bound to: one read
    3 decided      by policy, on that snapshot
    4 recorded     hold, job row, blobs and both entries: one write

Each step is a crash point (`control_plane.crash`), the last one also before its write.

Enters an envelope with a submit; leaves an `Admission` value. A denial is a value with reasons, recorded before it is
answered. The decision judges a snapshot; the hold is the authority: refused there, the job is DENIED
`budget_exceeded` and the decision stays as made. Nothing is stored where no decision could be had (I5).
`dry_run` prices and decides and writes nothing.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

import finops.store
from control_plane import crash, telemetry
from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import accepted, approval, denials, evidence, quote, store
from control_plane.jobs import spec as specs
from control_plane.jobs.envelope import Envelope, Submit
from control_plane.jobs.evidence import Submitted
from control_plane.jobs.quote import Asked, Snapshot
from control_plane.jobs.routing import Considered, route
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.state import State, moves
from control_plane.jobs.weights import Weights
from control_plane.notices import targets
from control_plane.policy import duties
from control_plane.policy.decision import Decision, obliged, problem_code
from finops.budget import share
from finops.holds import Exceeded, Held, quoted, shares
from hal_drivers.prescan import prescan
from ledger.canonical import dumps, timestamp
from ledger.chain import Pending


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
    short: Exceeded | None = None
    """Of a dry run: the budgets that would refuse it."""
    route: tuple[Considered, ...] = ()
    """Of a dry run: where the job would go now, and why not elsewhere."""
    estimate: Mapping[str, Any] | None = None
    """What it will probably cost, where policy leaves a backend that says so."""


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
async def admit(plane: Plane, envelope: Envelope, submit: Submit, *, put_off_s: float = 0) -> Admission:
    """Admit or deny one job; raises Refused, DriverError or PolicyUnavailable where nothing was stored.

    No worker takes it before `put_off_s` seconds are over.
    """
    principal, spec, at = envelope.principal, submit.spec, envelope.received_at
    if not submit.dry_run:
        plane.sealing.refuse()
    found = await scan(plane, spec)
    format_, signature = spec.circuits[0].format, submit.signature
    asked = Asked(principal, spec, format_, found.qubits, at, found.services, found.operations, signature)
    crash.point("admit.scanned")
    snapshot = await quote.look(plane, asked, submit.idempotency_key)
    if not submit.dry_run:
        plane.sealing.trust(snapshot.skew_s)
    crash.point("admit.looked")
    if snapshot.bound is not None and not submit.dry_run:
        return await _repeat(plane, principal, snapshot.bound, submit)
    if snapshot.closed:
        raise quote.closed(spec.governance.project)
    decision = await plane.pdp.decide(snapshot.document, str(uuid.uuid4()), at)
    targets.demand(plane.settings.channels, decision.obligations)
    snapshot = quote.narrowed(plane, snapshot, decision.backends)
    crash.point("admit.decided")
    if submit.dry_run:
        return _advice(spec.job_id or "", decision, snapshot, plane.settings.routing, spec.executions)
    await plane.vault.ready(plane.engine, principal.tenant)
    draft = _Draft(plane, asked, submit, spec.job_id or new_job_id(at), snapshot, decision)
    problem = _problem(decision)
    counted: denials.Counted | None = None
    short: Exceeded | None = None
    while True:
        made = draft.write(problem, short)
        if put_off_s:
            made.row["lease_until"] = at + dt.timedelta(seconds=put_off_s)
        if problem is not None:
            counted = counted or await denials.count(plane, principal, made.items, made.blobs, decision, at)
            made = msgspec.structs.replace(made, aside=counted == "fold")
        crash.point("admit.recording")
        match await store.admit(plane.engine, principal.tenant, made):
            case "admitted":
                crash.point("admit.recorded")
                return _answer(made.row["job_id"], made.row["state"], decision, snapshot, problem)
            case "repeated":
                rows, *_ = await plane.read(
                    principal.tenant, store.known_key(principal.subject, submit.idempotency_key)
                )
                return await _repeat(plane, principal, rows[0], submit)
            case "duplicate":
                raise duplicate(draft.job_id)
            case Exceeded() as short:
                problem = short.code
            case "missing":
                problem = "budget_missing"
            case "quota":
                problem = "tenant_quota_exceeded"
            case "crowded":
                raise Crowded
        crash.point("admit.refused")


_ADMISSIONS = {"QUEUED": "allowed", "AWAITING_APPROVAL": "awaiting", "DENIED": "denied"}


def _problem(decision: Decision) -> str | None:
    """The code of a denial; None where the job may run, or may once somebody approves it."""
    return None if decision.allow or decision.overridable else problem_code(decision)


class Crowded(Refused):
    """The tenant has as many waiting jobs as it may have; nothing of this one is kept."""

    def __init__(self) -> None:
        said = "as many jobs of this tenant wait as may wait at once"
        super().__init__("tenant_queue_full", said, extras={"retry_after_s": 1})

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 section 10.2.3: a place is free as soon as one of them runs or is cancelled."""
        return {"Retry-After": "1"}


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


class Scanned(Struct, frozen=True):
    """Of all circuits of a job: the declared qubits of the largest, the most operations, the service aliases."""

    qubits: int
    operations: int | None
    services: tuple[str, ...]


async def scan(plane: Plane, spec: JobSpec) -> Scanned:
    """What a scan that parses nothing tells; raises a DriverError. `operations` is None where nobody can tell."""
    if spec.circuits[0].format == "QPY" and not plane.settings.qpy_enabled:
        raise Refused(
            "format_disabled",
            "QPY is switched off on this plane",
            errors=({"field": "circuit.format", "message": "QPY is switched off"},),
        )
    most, services = 0, set[str]()
    operations: int | None = 0
    for place, circuit in enumerate(spec.circuits):
        source, limits = specs.source_bytes(circuit), plane.settings.circuit_limits
        found = await aside(len(source), prescan, circuit.format, source, limits)
        declared = found.qubits_declared
        specs.fits_observables(spec, place, declared)
        specs.fits_analysis(spec, declared)
        most = max(most, declared)
        services.update(found.services)
        bounded = operations is not None and found.operations and not found.unbounded
        operations = max(operations or 0, found.operations) if bounded else None
    return Scanned(most, operations, tuple(sorted(services)))


async def _repeat(plane: Plane, principal: Principal, bound: Mapping[str, Any], submit: Submit) -> Admission:
    if bound["body_sha256"] != submit.body_sha256:
        raise Refused("idempotency_conflict", "this Idempotency-Key was used with another body")
    (found,) = await plane.read(principal.tenant, store.find(bound["job_id"]))
    if not found:
        raise Refused("idempotency_conflict", "the job of this Idempotency-Key is gone")
    job = found[0]
    return Admission(
        job["job_id"],
        shown_state(job),
        None,
        store.numeric(job["hold_amount"]),
        job["currency"],
        job["rate_card"],
        estimate=job["estimate"],
        problem=(job["error"] or {}).get("code") if job["state"] == "DENIED" else None,
        repeated=True,
    )


def shown_state(row: Any) -> State:
    """The state that a row means: `final` once its evidence is ready, whatever the cache column still says."""
    state: State = row["final"] if row["state"] == "SEALING" and row["ready"] else row["state"]
    return state


class _Draft:
    """One submission that was decided, as the write of whatever becomes of it: pure but for ids and salts."""

    def __init__(
        self, plane: Plane, asked: Asked, submit: Submit, job_id: str, snapshot: Snapshot, decision: Decision
    ) -> None:
        self.plane, self.asked, self.submit, self.job_id = plane, asked, submit, job_id
        self.snapshot, self.decision = snapshot, decision
        self.spec = msgspec.structs.replace(asked.spec, job_id=job_id)
        self.submitted = Submitted(dumps(accepted.canonical(self.spec)), decision.input)
        signed = (submit.signature.data,) if submit.signature is not None else ()
        self.sealed = plane.vault.seal(
            asked.principal.tenant, (self.submitted.spec, self.submitted.decision_input, *signed)
        )

    def write(self, problem: str | None, short: Exceeded | None = None) -> store.NewJob:
        """The job's row, blobs, hold and two entries: admitted, or denied for this problem."""
        codes = approval.needed(self.decision)
        state: State = "DENIED" if problem is not None else "AWAITING_APPROVAL" if codes else "QUEUED"
        row = self._row() | _told(state, self.asked.at)
        row["estimate"] = _estimate(self.snapshot) if problem is None else None
        body = self._body(row)
        commitments = {"spec": row["spec_blob"], "decision_input": row["input_blob"]}
        if self.submit.signature is not None:
            commitments["envelope"] = self.sealed[2].commitment
            body["envelope"] = self.submit.signature.document()
            row["envelope"] = body["envelope"] | {"blob": commitments["envelope"]}
        blobs = [sealed.blob for sealed in self.sealed]
        proof = hold = None
        if problem is None:
            held = self._hold()
            hold = finops.store.placing(held, self.asked.at)
            row["hold_amount"], body["hold"] = held.amount, held.body()
            if codes:
                waits = approval.begun(codes, self.asked.at, self.plane.settings.approval_wait_s)
                row["approval"] = body["approval"] = waits.document()
        else:
            row |= {
                "final": "DENIED",
                "error": {"code": problem} | _told_why(self.decision, problem, short, self.snapshot),
            }
            proof, statement = evidence.denied(self.plane, row, self.spec, self.submitted)
            blobs.append(statement)
            commitments["statement"] = statement.commitment
            body |= {"error": problem, "bundle_id": row["bundle_id"]}
        kind = f"job:admission:{_ADMISSIONS[state]}"
        entry = self._entry(row["admission_entry"], kind, body, commitments)
        decided = decision_entry(
            row["tenant"], row["pseudonym"], self.job_id, self.decision, row["input_blob"], self.asked.at
        )
        return store.NewJob(row, ((decided, None), (entry, proof)), tuple(blobs), self._key(), hold)

    def _key(self) -> tuple[str, str, str] | None:
        key = self.submit.idempotency_key
        return None if key is None else (self.asked.principal.subject, key, self.submit.body_sha256)

    def _hold(self) -> Held:
        snapshot = self.snapshot
        shots = Decimal(self.spec.executions if quoted(snapshot.budgets) else 0)
        return Held(self.job_id, snapshot.price, snapshot.currency, shares(snapshot.budgets), shots)

    def _row(self) -> dict[str, Any]:
        principal, decision = self.asked.principal, self.decision
        return {
            "tenant": principal.tenant,
            "job_id": self.job_id,
            "project": self.spec.governance.project,
            "team": principal.team,
            "subject": principal.subject,
            "actor": principal.actor,
            "pseudonym": principal.pseudonym,
            "issuer": principal.issuer,
            "credential": principal.credential,
            "level": duties.level(self.spec.evidence_requirements.level, decision.obligations),
            "executions": self.spec.executions,
            "retention_days": (days := self.spec.evidence_requirements.retention_days),
            "erase_from": self.asked.at + dt.timedelta(days=days),
            "submitted_at": self.asked.at,
            "decision_id": decision.id,
            "traceparent": telemetry.traceparent(),
            "decision": decision.document()
            | {
                "engine": decision.engine,
                "department": principal.department,
                "policies_applied": list(decision.policies_applied),
            }
            | ({"acting": msgspec.to_builtins(principal.chain)} if principal.chain else {}),
            "spec_blob": self.sealed[0].commitment,
            "input_blob": self.sealed[1].commitment,
            "admission_entry": str(uuid.uuid4()),
            "rate_card": self.snapshot.rate_card,
            "rate_cards": {name: card for name, card in self.snapshot.cards.items() if name in decision.backends},
            "currency": self.snapshot.currency,
            "allowed": list(decision.backends),
            "workflow": accepted.workflow_of(self.spec),
            "accounting": accepted.accounting_of(self.spec),
        }

    def _body(self, row: Mapping[str, Any]) -> dict[str, Any]:
        tied: dict[str, Any] = {
            name: row[name] for name in ("workflow", "accounting", "estimate") if row[name] is not None
        }
        if chain := self.asked.principal.chain:
            tied["delegations"] = [link.delegation for link in chain]
        return tied | {
            "job_id": self.job_id,
            "project": row["project"],
            "team": row["team"],
            "events": row["history"],
            "decision_id": self.decision.id,
            "evidence_level": row["level"],
            "executions": row["executions"],
            "retention_days": row["retention_days"],
            "price": {"amount": format(self.snapshot.price, "f"), "currency": row["currency"]},
            "rate_card": row["rate_card"],
            "rate_cards": row["rate_cards"],
            "allowed": row["allowed"],
        }

    def _entry(self, entry_id: str, kind: str, body: dict[str, Any], commitments: dict[str, str]) -> Pending:
        principal = self.asked.principal
        return Pending(
            entry_id=entry_id,
            tenant=principal.tenant,
            kind=kind,
            actor=principal.pseudonym,
            time=self.asked.at,
            body=body,
            commitments=commitments,
            traceparent=telemetry.traceparent(),
        )


def _told(state: State, at: dt.datetime) -> dict[str, Any]:
    """The first event of a job, as its row has it."""
    events = moves(None, 0, (state,), timestamp(at))
    return {"state": state, "seq": events[-1].seq, "history": msgspec.to_builtins(list(events))}


def decision_entry(
    tenant: str,
    actor: str,
    job_id: str,
    decision: Decision,
    input_blob: str,
    at: dt.datetime,
) -> Pending:
    """The entry that records a decision on a job; see `decided`."""
    return decided(tenant, actor, {"job_id": job_id, "action": "job:submit"}, decision, input_blob, at)


def decided(
    tenant: str, actor: str, about: Mapping[str, str], decision: Decision, input_blob: str, at: dt.datetime
) -> Pending:
    """The entry that records a decision, allow or deny (G2); its input lies in the blob it commits to."""
    body: dict[str, Any] = {
        "decision_id": decision.id,
        **about,
        "allow": decision.allow,
        "policies_applied": list(decision.policies_applied),
        "reasons": sorted({reason.code for reason in decision.reasons}),
        "policy_revision": decision.policy_revision,
        "engine": decision.engine,
        "input_hash": decision.input_hash,
    }
    if decision.obligations:
        body["obligations"] = [obliged(one) for one in decision.obligations]
    if decision.allowed_nodes:
        body["allowed_nodes"] = list(decision.allowed_nodes)
    kind = f"policy:decision:{'allow' if decision.allow else 'deny'}"
    return Pending(
        entry_id=str(uuid.uuid4()),
        tenant=tenant,
        kind=kind,
        actor=actor,
        time=at,
        body=body,
        commitments={"input": input_blob},
    )


def _told_why(decision: Decision, problem: str, short: Exceeded | None, seen: Snapshot) -> dict[str, Any]:
    """What a denied job's row says: in words, and which budgets had too little for it."""
    if short is None:
        judged = [view for view in seen.budgets if quote.binding(view) and view.available < seen.price]
        named = [msgspec.structs.replace(view, asked=seen.price).record() for view in judged]
        told: dict[str, Any] = {"budgets": named} if named and problem == "budget_exceeded" else {}
        return {"detail": denial_text(decision, problem)} | told
    return {"detail": short.detail, "budgets": [view.record() for view in short.budgets]}


def denial_text(decision: Decision, problem: str) -> str:
    """One line that says what failed, where it was no hold."""
    if problem == "tenant_quota_exceeded":
        return "the tenant's shots of today (UTC) are used up, or wouldn't suffice for this job"
    return "; ".join(reason.message for reason in decision.reasons) or problem


def _short(snapshot: Snapshot, executions: int) -> Exceeded | None:
    """The hard budgets of the snapshot that wouldn't hold the job."""
    asked = {view: share(view.currency, snapshot.price, Decimal(executions)) for view in snapshot.budgets}
    found = tuple(view.refused(asked[view]) for view in asked if view.mode == "hard" and asked[view] > view.available)
    return Exceeded(found) if found else None


def _advice(job_id: str, decision: Decision, snapshot: Snapshot, weights: Weights, executions: int) -> Admission:
    """What a dry run answers: what would be decided now, and which budget would refuse what policy allows."""
    problem, short = _problem(decision), None
    if problem is None and (short := _short(snapshot, executions)) is not None:
        problem = short.code
    state: State = "DENIED" if problem is not None else "AWAITING_APPROVAL" if approval.needed(decision) else "QUEUED"
    made = _answer(job_id, state, decision, snapshot, problem)
    found = route(snapshot.candidates, snapshot.wanted, frozenset(decision.backends), weights)
    return msgspec.structs.replace(made, advisory=True, route=found.considered, short=short)


def _answer(job_id: str, state: State, decision: Decision, snapshot: Snapshot, problem: str | None) -> Admission:
    price, told = format(snapshot.price, "f"), _estimate(snapshot) if problem is None else None
    return Admission(job_id, state, decision, price, snapshot.currency, snapshot.rate_card, problem, estimate=told)


def _estimate(snapshot: Snapshot) -> dict[str, Any] | None:
    return snapshot.estimate.told if snapshot.estimate is not None else None
