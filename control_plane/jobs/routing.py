# SPDX-License-Identifier: Apache-2.0
"""Which backend runs the job: pure, deterministic, explained (G9, N4's rule of ties).

Constraints leave candidates, policy leaves the allowed ones, then the least estimated queue, price and
id win, in this order. Losers are kept with their reason: `not_chosen` could have run it, `excluded` could not.
A pinned backend is honoured or refused, never replaced. An unknown price excludes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from control_plane.jobs.spec import BackendConstraints

Verdict = Literal["chosen", "not_chosen", "excluded"]


class Candidate(Struct, frozen=True):
    """A backend as admission and routing see it; `price` is the job's upper bound there, None if unknown."""

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


def fits(
    candidate: Candidate,
    constraints: BackendConstraints,
    circuit_format: str,
    qubits: int,
) -> str | None:
    """Why this backend can't run the job, or None if it can."""
    if constraints.backend is not None and candidate.id != constraints.backend:
        return f"the job pins {constraints.backend}"
    if constraints.allowed_providers is not None and candidate.provider not in constraints.allowed_providers:
        return f"provider {candidate.provider} is not among {', '.join(constraints.allowed_providers)}"
    if candidate.state != "online":
        return f"{candidate.state}: {candidate.reason}" if candidate.reason else candidate.state
    if circuit_format not in candidate.formats:
        return f"does not take {circuit_format}"
    wanted = max(constraints.min_qubits or 0, qubits)
    if candidate.qubits < wanted:
        return f"has {candidate.qubits} qubits, {wanted} are needed"
    if candidate.price is None:
        return "no price is known"
    return None


def eligible(
    candidates: Iterable[Candidate],
    constraints: BackendConstraints,
    circuit_format: str,
    qubits: int,
) -> tuple[Candidate, ...]:
    """The backends that the spec's constraints leave, by id."""
    left = (c for c in candidates if fits(c, constraints, circuit_format, qubits) is None)
    return tuple(sorted(left, key=lambda c: c.id))


def route(
    candidates: Sequence[Candidate],
    constraints: BackendConstraints,
    circuit_format: str,
    qubits: int,
    allowed: frozenset[str],
) -> Route:
    """Choose among what constraints and policy leave; the same arguments give the same route."""
    excluded = {c.id: fits(c, constraints, circuit_format, qubits) for c in candidates}
    for candidate in candidates:
        if excluded[candidate.id] is None and candidate.id not in allowed:
            excluded[candidate.id] = "policy does not allow it"
    ranked = sorted((c for c in candidates if excluded[c.id] is None), key=_rank)
    chosen = ranked[0] if ranked else None
    return Route(
        chosen,
        tuple(_line(c, chosen, excluded[c.id]) for c in sorted(candidates, key=lambda c: c.id)),
    )


def _rank(candidate: Candidate) -> tuple[int, Decimal, str]:
    return candidate.queue_s, candidate.price or Decimal(0), candidate.id


def _line(candidate: Candidate, chosen: Candidate | None, why_not: str | None) -> Considered:
    price = str(candidate.price) if candidate.price is not None else None
    if why_not is not None:
        return Considered(candidate.id, "excluded", why_not, price, candidate.queue_s)
    if chosen is candidate:
        return Considered(
            candidate.id,
            "chosen",
            "least queue, price and id, in this order",
            price,
            candidate.queue_s,
        )
    return Considered(
        candidate.id,
        "not_chosen",
        _why_behind(candidate, chosen),
        price,
        candidate.queue_s,
    )


def _why_behind(candidate: Candidate, chosen: Candidate | None) -> str:
    if chosen is None or candidate.queue_s != chosen.queue_s:
        return "longer queue"
    return "dearer" if candidate.price != chosen.price else "later id"
