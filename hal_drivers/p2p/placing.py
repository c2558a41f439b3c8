# SPDX-License-Identifier: Apache-2.0
"""Where a fragment can run and what that costs: the network as columns, a row a node (N4). Pure.

A node must pass the tests of :data:`Missing`, in that order; where none is left, the test that left none is the gap.
The formula of the cost stands in ``planner``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hal_drivers.p2p.aliases import TABLE
from hal_drivers.p2p.ir import SERVICES, Service
from hal_drivers.p2p.plan import (
    Assignment,
    Candidate,
    Fragment,
    Gap,
    Missing,
    NodeFacts,
    Offer,
    PlanConfig,
    Snapshot,
)

PPM = 1_000_000
MOST = 10**11
SHOWN = 12
"""How many candidates that get nothing a plan lists for each fragment."""

Numbers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
_Share: TypeAlias = tuple[tuple[int, int], ...]
"""Which services, by column, and how often each."""
_LAST = np.iinfo(np.int64).max
_PAIRS = tuple(TABLE[service].operands == 2 for service in SERVICES)


class Network:
    """The snapshot as columns, a row a node in the order of ids, and what this plan has placed so far."""

    def __init__(
        self,
        snapshot: Snapshot,
        config: PlanConfig,
        allowed: frozenset[str] | None,
        reservations: Mapping[str, int],
        shots: int,
    ) -> None:
        self._nodes = nodes = snapshot.nodes
        self._config = config
        self._offers = [{offer.service: offer for offer in node.offers} for node in nodes]
        self._shots = shots
        self._shots_most = [_shots_most(node) for node in nodes]
        self._runs_shots = _flags(most is None or shots <= most for most in self._shots_most)
        self._allowed = _flags(allowed is None or node.node_id in allowed for node in nodes)
        self._online = _flags(node.state == "online" for node in nodes)
        prices = [_price(node, config.currency, shots) for node in nodes]
        self._priced = _flags(price is not None for price in prices)
        self._judged = _table(self._offers, lambda offer: offer.judged_ppm)
        self._most = _table(self._offers, lambda offer: offer.qubit_max)
        self._least = _table(self._offers, lambda offer: offer.qubit_min)
        floor = np.array([config.min_fidelity(service) for service in SERVICES], np.int64)
        self._good = self._judged >= floor
        weights = config.weights
        windows = _column(reservations.get(node.node_id, 0) for node in nodes)
        self._a_fragment = weights.load * min(config.load_a_fragment_ppm, PPM)
        self._fixed = (
            weights.latency * _column(node.latency_us for node in nodes)
            + weights.failure * _column(node.failure_ppm for node in nodes)
            + weights.load * _column(node.load_ppm for node in nodes)
            + np.minimum(windows, PPM) * self._a_fragment
            + weights.price * _column(price or 0 for price in prices)
        )
        pairs = np.array(_PAIRS)
        self._by_service = np.where(pairs, weights.entanglement, weights.infidelity).astype(np.int64)
        self._lost = PPM - self._judged
        self._known: dict[tuple[tuple[Service, ...], int], Flags] = {}
        self._products: dict[tuple[int, _Share], int] = {}

    def place(self, fragment: Fragment, used: Mapping[Service, int]) -> Assignment | Gap:
        """Primary and fallbacks, whose load rises by the primary's fragment; or why there is none."""
        if not self._nodes:
            return Gap(fragment.fragment_id, "network", "no node is enrolled")
        able = self._able(fragment)
        if isinstance(able, Gap):
            return able
        times = np.array([used.get(service, 0) for service in SERVICES], np.int64)
        risk = np.minimum(self._lost * times, MOST) @ self._by_service
        cost = self._fixed + risk
        ranked: list[int] = np.argsort(np.where(able, cost, _LAST), kind="stable").tolist()
        feasible = int(able.sum())
        taken = 1 + min(self._config.fallbacks, feasible - 1)
        others = ranked[taken:feasible] + sorted(ranked[feasible:])
        listed = ranked[:taken] + others[:SHOWN]
        share = _counts(used)
        candidates = [
            self._feasible(row, place, taken, share, int(cost[row])) for place, row in enumerate(listed[:feasible])
        ]
        candidates += [
            Candidate(self._nodes[row].node_id, "excluded", self._why_not(row, fragment), None, None)
            for row in listed[feasible:]
        ]
        self._fixed[ranked[0]] += self._a_fragment
        return Assignment(
            fragment_id=fragment.fragment_id,
            primary=self._nodes[ranked[0]].node_id,
            fallbacks=tuple(self._nodes[row].node_id for row in ranked[1:taken]),
            candidates=tuple(candidates),
            left_out=len(ranked) - len(listed),
        )

    def _able(self, fragment: Fragment) -> Flags | Gap:
        """Who can run it; the same for all fragments of the same services and size."""
        kind = fragment.services, len(fragment.qubits)
        if (known := self._known.get(kind)) is not None:
            return known
        able = np.ones(len(self._nodes), np.bool_)
        for missing, passed in self._tests(fragment):
            if not bool((able & passed).any()):
                return Gap(fragment.fragment_id, missing, self._lacks(missing, able, fragment))
            able &= passed
        self._known[kind] = able
        return able

    def _tests(self, fragment: Fragment) -> list[tuple[Missing, Flags]]:
        """What a node must pass, in the order in which a gap is named."""
        columns = [SERVICES.index(service) for service in fragment.services]
        qubits = len(fragment.qubits)
        if columns:
            offers = _every(self._most[:, columns] > 0)
            room = _every((self._most[:, columns] >= qubits) & (self._least[:, columns] <= qubits))
        else:  # one-qubit gates and resets alone: any service's room will do
            offers = ~_every(self._most <= 0)
            room = ~_every(self._most < qubits)
        return [
            ("service", offers),
            ("qubits", room),
            ("shots", self._runs_shots),
            ("policy", self._allowed),
            ("state", self._online),
            ("price", self._priced),
            ("fidelity", _every(self._good[:, columns])),
        ]

    def _lacks(self, missing: Missing, able: Flags, fragment: Fragment) -> str:
        rows = [row for row in range(len(self._nodes)) if able[row]]
        match missing:
            case "service":
                return self._no_service(fragment)
            case "qubits":
                most = max(self._room(row, fragment) for row in rows)
                return f"it has {len(fragment.qubits)} qubits, the nodes that offer its services take up to {most}"
            case "shots":
                most = max(self._shots_most[row] or 0 for row in rows)
                return f"{self._shots} shots are asked for, the nodes that could run it take up to {most}"
            case "policy":
                return f"policy allows none of the {len(rows)} nodes that could run it"
            case "state":
                states = [self._nodes[row].state for row in rows]
                counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
                return f"the nodes that could run it are not online: {counted}"
            case "price":
                return f"no node that could run it has a price in {self._config.currency}"
            case _:
                return self._too_bad(rows, fragment)

    def _no_service(self, fragment: Fragment) -> str:
        offered = {service for offers in self._offers for service in offers}
        if nowhere := [service for service in fragment.services if service not in offered]:
            return f"no node offers {', '.join(nowhere)}"
        if not fragment.services:
            return "no node offers anything"
        return f"no node offers all of {', '.join(fragment.services)}, which must run on one node"

    def _room(self, row: int, fragment: Fragment) -> int:
        offers = self._offers[row]
        services = fragment.services or tuple(offers)
        fitting = [offers[service].qubit_max for service in services]
        return min(fitting) if fragment.services else max(fitting)

    def _too_bad(self, rows: list[int], fragment: Fragment) -> str:
        """The service whose best node is furthest below what is asked."""
        said = []
        for service in fragment.services:
            least = self._config.min_fidelity(service)
            best = max(int(self._judged[row, SERVICES.index(service)]) for row in rows)
            if best < least:
                said.append(f"{service} is judged {best / PPM:.6f} at best, {least / PPM:.6f} is asked")
        return "; ".join(said) or f"no node has all of {', '.join(fragment.services)} as good as is asked"

    def _feasible(self, row: int, place: int, taken: int, share: _Share, cost: int) -> Candidate:
        node, fidelity = self._nodes[row].node_id, self._fidelity(row, share)
        if place == 0:
            return Candidate(node, "primary", "the lowest cost", cost, fidelity)
        if place < taken:
            return Candidate(node, "fallback", f"number {place}", cost, fidelity)
        return Candidate(node, "not_chosen", f"{place} nodes cost less, or as much with a lower id", cost, fidelity)

    def _why_not(self, row: int, fragment: Fragment) -> str:
        """The first test that the node doesn't pass."""
        node, offers, qubits = self._nodes[row], self._offers[row], len(fragment.qubits)
        if lacking := [service for service in fragment.services if service not in offers]:
            return f"offers no {', '.join(lacking)}"
        if not offers:
            return "offers nothing"
        if fragment.services and not all(
            offers[service].qubit_min <= qubits <= offers[service].qubit_max for service in fragment.services
        ):
            return f"takes up to {self._room(row, fragment)} qubits, or not so few as {qubits}"
        if self._room(row, fragment) < qubits:
            return f"takes up to {self._room(row, fragment)} qubits"
        if not self._runs_shots[row]:
            return f"takes up to {self._shots_most[row]} shots"
        if not self._allowed[row]:
            return "policy does not allow it"
        if not self._online[row]:
            return node.state
        if not self._priced[row]:
            return f"has no price in {self._config.currency}"
        for service in fragment.services:
            judged, least = offers[service].judged_ppm, self._config.min_fidelity(service)
            if judged < least:
                return f"{service} is judged {judged / PPM:.6f}, {least / PPM:.6f} is asked"
        raise AssertionError("a node that passes every test was excluded")

    def _fidelity(self, row: int, share: _Share) -> int:
        """The product of the judged fidelities, each step rounded down."""
        if (known := self._products.get((row, share))) is not None:
            return known
        product = PPM
        for column, times in share:
            product = product * _power(int(self._judged[row, column]), times) // PPM
        self._products[row, share] = product
        return product


