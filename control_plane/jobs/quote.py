# SPDX-License-Identifier: Apache-2.0
"""What a submission is judged on: price, budgets, usage and backends as of one moment, and the policy input of them.

Enters a principal and a parsed spec; leaves a `Snapshot`, read in one round trip. The decision judges this snapshot;
the hold, placed later, is the authority. Nothing is written here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import finops.store
from control_plane import telemetry
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import asking as asks
from control_plane.jobs import store
from control_plane.jobs.envelope import Signature
from control_plane.jobs.expected import Outlook, look_ahead, parties
from control_plane.jobs.pricing import Cards, before_compiling, cards_of, in_currency, priced
from control_plane.jobs.routing import Candidate, Wanted, eligible, plain, route
from control_plane.jobs.spec import BackendConstraints, JobSpec, ProgramUnsupported
from control_plane.policy.document import time_judged
from control_plane.sealing import skew_s
from finops.budget import BudgetView, in_reach
from finops.card import RateCard
from finops.errors import UnknownPrice
from finops.estimate import Work

NO_CONSTRAINTS = BackendConstraints()
MAX_MICROS = 2**53 - 1  # the largest integer that policy compares
NETWORK = "p2p"  # the provider whose work goes to nodes


class Asked(Struct, frozen=True):
    """A submission as it came in: who asks for what, and when."""

    principal: Principal
    spec: JobSpec
    format: str
    qubits: int
    at: dt.datetime
    services: tuple[str, ...] = ()
    """The service aliases that its circuits use."""
    operations: int | None = None
    """The most operations of any of its circuits; None where nobody can tell before it runs."""
    signature: Signature | None = None


class Snapshot(Struct, frozen=True):
    """What price and policy are judged on; `bound` is what the idempotency key is bound to already.

    `skew_s` is by how much the database's clock was surely ahead of this process's; `candidates` and `wanted` are what
    routing would see now. `closed`: the project takes no new jobs. `estimate` is what the job will probably cost on the
    backends that the spec's constraints leave; None where they leave none. `rate_card` is the card of the price,
    `cards` that of each backend, by their hashes.
    """

    rate_card: str
    currency: str
    cards: Mapping[str, str]
    budgets: tuple[BudgetView, ...]
    document: dict[str, Any]
    price: Decimal
    bound: Mapping[str, Any] | None
    candidates: tuple[Candidate, ...]
    wanted: Wanted
    skew_s: float = 0.0
    closed: bool = False
    estimate: Outlook | None = None


@telemetry.traced("job.price")
async def look(plane: Plane, asked: Asked, key: str | None) -> Snapshot:
    """The snapshot; raises UnknownPrice where no rate card is in force, Refused where all is down or too dear."""
    principal, spec = asked.principal, asked.spec
    governance = spec.governance
    rows = await plane.known.backends(plane.engine)
    tariff = await plane.known.tariff(plane.engine, principal.tenant, asked.at)
    cards = cards_of(tariff, rows)
    past = await plane.known.past(plane.engine, principal.tenant, plane.settings.routing.history_days)
    bounds = before_compiling(asked.operations, spec.executions, spec.items)
    bounds |= await asked_by_nodes(plane, spec, asked.qubits, rows, cards)
    candidates = priced(rows, cards, spec.executions, plane.settings.job_deadline_s, past, spec.items, bounds)
    wanted = wants(spec, (asked.format,), asked.qubits, services=bool(asked.services))
    if wanted.session and not any(candidate.sessions for candidate in candidates):
        raise ProgramUnsupported("execution.session", "no backend of this plane has sessions")
    if wanted.services and not any(candidate.services for candidate in candidates):
        words = ", ".join(asked.services)
        raise ProgramUnsupported("circuit.source", f"it uses service aliases ({words}), and this plane has no network")
    if wanted.program and (one_by_one := _only_as_single(candidates, wanted)):
        said = f"{', '.join(one_by_one)} takes one circuit a job: submit each item as a job, of one workflow"
        raise ProgramUnsupported("program", said)
    _refuse_if_all_are_away(candidates, wanted)
    providers = {candidate.provider for candidate in eligible(candidates, _at_any_price(wanted))}
    before = plane.now.system()
    usage, budgets, *bound = await plane.read(
        principal.tenant,
        store.usage(team=principal.team, project=governance.project, at=asked.at),
        finops.store.applicable(
            principal.tenant,
            project=governance.project,
            cost_center=governance.cost_center,
            user=principal.called,
            # Of several, which one is paid is known at the gate, and held there; a hold in each would charge them all.
            provider=providers.pop() if len(providers) == 1 else None,
            at=asked.at,
            workflow=spec.workflow.id if spec.workflow is not None else None,
            session=spec.workflow.session if spec.workflow is not None else None,
        ),
        *([store.known_key(principal.subject, key)] if key is not None else []),
    )
    skew = skew_s(usage[0]["now"], before, plane.now.system())
    views = finops.store.views(budgets)
    currency = currency_of(views, candidates)
    views = [view for view in views if in_reach(view.mode, view.currency, currency)]
    bounded_in(spec, currency)
    candidates = in_currency(candidates, currency)
    _refuse_if_unpriced(candidates, wanted)
    # Policy sees every backend that could take the work, so that a denial can name what would pass; price and budgets
    # are those of the backends that the spec's constraints leave.
    offered = eligible(candidates, Wanted(NO_CONSTRAINTS, wanted.formats, services=wanted.services))
    left = eligible(candidates, wanted) or _within(offered, wanted, eligible(candidates, _at_any_price(wanted)))
    dearest = max(left, key=lambda one: (one.price or Decimal(0), one.id), default=None)
    price = (dearest.price if dearest is not None else None) or Decimal(0)
    rate_card = (dearest.rate_card if dearest is not None else None) or tariff.cards[0].hash
    outlook = _outlook(plane, asked, cards, rows, left, wanted)
    document = (
        _document(asked)
        | budgets_judged(views)
        | {
            "price": _price(price, currency) if offered else None,
            "usage": msgspec.to_builtins(store.used(usage[0])),
            "backends": [backend_judged(candidate) for candidate in offered],
            "nodes": await nodes(plane, (candidate.provider for candidate in offered)),
            "plan": None,
        }
        | ({"estimate": estimate_judged(outlook.told)} if outlook is not None else {})
    )
    known, over = next((row for rows in bound for row in rows), None), usage[0]["closed"]
    hashes = {one.id: one.rate_card for one in candidates if one.rate_card is not None and one.price is not None}
    return Snapshot(
        rate_card, currency, hashes, tuple(views), document, price, known, candidates, wanted, skew, over, outlook
    )


def currency_of(budgets: Sequence[BudgetView], candidates: Sequence[Candidate]) -> str:
    """What the job is priced in: the currency of its project's budget, or of any; without one, of any backend."""
    kept = sorted(budgets, key=lambda one: (not one.scope.startswith("project:"), one.mode != "hard"))
    found = [one.currency for one in kept if one.currency.isupper()]  # quotas of shots or jobs have none
    found += sorted(one.currency for one in candidates if one.price is not None and one.currency is not None)
    return found[0] if found else "USD"


