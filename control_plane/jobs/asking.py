# SPDX-License-Identifier: Apache-2.0
"""The most that nodes of the network can ask for a job that has no plan yet (N14, G7). Pure.

Enters what each enrolled node asks, by its record and never by an advert. Each fragment of a plan has qubits of its own
and is charged once, for the node whose answer was accepted: as many fragments as qubits, each at the dearest node, are
the most. The hold of admission has room for it; what the plan's nodes ask in fact is `fees`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from finops import money

METER = "node_fees"


class Asking(Struct, frozen=True):
    """What one enrolled node asks, by its record."""

    node_id: str
    price_per_fragment: Decimal
    price_per_shot: Decimal
    currency: str


def bound(nodes: Iterable[Asking], currency: str, *, fragments: int, shots: int) -> Decimal:
    """The most that any plan of so many fragments can come to, whichever of these nodes it is made over."""
    with money.exact():
        return fragments * max(
            (one.price_per_fragment + shots * one.price_per_shot for one in nodes if one.currency == currency),
            default=Decimal(0),
        )
