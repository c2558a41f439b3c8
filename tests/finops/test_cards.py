# SPDX-License-Identifier: Apache-2.0
"""The card that a plane is seeded with: every provider has a price, and each another (G14, G6)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import finops
from finops.errors import UnknownPrice
from finops.facts import fact
from finops.rates import charge, parse_card, upper_bound

CARD = parse_card((Path(finops.__file__).parent / "cards" / "providers.json").read_bytes())
FORTE = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"


@pytest.mark.parametrize(
    ("provider", "sku", "held", "costs"),
    [
        ("aer", None, "0.52", "0.38"),
        ("aws-braket", "local-simulator", "0.54", "0.41"),
        ("ibm-quantum", "local-simulator", "0.56", "0.44"),
        ("remote", None, "0.58", "0.47"),
    ],
)
def test_a_bell_has_another_price_at_each_provider(provider: str, sku: str | None, held: str, costs: str) -> None:
    assert upper_bound(CARD, provider, "any", 1000, 300.0, sku=sku).amount == Decimal(held)
    facts = [fact(meter, amount, "measured", "test") for meter, amount in (("tasks", 1), ("shots", 1000))]
    facts.append(fact("simulator_seconds", Decimal("0.005"), "measured", "test"))
    assert charge(CARD, provider, facts, "any", sku).amount.quantize(Decimal("0.01")) == Decimal(costs)


def test_what_nodes_ask_is_passed_on_up_to_the_cap_and_held_as_far_as_it_is_known() -> None:
    most = [upper_bound(CARD, "p2p", "p2p", 1000, 300.0, known={"node_fees": Decimal(asked)}) for asked in (0, 2, 9)]
    assert [one.amount for one in most] == [Decimal("0.60"), Decimal("2.60"), Decimal("5.60")]
    assert upper_bound(CARD, "p2p", "p2p", 1000, 300.0) == most[-1]


def test_a_processor_is_priced_as_what_it_is_sold_as() -> None:
    assert upper_bound(CARD, "aws-braket", "forte", 1000, 300.0, sku=FORTE).amount == Decimal("80.30")
    assert upper_bound(CARD, "ibm-quantum", "brisbane", 1000, 10.0, sku="ibm_brisbane").amount == Decimal(16)


def test_a_device_that_no_line_names_is_not_free() -> None:
    with pytest.raises(UnknownPrice):
        upper_bound(CARD, "aws-braket", "new", 1, 1.0, sku="arn:aws:braket:us-east-1::device/qpu/new/One")


def test_the_backend_s_own_line_comes_first() -> None:
    assert CARD.rates("ibm-quantum", "local-simulator") == CARD.rates("ibm-quantum", "x", "local-simulator")
    assert CARD.rates("ibm-quantum", "x")[0].meter == "qpu_seconds"