def narrowed(plane: Plane, snapshot: Snapshot, allowed: Sequence[str]) -> Snapshot:
    """The snapshot with the estimate over the backends that the decision leaves."""
    seen = snapshot.estimate
    if seen is None or seen.estimates.keys() <= set(allowed):
        return snapshot
    chosen = route(snapshot.candidates, snapshot.wanted, frozenset(allowed), plane.settings.routing).chosen
    return replace(snapshot, estimate=seen.within(allowed, chosen.id if chosen is not None else None))


def closed(project: str) -> Refused:
    """The project takes nothing new; that is no denial, for it says nothing of who asks for what."""
    said = f"project {project} is closed"
    return Refused("project_closed", said, errors=({"field": "governance.project", "message": said},))


async def nodes(plane: Plane, providers: Iterable[str]) -> list[dict[str, Any]]:
    """The nodes that policy judges: none where no backend of the network is among these."""
    return list(await plane.known.nodes(plane.engine)) if NETWORK in providers else []


def _outlook(
    plane: Plane,
    asked: Asked,
    cards: Cards,
    rows: Sequence[Any],
    left: Sequence[Candidate],
    wanted: Wanted,
) -> Outlook | None:
    bounds = {one.id: one.price for one in left if one.price is not None}
    chosen = route(left, wanted, frozenset(bounds), plane.settings.routing).chosen
    if chosen is None:
        return None
    work = Work(asked.spec.executions, asked.spec.items, asked.qubits)
    learned = plane.known.learned(asked.principal.tenant)
    by = {name: card for name in bounds if isinstance(card := cards[name], RateCard)}
    return look_ahead(bounds, parties(rows), by, work, learned, chosen.id)


