# SPDX-License-Identifier: Apache-2.0
"""The dispatch gate (design path step 5): route among what policy allows, then judge what compiling found.

A job passes only if its compiled facts fit the constraints, and the decision that admitted it still stands: with a
newer policy revision, or fewer rights of who asked than they had, it is decided anew, on the recorded input with the
compiled facts and the rights of now. Nothing here hands anything to a backend. An engine that can't decide raises
PolicyUnavailable, and the job waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

import ledger.store
from control_plane import crash, telemetry
from control_plane.context import Plane
from control_plane.entitled import Entitled, asked, entitled
from control_plane.jobs import approval, failover, fees, holding, leases, metering, program
from control_plane.jobs.admit import decision_entry, scan
from control_plane.jobs.asking import METER
from control_plane.jobs.evidence import Submitted
from control_plane.jobs.gathered import Program
from control_plane.jobs.pricing import UNMITIGATED, Cards, before_compiling, fixed, in_currency, priced
from control_plane.jobs.quote import NETWORK, asked_by_nodes, micros, nodes, wants
from control_plane.jobs.routing import Candidate, Route, eligible, route
from control_plane.jobs.spec import JobSpec
from control_plane.notices import store as notices
from control_plane.notices import targets
from control_plane.policy import duties
from control_plane.policy.document import Plan, time_judged
from finops import money
from finops.card import RateCard
from finops.holds import Exceeded
from finops.rates import upper_bound
from finops.reading import COMPILED
from hal_drivers.base import Compiled
from hal_drivers.errors import BackendUnavailable
from hal_drivers.p2p import planned
from ledger.canonical import sha256

# What the administrator says of a backend and policy judges; a job that waited may find it changed.
FACTS = ("region", "compliance_zone", "sovereign")


class Stopped(Exception):
    """The job may not go on: FAILED with this code and cause."""

    def __init__(self, code: str, detail: str) -> None:
        """Name the stable code and the cause."""
        super().__init__(detail)
        self.code, self.detail = code, detail


class Chosen(msgspec.Struct, frozen=True):
    """A route that has a backend; `lines` are those of this attempt, after those of attempts that failed over."""

    chosen: Candidate
    lines: list[dict[str, Any]]
    reason: str


class _Job(msgspec.Struct):
    qubits: int
    services: tuple[str, ...] = ()


class _Judged(msgspec.Struct):
    """Of the recorded decision input, what routing needs."""

    job: _Job


_judged = msgspec.json.Decoder(_Judged)


async def choose(plane: Plane, job: Mapping[str, Any], spec: JobSpec, submitted: Submitted) -> Chosen:
    """Route the job; raises BackendUnavailable while what it may use is offline, NoRoom while budgets don't hold it.

    A backend that failed this job is left out, unless it was only away, or a budget short, and nothing else is left.
    """
    before = failover.kept(job["route"])
    failed = failover.failures(before)
    found, lacking = await _found(plane, job, spec, submitted, failed)
    if found.chosen is None and failed:
        broken = [line for line in failed if line["failed"]["code"] not in failover.PASSING]
        found, lacking = await _found(plane, job, spec, submitted, broken)
    if found.chosen is None:
        said = "; ".join(f"{line.backend}: {line.reason}" for line in found.considered)
        short = {view.budget_id: view for one in lacking.values() if one is not None for view in one.budgets}
        if short:
            raise holding.NoRoom(Exceeded(tuple(short.values())))
        if lacking:
            raise Stopped("currency_mismatch", said)
        raise BackendUnavailable(said)
    attempt = {"attempt": job["attempt"] + 1}
    lines = [*before, *(msgspec.to_builtins(line) | attempt for line in found.considered)]
    return Chosen(found.chosen, lines, next(line.reason for line in found.considered if line.verdict == "chosen"))


async def another(
    plane: Plane, job: Mapping[str, Any], spec: JobSpec, submitted: Submitted, route: Sequence[dict[str, Any]]
) -> bool:
    """Whether a backend is left that hasn't failed this job by the route's lines."""
    found, _ = await _found(plane, job, spec, submitted, failover.failures(route))
    return found.chosen is not None


async def _found(
    plane: Plane, job: Mapping[str, Any], spec: JobSpec, submitted: Submitted, failed: Sequence[Mapping[str, Any]]
) -> tuple[Route, dict[str, Exceeded | None]]:
    """The route, and what is short of those backends that were left out because a hold for them wouldn't be granted."""
    rows = await plane.known.backends(plane.engine)
    cards = await _cards(plane, job)
    past = await plane.known.past(plane.engine, job["tenant"], plane.settings.routing.history_days)
    formats = tuple(sorted({circuit.format for circuit in spec.circuits}))
    judged = _judged.decode(submitted.decision_input).job
    # Of the nodes that admission saw: who was enrolled since is not planned with, and what a node asks never changes.
    allowed = frozenset(job["decision"].get("allowed_nodes", ()))
    bounds = before_compiling(await _operations(plane, spec, rows, cards), spec.executions, spec.items)
    bounds |= await asked_by_nodes(plane, spec, judged.qubits, rows, cards, allowed)
    candidates = priced(rows, cards, spec.executions, plane.settings.job_deadline_s, past, spec.items, bounds)
    candidates = in_currency(candidates, job["currency"])
    wanted = wants(spec, formats, judged.qubits, services=bool(judged.services))
    unfit = {line["backend"]: failover.said(line) for line in failed}
    if (target := approval.target_of(job)) is not None:
        unfit |= {one.id: f"the approval is for {target}" for one in candidates if one.id != target}
    allowed_here = frozenset(job["allowed"])
    left = [one for one in eligible(candidates, wanted) if one.id in allowed_here and one.id not in unfit]
    short = await holding.short(plane, job, left)
    unfit |= {backend: why for backend, (why, _) in short.items()}
    found = route(candidates, wanted, allowed_here, plane.settings.routing, unfit)
    return found, {backend: lacking for backend, (_, lacking) in short.items()}


