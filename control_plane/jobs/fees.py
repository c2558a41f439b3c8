# SPDX-License-Identifier: Apache-2.0
"""What the nodes of a network ask for a job, by their enrolment and not by their adverts (N14, G6). Pure.

The prices are those of the plan's snapshot. A fragment costs its node's price a fragment and a price a shot; charged is
who was accepted and nobody else, whatever was tried before. At the dispatch gate the most that the plan can come to is
known: the dearest of primary and fallbacks for each fragment (before there is a plan: `asking`). The rate card passes
the sum on as the meter `node_fees`, times its rate, up to its cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec
from msgspec import Struct

from finops import money
from hal_drivers.p2p.plan import NodeFacts
from hal_drivers.p2p.planned import Planned


class _Fragment(Struct, frozen=True):
    node_id: str | None


class _Run(Struct, frozen=True):
    fragments: tuple[_Fragment, ...]


class _Ran(Struct, frozen=True):
    run: _Run
    shots: int


_ran = msgspec.json.Decoder(_Ran)


def most(made: Planned) -> Decimal:
    """The most that the plan's nodes can ask for."""
    nodes, shots = _nodes(made), made.plan.shots
    with money.exact():
        dearest = (
            max(_price(nodes[name], shots) for name in (one.primary, *one.fallbacks)) for one in made.plan.assignments
        )
        return money.total(dearest)


def charged(made: Planned, ran: bytes) -> Decimal:
    """What the nodes ask whose answers were accepted; `ran` is the artefact with who received what."""
    nodes, result = _nodes(made), _ran.decode(ran)
    accepted = (one.node_id for one in result.run.fragments if one.node_id is not None)
    with money.exact():
        return money.total(_price(nodes[name], result.shots) for name in accepted)


def _nodes(made: Planned) -> Mapping[str, NodeFacts]:
    return {node.node_id: node for node in made.snapshot.nodes}


def _price(node: NodeFacts, shots: int) -> Decimal:
    return Decimal(node.price_per_fragment) + shots * Decimal(node.price_per_shot)


def in_other_currency(made: Planned, currency: str) -> list[str]:
    """Nodes of the plan that are priced in another currency than the rate card: what they ask can't be passed on."""
    return sorted(name for name, node in _nodes(made).items() if name in made.nodes and node.currency != currency)