def _only_as_single(candidates: Sequence[Candidate], wanted: Wanted) -> list[str]:
    """The backends that would take each of the program's circuits alone, where none takes the program."""
    alone = eligible(candidates, replace(wanted, program=False))
    return [] if any(candidate.programs for candidate in alone) else [candidate.id for candidate in alone]


async def asked_by_nodes(
    plane: Plane,
    spec: JobSpec,
    qubits: int,
    rows: Sequence[Any],
    cards: Cards,
    allowed: Collection[str] | None = None,
) -> dict[str, Decimal]:
    """The most that nodes can ask for the job, whatever its plan: those `allowed`, or all who are approved.

    It counts in the currency of the network's rate card; nothing where there is no network.
    """
    networks = (cards.get(row["id"]) for row in rows if row["provider"] == NETWORK)
    card = next((card for card in networks if isinstance(card, RateCard)), None)
    if card is None:
        return {}
    known = await plane.known.asking(plane.engine)
    nodes = known if allowed is None else [one for one in known if one.node_id in allowed]
    fragments = 1 if plane.settings.network.mode == "whole" else max(1, qubits)
    return {asks.METER: asks.bound(nodes, card.currency, fragments=fragments, shots=spec.shots)}


def bounded_in(spec: JobSpec, currency: str) -> None:
    """Raise Refused where the spec's highest price is in another currency."""
    bound = spec.execution.max_price
    if bound is not None and bound.currency != currency:
        said = f"prices here are in {currency}"
        raise Refused("spec_invalid", said, errors=({"field": "execution.max_price.currency", "message": said},))


def wants(spec: JobSpec, formats: tuple[str, ...], qubits: int, *, services: bool = False) -> Wanted:
    """What the spec asks of a backend."""
    bound = spec.execution.max_price
    return Wanted(
        constraints=spec.execution.backend_constraints,
        formats=formats,
        qubits=qubits,
        shots=spec.shots,
        objective=spec.execution.objective or "balanced",
        most=Decimal(bound.amount) if bound is not None else None,
        session=bool(spec.execution.session),
        services=services,
        program=spec.items > 1,
    )


def _at_any_price(wanted: Wanted) -> Wanted:
    return msgspec.structs.replace(wanted, most=None)


