# SPDX-License-Identifier: Apache-2.0
"""Which backend runs the job: pure, deterministic, explained (G9, N4's rule of ties).

Constraints leave candidates, policy leaves the allowed ones, then the highest score wins, and of equal ones the lower
price, then the id. Losers are kept with their reason: `not_chosen` could have run it, `excluded` could not. A pinned
backend is honoured or refused, never replaced. An unknown price excludes, and so does a failure of this job there.

A score is a mean of four numbers from 0 to 1 by the weights of the settings: queue and price, half at `queue_half_s`
and `price_half`, the estimated fidelity (that each qubit passes a layer of gates and its readout without a fault: an
order of merit, not a promise), and how many of the tenant's jobs succeeded there. Each is a function of its own
backend alone, so a loser that comes or goes changes nothing about who wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Literal, TypeAlias

from msgspec import Struct

from control_plane.jobs.spec import BackendConstraints, Objective
from control_plane.jobs.weights import Weights

Rank: TypeAlias = tuple[float | Decimal | str, ...]
Verdict = Literal["chosen", "not_chosen", "excluded"]
UNKNOWN_FIDELITY = 0.5  # of a device that tells no errors: no better than a coin, until it does
PRIOR = 2  # an untried backend counts as one with so many successes and no failure

DEFAULT = Weights()
_ID = attrgetter("id")


class Candidate(Struct, frozen=True):
    """A backend as admission and routing see it.

    `price` is the job's upper bound there and `survival` the chance, by the calibration's median errors, that one qubit
    passes a one-qubit gate, a two-qubit gate and its readout; each None if unknown. `succeeded` of `ended` are the
    tenant's own jobs. `unpriced` is why there is no price, `rate_card` the hash of the card that has it.
    """

    id: str
    provider: str
    qubits: int
    formats: tuple[str, ...]
    state: str
    region: str
    compliance_zone: str
    sovereign: bool
    price: Decimal | None
    currency: str | None
    queue_s: int = 0
    reason: str | None = None
    max_shots: int | None = None
    survival: float | None = None
    sessions: bool = False
    services: bool = False
    programs: bool = True
    succeeded: int = 0
    ended: int = 0
    unpriced: str | None = None
    rate_card: str | None = None


class Wanted(Struct, frozen=True):
    """What the job asks of a backend. `shots` are those of one execution; `services` is whether its circuits use
    service aliases, which a network alone knows; `program` whether they are several; `most` is the price it may cost at
    most, and `why_most` who says so.
    """

    constraints: BackendConstraints
    formats: tuple[str, ...]
    qubits: int = 0
    shots: int = 0
    objective: Objective = "balanced"
    most: Decimal | None = None
    why_most: str = "max_price"
    session: bool = False
    services: bool = False
    program: bool = False


class Considered(Struct, frozen=True):
    """One line of the route: what was thought of a backend, and why."""

    backend: str
    verdict: Verdict
    reason: str
    price: str | None
    queue_s: int


class Route(Struct, frozen=True):
    """The outcome of routing; `chosen` is None where nothing is left."""

    chosen: Candidate | None
    considered: tuple[Considered, ...]


def fits(candidate: Candidate, wanted: Wanted) -> str | None:
    """Why this backend can't run the job, or None if it can."""
    constraints = wanted.constraints
    if constraints.backend is not None and candidate.id != constraints.backend:
        return f"the job pins {constraints.backend}"
    if constraints.allowed_providers is not None and candidate.provider not in constraints.allowed_providers:
        return f"provider {candidate.provider} is not among {', '.join(constraints.allowed_providers)}"
    if candidate.state != "online":
        return f"{candidate.state}: {candidate.reason}" if candidate.reason else candidate.state
    for name in wanted.formats:
        if name not in candidate.formats:
            return f"does not take {name}"
    qubits = wanted.qubits
    if constraints.min_qubits is not None and constraints.min_qubits > qubits:
        qubits = constraints.min_qubits
    if candidate.qubits < qubits:
        return f"has {candidate.qubits} qubits, {qubits} are needed"
    if candidate.max_shots is not None and candidate.max_shots < wanted.shots:
        return f"takes {candidate.max_shots} shots, {wanted.shots} are asked"
    if wanted.session and not candidate.sessions:
        return "has no sessions"
    if wanted.services and not candidate.services:
        return "knows no service aliases"
    if wanted.program and not candidate.programs:
        return "takes one circuit a job"
    if candidate.price is None:
        return candidate.unpriced or "no price is known"
    if wanted.most is not None and candidate.price > wanted.most:
        return f"costs up to {plain(candidate.price)} {candidate.currency}, {wanted.why_most} is {plain(wanted.most)}"
    return None