async def _cards(plane: Plane, job: Mapping[str, Any]) -> dict[str, RateCard | str]:
    """The cards of the job's admission, by backend; raises UnknownPrice where one was changed since."""
    found: dict[str, RateCard | str] = {}
    for backend in job["allowed"]:
        name = fixed(job, backend)
        if name is not None:
            found[backend] = await plane.known.card(plane.engine, job["tenant"], name)
    return found


async def _operations(plane: Plane, spec: JobSpec, rows: Sequence[Any], cards: Cards) -> int | None:
    """How many operations a circuit has at most, as admission saw them; not looked for where no price asks."""
    sold = ((cards.get(row["id"]), (row["provider"], row["id"], row["capability"].get("sku"))) for row in rows)
    if any(isinstance(card, RateCard) and card.meters(*of) & COMPILED for card, of in sold):
        return (await scan(plane, spec)).operations
    return None


@telemetry.traced("job.gate")
async def judge(
    plane: Plane,
    job: dict[str, Any],
    spec: JobSpec,
    compiled: Compiled,
    submitted: Submitted,
    chosen: Chosen,
    plan: Plan | None = None,
) -> None:
    """Raise Stopped unless the compiled circuit and the decision in force let the job go on.

    What was set for a provider since the job was claimed counts from here on (I3). A job of the network comes with its
    plan, and is decided anew on it and on the nodes as they are now (I8).
    """
    _approved(plane, job, spec, compiled, chosen.chosen)
    limit = spec.execution.backend_constraints.max_depth
    if limit is not None and compiled.facts.depth > limit:
        raise Stopped("depth_exceeded", f"{_deepest(spec, compiled)}, max_depth is {limit}")
    document = _recorded(submitted)
    moved = _refresh(document, chosen.chosen)
    if chosen.chosen.provider == NETWORK:
        if plan is None:
            raise Stopped("policy_denied", "a job of the network has no plan that policy could judge")
        document |= {"nodes": await nodes(plane, (NETWORK,)), "plan": msgspec.to_builtins(plan)}
        moved = True
    (known,), job["providers"] = await plane.read(job["tenant"], asked(job), leases.providers(job["tenant"]))
    if (left := entitled(known, job, document["principal"])) is not None:
        document["principal"]["roles"] = list(left.roles)
        moved = True
    if moved or plane.pdp.revision != job["decision"]["policy_revision"]:
        await _decide_again(plane, job, compiled, document, left)


def _approved(plane: Plane, job: Mapping[str, Any], spec: JobSpec, compiled: Compiled, target: Candidate) -> None:
    """Raise Stopped unless exactly this was approved, where somebody had to; not of a request that is being made."""
    if job["state"] == approval.WAITS:
        return
    given = approval.of(job)
    if given is not None:
        made = approval.bound(spec, sha256(compiled.artefact), target)
        if (fault := approval.fault(given, made, plane.now())) is not None:
            raise Stopped(*fault)
    elif not job["decision"]["allow"]:
        raise Stopped("approval_missing", "policy denied it, and there is no approval")


def _recorded(submitted: Submitted) -> dict[str, Any]:
    """The recorded input, with what one of an earlier version lacks: it had no network and counted no team's jobs."""
    document: dict[str, Any] = {"nodes": [], "plan": None} | msgspec.json.decode(submitted.decision_input)
    document["usage"].setdefault("team_running_jobs", 0)
    for budget in document["budgets"]:
        budget.setdefault("limit_micros", -micros(-Decimal(budget["limit"])))
    return document


async def afford(plane: Plane, job: Mapping[str, Any], spec: JobSpec, compiled: Compiled, target: Candidate) -> Decimal:
    """The most that the compiled job can cost at this backend: what its hold is made to be.

    Raises Stopped where its nodes may ask for more than the rate card passes on, or its owner bounded the price below.
    """
    if compiled.format == "PLAN":
        amount = await _planned(plane, job, compiled)
    else:
        amount = await _counted(plane, job, spec, compiled, target)
    bound = spec.execution.max_price
    if bound is not None and amount > Decimal(bound.amount):
        raise Stopped(
            "price_changed", f"it may cost {money.text(amount)} {job['currency']}, max_price is {bound.amount}"
        )
    return amount