def _within(offered: tuple[Candidate, ...], wanted: Wanted, dear: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """What policy judges where the constraints leave nothing; that the price is too high is the asker's own word."""
    if dear and wanted.most is not None:
        prices = ", ".join(f"{one.id} costs up to {plain(one.price or Decimal(0))} {one.currency}" for one in dear)
        raise Refused("max_price_exceeded", f"no backend runs this for at most {wanted.most:f}: {prices}")
    return offered


def _refuse_if_all_are_away(candidates: Sequence[Candidate], wanted: Wanted) -> None:
    """That all backends which fit are down is no denial: the same submission may be admitted in a moment."""
    if eligible(candidates, wanted):
        return
    up = eligible([replace(candidate, state="online") for candidate in candidates], wanted)
    if up:
        away = {candidate.id: candidate.reason or candidate.state for candidate in candidates}
        raise Refused("backends_unavailable", "; ".join(f"{one.id}: {away[one.id]}" for one in up[:8]))


def _refuse_if_unpriced(candidates: Sequence[Candidate], wanted: Wanted) -> None:
    """Where all that fit have no price, nothing is judged or held: the job is refused, and told why each has none."""
    if eligible(candidates, wanted):
        return
    free = [replace(one, price=Decimal(0)) for one in candidates if one.price is None]
    if unpriced := eligible(free, wanted):
        said = "; ".join(f"{one.id}: {one.unpriced}" for one in unpriced[:8])
        raise UnknownPrice(said, field="execution")


def micros(amount: Decimal) -> int:
    """Integer micro-units, rounded up: what policy compares."""
    return int((amount * 1_000_000).to_integral_value(rounding="ROUND_CEILING"))


def capped(amount: Decimal) -> int:
    """Micro-units of what a job may cost, or the most that policy compares: beyond it the hold alone judges."""
    return min(micros(amount), MAX_MICROS)


def _document(asked: Asked) -> dict[str, Any]:
    principal, spec = asked.principal, asked.spec
    by = asked.signature
    signed = {} if by is None else {"envelope": {"signed": True, "form": by.form, "alg": by.alg, "key_id": by.key_id}}
    constraints, governance = spec.execution.backend_constraints, spec.governance
    return {
        "action": "job:submit",
        "principal": principal_judged(principal, governance.project),
        "job": {
            "project": governance.project,
            "cost_center": governance.cost_center,
            "classification": governance.classification,
            "purpose": governance.purpose,
            "justification": governance.justification,
            "format": asked.format,
            "shots": spec.shots,
            "executions": spec.executions,
            "qubits": max(asked.qubits, constraints.min_qubits or 0),
            "max_depth": constraints.max_depth,
            "evidence_level": spec.evidence_requirements.level,
            "retention_days": spec.evidence_requirements.retention_days,
            "allowed_providers": list(constraints.allowed_providers) if constraints.allowed_providers else None,
            "backend": constraints.backend,
        }
        | ({"services": list(asked.services)} if asked.services else {}),
        "time": time_judged(asked.at),
    } | signed


def principal_judged(principal: Principal, project: str) -> dict[str, Any]:
    """Who asks, as policy sees them: with the roles that they have in the project, and what else is known of them."""
    also = {
        "groups": list(principal.groups),
        "via": None if principal.via == "oidc" else principal.via,
        "acr": principal.acr,
        "amr": list(principal.amr),
        "acting": msgspec.to_builtins(principal.chain),
    }
    return {
        "subject": principal.subject,
        "name": principal.name,
        "domain": principal.domain,
        "tenant": principal.tenant,
        "roles": list(principal.roles_in(project)),
        "team": principal.team,
        "department": principal.department,
        "kind": principal.kind,
    } | {name: value for name, value in also.items() if value}


def _price(amount: Decimal, currency: str) -> dict[str, Any]:
    return {
        "amount": format(amount, "f"),
        "currency": currency,
        "micros": capped(amount),
    }


def estimate_judged(told: Mapping[str, Any]) -> dict[str, Any]:
    """The estimate as policy sees it."""
    amounts = {name: told[name] for name in ("amount", "low", "high")}
    ends = {"low_micros": capped(Decimal(told["low"])), "high_micros": capped(Decimal(told["high"]))}
    return {
        **amounts,
        "currency": told["currency"],
        "micros": capped(Decimal(told["amount"])),
        **ends,
        "jobs": told["basis"]["jobs"],
        "of": told["basis"]["of"],
    }


def binding(view: BudgetView) -> bool:
    """Whether policy judges this budget: it must hold the job's price. Quotas are judged where they are held."""
    return view.mode == "hard" and view.counts == "money"


def budgets_judged(views: Sequence[BudgetView]) -> dict[str, Any]:
    """The budgets that a job would touch as policy sees them, by what they stop."""
    money = [view for view in views if view.counts == "money"]
    return {
        "budgets": [_money_judged(view) for view in money if binding(view)],
        "lenient_budgets": [_money_judged(view) | {"mode": view.mode} for view in money if not binding(view)],
        "quotas": [_quota_judged(view) for view in views if view.counts != "money"],
    }


def _money_judged(view: BudgetView) -> dict[str, Any]:
    amounts = {name: format(getattr(view, name), "f") for name in ("limit", "held", "captured", "available")}
    available, limit = -micros(-view.available), -micros(-view.limit)
    if (most := max(limit, abs(available))) > MAX_MICROS:  # in the same proportion, so that no share seems less spent
        available, limit = available * MAX_MICROS // most, limit * MAX_MICROS // most
    named = {"scope": view.scope, "period": view.period, "currency": view.currency}
    return named | amounts | {"available_micros": available, "limit_micros": limit}


def _quota_judged(view: BudgetView) -> dict[str, Any]:
    counted = {name: int(getattr(view, name)) for name in ("limit", "held", "captured", "available")}
    return {"scope": view.scope, "period": view.period, "unit": view.currency, "mode": view.mode} | counted


def backend_judged(candidate: Candidate) -> dict[str, Any]:
    """A backend as policy sees it."""
    return {
        "id": candidate.id,
        "provider": candidate.provider,
        "qubits": candidate.qubits,
        "region": candidate.region,
        "compliance_zone": candidate.compliance_zone,
        "sovereign": candidate.sovereign,
        "price_micros": capped(candidate.price or Decimal(0)),
    }