def eligible(candidates: Iterable[Candidate], wanted: Wanted) -> tuple[Candidate, ...]:
    """The backends that the spec's constraints leave, by id."""
    left = (c for c in candidates if fits(c, wanted) is None)
    return tuple(sorted(left, key=lambda c: c.id))


def route(
    candidates: Sequence[Candidate],
    wanted: Wanted,
    allowed: frozenset[str],
    weights: Weights = DEFAULT,
    failed: Mapping[str, str] | None = None,
) -> Route:
    """Choose among what constraints and policy leave; the same arguments give the same route.

    `failed` has what became of this job on a backend that it must not have again.
    """
    # A thousand backends in two milliseconds: what is the same for all stands before the loop.
    total, balanced = weights.total, wanted.objective == "balanced"
    for_queue, half_s = weights.queue * weights.queue_half_s, weights.queue_half_s
    for_price, half = weights.price * weights.price_half, weights.price_half
    for_fidelity, for_history, qubits = weights.fidelity, weights.history, max(1, wanted.qubits)
    lines: list[Considered] = []
    best: tuple[Rank, int, Candidate] | None = None
    for c in sorted(candidates, key=_ID):
        price = c.price
        told = None if price is None else plain(price)
        why_not = fits(c, wanted)
        if why_not is None and c.id not in allowed:
            why_not = "policy does not allow it"
        if why_not is None and failed and c.id in failed:
            why_not = failed[c.id]
        if why_not is not None or price is None:
            lines.append(Considered(c.id, "excluded", why_not or "", told, c.queue_s))
            continue
        fidelity, known = UNKNOWN_FIDELITY, "unknown"
        if c.survival is not None:
            fidelity = c.survival**qubits
            known = f"{fidelity:.3f}"
        score = 0.0
        if total:
            score = (
                for_queue / (half_s + c.queue_s)
                + for_price / (half + float(price))
                + for_fidelity * fidelity
                + for_history * (c.succeeded + PRIOR) / (c.ended + PRIOR)
            ) / total
        rank = (-score, price, c.id) if balanced else _rank(c, price, fidelity, score, wanted.objective)
        if best is None or rank < best[0]:
            best = rank, len(lines), c
        jobs = f"{c.succeeded} of {c.ended} succeeded" if c.ended else "no jobs yet"
        reason = f"{score:.3f}: queue {c.queue_s} s, price {told} {c.currency}, fidelity {known}, {jobs}"
        lines.append(Considered(c.id, "not_chosen", reason, told, c.queue_s))
    if best is None:
        return Route(None, tuple(lines))
    _, place, chosen = best
    line = lines[place]
    reason = line.reason if balanced else f"{wanted.objective}, {line.reason}"
    lines[place] = Considered(line.backend, "chosen", reason, line.price, line.queue_s)
    return Route(chosen, tuple(lines))


def _rank(c: Candidate, price: Decimal, fidelity: float, score: float, objective: Objective) -> Rank:
    """Ascending: the least is chosen."""
    match objective:
        case "cheapest":
            return (price, -score, c.id)
        case "fastest":
            return (c.queue_s, -score, price, c.id)
        case "best":
            return (-fidelity, -score, price, c.id)
        case "balanced":
            return (-score, price, c.id)


def plain(price: Decimal) -> str:
    """The one text form of a price, without zeros that say nothing."""
    told = str(price)
    told = format(price, "f") if "E" in told else told
    return told.rstrip("0").rstrip(".") if told[-1] == "0" and "." in told else told