async def _counted(
    plane: Plane, job: Mapping[str, Any], spec: JobSpec, compiled: Compiled, target: Candidate
) -> Decimal:
    """The bound at this backend, with what compiling has counted."""
    card = await plane.known.card(plane.engine, job["tenant"], fixed(job, target.id) or job["rate_card"])
    backend = await plane.known.backend(plane.engine, target.id)
    counted, sku = {**UNMITIGATED, **metering.most(compiled, spec.shots)}, backend["capability"].get("sku")
    limit_s, each = plane.settings.job_deadline_s, metering.most_of_each(compiled, spec.shots)
    return upper_bound(
        card, target.provider, target.id, spec.executions, limit_s, spec.items, sku, counted, each
    ).amount


async def _planned(plane: Plane, job: Mapping[str, Any], compiled: Compiled) -> Decimal:
    """The most that a plan can cost, with what its nodes may ask for."""
    made = planned.read(compiled.artefact)
    card = await plane.known.card(plane.engine, job["tenant"], fixed(job, compiled.backend) or job["rate_card"])
    backend = await plane.known.backend(plane.engine, job["backend"] or compiled.backend)
    if strange := fees.in_other_currency(made, card.currency):
        raise Stopped("price_changed", f"prices here are in {card.currency}, not as {', '.join(strange[:8])} asks")
    lines = card.lines(backend["provider"], compiled.backend, backend["capability"].get("sku"))
    cap = next((cap for line in lines if line.meter == METER and (cap := line.cap_of_a_task) is not None), Decimal(0))
    if (asked := fees.most(made)) > cap:
        passed_on = f"the rate card passes on up to {money.text(cap)}"
        raise Stopped("price_changed", f"its nodes may ask for {money.text(asked)} {card.currency}, {passed_on}")
    deadline_s, sku = plane.settings.job_deadline_s, backend["capability"].get("sku")
    most = upper_bound(
        card, backend["provider"], compiled.backend, made.plan.shots, deadline_s, sku=sku, known={METER: asked}
    )
    return most.amount


def _deepest(spec: JobSpec, compiled: Compiled) -> str:
    """What was compiled too deep, by its item where there are several."""
    said = f"compiled to depth {compiled.facts.depth}"
    if not isinstance(compiled, Program):
        return said
    number = next(n for n, item in enumerate(compiled.items) if item.facts.depth == compiled.facts.depth)
    return f"{program.items(spec)[number].where} {said}"


def _refresh(document: dict[str, Any], backend: Candidate) -> bool:
    """Put the backend's facts of now into the recorded input; whether they differ from those that were judged."""
    facts = {name: getattr(backend, name) for name in FACTS}
    for judged in document["backends"]:
        if judged["id"] == backend.id:
            differs = {name: judged[name] for name in FACTS} != facts
            judged.update(facts)
            return differs
    return False


async def _decide_again(
    plane: Plane, job: Mapping[str, Any], compiled: Compiled, document: dict[str, Any], left: Entitled | None
) -> None:
    now = plane.now()
    document["time"] = time_judged(now)
    document["job"]["qubits"] = max(document["job"]["qubits"], compiled.facts.qubits)
    # The job's own hold is part of what its budgets have held since: judged as if it weren't there yet, it is the
    # figure of admission, which the recorded input has.
    decision = await plane.pdp.decide(document, str(uuid.uuid4()), now)
    targets.demand(plane.settings.channels, decision.obligations)
    crash.point("gate.decided")
    (judged,) = plane.vault.seal(job["tenant"], (decision.input,))
    async with plane.transaction(job["tenant"]) as conn:
        entry = decision_entry(
            job["tenant"],
            job["pseudonym"],
            job["job_id"],
            decision,
            judged.commitment,
            now,
        )
        await ledger.store.append(conn, [(entry, None)], [judged.blob])
        await notices.further(conn, job, decision, now)
        crash.point("gate.told")
    crash.point("gate.recorded")
    if left is not None and left.shut is not None:  # whatever policy thinks of somebody without a role
        raise Stopped("rights_lost", left.shut)
    outside = set((document["plan"] or {}).get("nodes", ())) - set(decision.allowed_nodes)
    if not approval.passes(approval.of(job), decision) or compiled.backend not in decision.backends or outside:
        reasons = "; ".join(reason.message for reason in decision.reasons)
        if left is not None:
            raise Stopped("rights_lost", f"who asked for it has lost a role since: {reasons}")
        raise Stopped(
            "policy_denied",
            f"policy or backend changed since admission: {reasons or 'the backend is not allowed'}",
        )
    if (demanded := duties.level(job["level"], decision.obligations)) != job["level"]:
        said = f"it now obliges to evidence level {demanded}, and the job was admitted at {job['level']}"
        raise Stopped("policy_denied", f"policy or backend changed since admission: {said}")