def _shots_most(node: NodeFacts) -> int | None:
    """The least of what its services state; None where none does."""
    return min((offer.shots_max for offer in node.offers if offer.shots_max is not None), default=None)


def _counts(used: Mapping[Service, int]) -> _Share:
    return tuple((SERVICES.index(service), times) for service, times in used.items())


def _power(ppm: int, times: int) -> int:
    """By squaring, in integers: the same on every machine."""
    product = PPM
    while times:
        if times & 1:
            product = product * ppm // PPM
        ppm = ppm * ppm // PPM
        times >>= 1
    return product


def _price(node: NodeFacts, currency: str, shots: int) -> int | None:
    """What the fragment costs there in millionths, rounded up; None where that is no price of this currency."""
    if node.currency != currency:
        return None
    try:
        price = Decimal(node.price_per_fragment) + Decimal(node.price_per_shot) * shots
        if not price.is_finite() or price < 0:
            return None
        return min(MOST, int((price * PPM).to_integral_value(ROUND_CEILING)))
    except InvalidOperation:
        return None


def _flags(values: Iterable[bool]) -> Flags:
    return np.fromiter(values, np.bool_)


def _column(values: Iterable[int]) -> Numbers:
    """A term of the cost for each node, held to what can't overflow."""
    return np.fromiter((min(max(value, 0), MOST) for value in values), np.int64)


def _table(offers: list[dict[Service, Offer]], of: Callable[[Offer], int]) -> Numbers:
    """A row a node, a column a service; 0 where it isn't offered."""
    rows = [[of(offer[service]) if service in offer else 0 for service in SERVICES] for offer in offers]
    return np.array(rows, np.int64).reshape(len(offers), len(SERVICES))


def _every(passed: Flags) -> Flags:
    """For each node whether it passes for every service."""
    return np.asarray(np.all(passed, axis=1), np.bool_)
