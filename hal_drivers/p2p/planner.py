# SPDX-License-Identifier: Apache-2.0
"""Which node runs which fragment: a pure function of program, registry, reservations, configuration and seed (N4, I9).

`plan` asks nobody: whoever calls it brings the :class:`Snapshot` and the nodes that policy allows. A node can run a
fragment if it offers all of its services for so many qubits, is allowed and online, has a price in the plan's currency,
and if its judged fidelity of each service is at least the configured one (I8). Of those that can the cheapest is the
primary, the next ones its fallbacks; equal costs are decided by node id. The cost is an integer:

    latency · its median round trip in µs  +  failure · its share of failed fragments in ppm
    + infidelity · Σ (10⁶ − judged ppm) over the fragment's services on one qubit, each as often as it is used
    + entanglement · the same over those on two qubits
    + load · (its load in ppm + ``load_a_fragment_ppm`` for each open reservation and each fragment of this plan before)
    + price · (a fragment + its shots) in millionths of the currency

Fragments are placed in the plan's order. All arithmetic is on integers that can't overflow: each term is held to 10¹¹
before its weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from hal_drivers.p2p import fragments as cutting
from hal_drivers.p2p.aliases import TABLE
from hal_drivers.p2p.ir import Program, digest
from hal_drivers.p2p.placing import Network
from hal_drivers.p2p.plan import Assignment, Gap, Infeasible, Plan, PlanConfig, Snapshot

PLANNER = "qcos-planner/2"
_NOBODY: Mapping[str, int] = {}


def plan(
    program: Program,
    snapshot: Snapshot,
    config: PlanConfig,
    seed: int,
    allowed: frozenset[str] | None,
    reservations: Mapping[str, int] = _NOBODY,
    shots: int = 1_000,
) -> Plan | Infeasible:
    """The plan, or what is missing for one. ``allowed`` None: all nodes; ``reservations`` has open windows by node."""
    known = in_order(snapshot)
    cut = cutting.cut(program, config.mode)
    network = Network(known, config, allowed, reservations, shots)
    by_id = {fragment.fragment_id: fragment for fragment in cut.fragments}
    placed = [network.place(by_id[name], cutting.used(program, by_id[name])) for name in cut.order]
    gaps = tuple(one for one in placed if isinstance(one, Gap))
    if gaps:
        return Infeasible(gaps)
    drawn = Plan(
        plan_id="",
        planner=PLANNER,
        program_sha256=digest(program),
        snapshot_sha256=digest(known),
        config_sha256=digest(config),
        reservations_sha256=digest({node: windows for node, windows in reservations.items() if windows}),
        seed=seed,
        shots=shots,
        mode=cut.mode,
        mode_reason=cut.reason,
        alias_model=program.alias_model,
        fragments=cut.fragments,
        order=cut.order,
        assignments=tuple(one for one in placed if isinstance(one, Assignment)),
        approximations=approximations(program),
    )
    return replace(drawn, plan_id=identity(drawn))


def identity(drawn: Plan) -> str:
    """The plan's id: the SHA-256 of the canonical JSON of all its other fields."""
    fields = msgspec.to_builtins(drawn)
    del fields["plan_id"]
    return digest(fields)


def in_order(snapshot: Snapshot) -> Snapshot:
    """Nodes by id and offers by service, one of each: how a snapshot is hashed; raises ValueError for doubles."""
    nodes = tuple(
        replace(node, offers=tuple(sorted(node.offers, key=lambda offer: offer.service)))
        for node in sorted(snapshot.nodes, key=lambda node: node.node_id)
    )
    if len({node.node_id for node in nodes}) < len(nodes):
        raise ValueError("a node stands twice in the snapshot")
    if any(len({offer.service for offer in node.offers}) < len(node.offers) for node in nodes):
        raise ValueError("a node offers a service twice")
    return Snapshot(nodes)


def approximations(program: Program) -> tuple[str, ...]:
    """What isn't simulated as it is called: a line for each abstract service."""
    said = []
    for service, alias in TABLE.items():
        places = [str(operation.id) for operation in program.operations if operation.name == service]
        if alias.abstract and places:
            which = ", ".join(places[:8]) + (f" and {len(places) - 8} more" if len(places) > 8 else "")
            said.append(f"{service} is abstract, the identity with the node's channel: operation {which}")
    return tuple(said)
