# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from and what it says (N4, N8, I9). Pure: values and their hashes only.

Costs, fidelities and times are integers (parts per million, microseconds), so that a plan is the same on every
machine. A :class:`Snapshot` is everything that the planner may know of the network; its hash stands in the plan. Where
no plan can be made there is an :class:`Infeasible` in its place, which names what is missing.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from hal_drivers.base import AliasModel
from hal_drivers.p2p.ir import Service

Mode: TypeAlias = Literal["whole", "product"]
NodeState: TypeAlias = Literal["online", "unverified", "stale", "degraded", "unreachable", "suspended", "revoked"]


class Offer(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One service of one node. ``reported_ppm`` is its advert's word, ``verified_ppm`` the plane's lower bound.

    What isn't stated is left out of its bytes: snapshots from before there was a bound of shots keep their hash.
    """

    service: Service
    reported_ppm: int
    verified_ppm: int | None
    """None: no probe has been judged yet."""
    qubit_min: int
    qubit_max: int
    shots_max: int | None = None
    """None: no bound is stated."""

    @property
    def judged_ppm(self) -> int:
        """The smaller of the two, 0 before the first probe: what I8 judges."""
        return min(self.reported_ppm, self.verified_ppm or 0)


class NodeFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """One enrolled node. Organisation, region, zone and price are the enrolment's, never an advert's."""

    node_id: str
    state: NodeState
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool
    price_per_fragment: str
    price_per_shot: str
    """Decimal strings in ``currency``."""
    currency: str
    offers: tuple[Offer, ...]
    """Sorted by service."""
    latency_us: int
    """The median of recent heartbeats; another one only once it is half or twice of what it was: no plan for noise."""
    load_ppm: int
    """Share of its windows that are taken."""
    failure_ppm: int
    """Share of its recent fragments that failed."""


class Snapshot(Struct, frozen=True, forbid_unknown_fields=True):
    """The registry at one moment; ``nodes`` sorted by id."""

    nodes: tuple[NodeFacts, ...]


class Fragment(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the program that one node runs at once.

    ``service_type`` is its only service, or ``whole`` where it needs several, ``none`` where it needs none.
    """

    fragment_id: str
    service_type: str
    services: tuple[Service, ...]
    qubits: tuple[int, ...]
    bits_read: tuple[int, ...]
    """Bits of other fragments that its conditions ask for."""
    bits_written: tuple[int, ...]
    operations: tuple[int, ...]
    depends_on: tuple[str, ...]


class Candidate(Struct, frozen=True, forbid_unknown_fields=True):
    """What the planner thought of one node for one fragment; ``cost`` is None where it is excluded."""

    node_id: str
    verdict: Literal["primary", "fallback", "not_chosen", "excluded"]
    reason: str
    cost: int | None
    fidelity_ppm: int | None
    """Of the whole fragment there: the product of its services' judged fidelities, each as often as it is used."""


class Assignment(Struct, frozen=True, forbid_unknown_fields=True):
    """Who runs a fragment: the primary, then the fallbacks in their order."""

    fragment_id: str
    primary: str
    fallbacks: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    left_out: int = 0
    """How many more nodes were judged than stand in ``candidates``: of a large network the best and some others do."""


Weight: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]


class Weights(Struct, frozen=True, forbid_unknown_fields=True):
    """What each part of a cost counts, in whole units; part of the configuration that a plan is a function of.

    With all of them 1 a microsecond of latency, a millionth of failure, of infidelity (summed over the operations), of
    load, and a millionth of the currency weigh the same: 10 ms, 1 % of failures, one operation at 99 %, 1 % of load
    and one cent. ``entanglement`` is the infidelity of services on two qubits, ``infidelity`` that of the others.
    """

    latency: Weight = 1
    failure: Weight = 1
    infidelity: Weight = 1
    entanglement: Weight = 1
    load: Weight = 1
    price: Weight = 1


class PlanConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of the planner: weights, thresholds (parts per million a service), how many fallbacks."""

    weights: Weights = Weights()
    min_fidelity_ppm: dict[str, int] = {}
    default_min_fidelity_ppm: int = 900_000
    fallbacks: int = 2
    mode: Literal["auto", "whole", "product"] = "auto"
    load_a_fragment_ppm: int = 50_000
    """What each fragment of the plan, and each window that is reserved, adds to its node's load: groups spread."""
    currency: str = "USD"
    """A node that is priced in another one can't be compared, and gets nothing."""

    def min_fidelity(self, service: str) -> int:
        """The least judged fidelity that this service is used at, in parts per million."""
        return self.min_fidelity_ppm.get(service, self.default_min_fidelity_ppm)


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """The plan; ``plan_id`` is the hash of all its other fields."""

    plan_id: str
    planner: str
    """The planner's name and version."""
    program_sha256: str
    snapshot_sha256: str
    config_sha256: str
    reservations_sha256: str
    """Of the windows that were open at the nodes, {node id: how many}."""
    seed: int
    shots: int
    """What a price was reckoned for."""
    mode: Mode
    mode_reason: str
    alias_model: AliasModel
    fragments: tuple[Fragment, ...]
    order: tuple[str, ...]
    """Fragment ids; each stands after what it depends on."""
    assignments: tuple[Assignment, ...]
    approximations: tuple[str, ...]
    """What is abstract or not exact in this plan, in words."""


Missing: TypeAlias = Literal["network", "service", "qubits", "shots", "policy", "state", "price", "fidelity"]


class Gap(Struct, frozen=True, forbid_unknown_fields=True):
    """Why no node can run a fragment: the first test, in the order of :data:`Missing`, that leaves none."""

    fragment_id: str
    missing: Missing
    detail: str


class Infeasible(Struct, frozen=True, forbid_unknown_fields=True):
    """No plan: each fragment that can't be placed, with what it lacks."""

    gaps: tuple[Gap, ...]

    @property
    def detail(self) -> str:
        """All of it in a line."""
        said = "; ".join(f"fragment {gap.fragment_id}: {gap.detail}" for gap in self.gaps[:8])
        more = len(self.gaps) - 8
        return said + (f"; and {more} more" if more > 0 else "")
