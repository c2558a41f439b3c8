# SPDX-License-Identifier: Apache-2.0
"""The cards that ship: what each says of a job, and what a fresh plane's price as they always did (G14, G6)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import finops
from finops.errors import UnknownPrice
from finops.facts import Fact, fact
from finops.lint import lint
from finops.rates import RateCard, charge, parse_card, upper_bound

CARDS = Path(finops.__file__).parent / "cards"
GOOD = Path(__file__).parents[1] / "vectors" / "cards" / "good"
BRAKET = "arn:aws:braket:{}::device/qpu/{}"
FORTE = BRAKET.format("us-east-1", "ionq/Forte-1")


def shipped(name: str, *, accepted: bool = False) -> RateCard:
    """One of the cards that ship."""
    return parse_card((CARDS / f"{name}.json").read_bytes(), accepted=accepted)


OWN = shipped("own")


def used(**quantities: str | int) -> list[Fact]:
    """Facts of one task."""
    return [fact(meter, Decimal(amount), "measured", "test") for meter, amount in ({"tasks": 1} | quantities).items()]


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
    assert upper_bound(OWN, provider, "any", 1000, 300.0, sku=sku).amount == Decimal(held)
    facts = used(shots=1000, simulator_seconds="0.005")
    assert charge(OWN, provider, facts, "any", sku).amount.quantize(Decimal("0.01")) == Decimal(costs)


def test_what_nodes_ask_is_passed_on_up_to_the_cap_and_held_as_far_as_it_is_known() -> None:
    most = [upper_bound(OWN, "p2p", "p2p", 1000, 300.0, known={"node_fees": Decimal(asked)}) for asked in (0, 2, 9)]
    assert [one.amount for one in most] == [Decimal("0.60"), Decimal("2.60"), Decimal("5.60")]
    assert upper_bound(OWN, "p2p", "p2p", 1000, 300.0) == most[-1]


def test_a_processor_is_priced_as_what_it_is_sold_as() -> None:
    assert upper_bound(shipped("aws-braket"), "aws-braket", "forte", 1000, 300.0, sku=FORTE).amount == Decimal("80.30")
    ibm = upper_bound(shipped("ibm-quantum"), "ibm-quantum", "brisbane", 1000, 10.0, sku="ibm_brisbane")
    assert ibm.amount == Decimal(16)


@pytest.mark.parametrize(
    ("region", "device", "amount"),
    [
        ("us-east-1", "ionq/Forte-1", "80.3"),
        ("us-east-1", "ionq/Aria-1", "30.3"),
        ("eu-north-1", "iqm/Garnet", "1.75"),
        ("us-east-1", "quera/Aquila", "10.3"),
        ("us-west-1", "rigetti/Ankaa-3", "1.2"),
    ],
)
def test_braket_costs_thirty_cents_a_task_and_the_vendor_s_price_a_shot(region: str, device: str, amount: str) -> None:
    sku = BRAKET.format(region, device)
    assert charge(shipped("aws-braket"), "aws-braket", used(shots=1000), "x", sku).amount == Decimal(amount)


def test_a_device_that_no_line_names_is_not_free() -> None:
    with pytest.raises(UnknownPrice):
        upper_bound(shipped("aws-braket"), "aws-braket", "new", 1, 1.0, sku=BRAKET.format("us-east-1", "new/One"))


GATES = used(one_qubit_gate_shots=200_000, two_qubit_gate_shots=100_000, measurement_shots=5_000)


def test_ionq_s_tokens_are_m_and_the_gate_shots_and_m_is_another_with_mitigation() -> None:
    """12.4166 + 0.000220 x 200,000 + 0.000975 x 100,000; 97.50 in m's place where the task was mitigated."""
    card = shipped("azure-ionq", accepted=True)
    (line,) = charge(card, "azure-quantum", GATES, "ionq.qpu.aria-1").lines
    assert (line.meter, line.quantity, line.unit, line.amount) == (
        "aqt",
        Decimal("153.9166"),
        "AQT",
        Decimal("153.9166"),
    )
    mitigated = [*GATES, *used(mitigated_tasks=1)[1:]]
    assert charge(card, "azure-quantum", mitigated, "ionq.qpu.aria-1").amount == Decimal(239)


def test_a_disputed_reading_bounds_nothing_until_it_is_accepted() -> None:
    known = dict.fromkeys(("one_qubit_gate_shots", "two_qubit_gate_shots", "mitigated_tasks"), Decimal(0))
    with pytest.raises(UnknownPrice, match="disputed reading"):
        upper_bound(shipped("azure-ionq"), "azure-quantum", "ionq.qpu.aria-1", 1, 1.0, known=known)
    taken = shipped("azure-ionq", accepted=True)
    amount = upper_bound(taken, "azure-quantum", "ionq.qpu.aria-1", 1, 1.0, known=known).amount
    assert amount == Decimal("12.4166")


def test_quantinuum_s_credits_have_no_price_until_somebody_pushes_theirs() -> None:
    """HQC = 5 + (1 x 200,000 + 10 x 100,000 + 5 x 5,000) / 5000."""
    card = shipped("quantinuum")
    for asked in (lambda: charge(card, "quantinuum", GATES), lambda: upper_bound(card, "quantinuum", "h2", 1, 1.0)):
        with pytest.raises(UnknownPrice, match="no price for its unit HQC"):
            asked()
    priced = (CARDS / "quantinuum.json").read_bytes().replace(b'"price": null', b'"price": "12.5"')
    (line,) = charge(parse_card(priced), "quantinuum", GATES).lines
    assert (line.quantity, line.rate, line.amount) == (Decimal(250), Decimal("12.5"), Decimal(3125))


def test_an_hour_s_price_is_exact_for_a_second() -> None:
    """Neither 1/3600 of an hour nor 1/5000 of a gate-shot is a decimal of its own; both are counted exactly."""
    facts = used(qpu_seconds="0.9")
    (pasqal,) = charge(shipped("pasqal"), "pasqal", facts).lines
    assert (pasqal.quantity, pasqal.unit, pasqal.amount) == (Decimal("0.00025"), "QPU-Hours", Decimal("0.75"))
    (rigetti,) = charge(shipped("azure-rigetti"), "azure-quantum", facts, "rigetti.qpu.ankaa-3").lines
    assert (rigetti.quantity, rigetti.amount) == (Decimal(90), Decimal("1.8"))
    assert shipped("pasqal").currency == "EUR"


@pytest.mark.parametrize(
    ("seconds", "billed"),
    [(["0.000001"], 1), (["0.01"], 1), (["0.010001"], 2), (["0"], 0), (["0.004", "0.004"], 2), (["0.011", "0.02"], 4)],
)
def test_rigetti_s_ten_milliseconds_are_billed_whole_for_each_task_that_started_them(
    seconds: list[str], billed: int
) -> None:
    """The reading that the card says it takes; 0.02 each."""
    each = [{"tasks": Decimal(1), "qpu_seconds": Decimal(one)} for one in seconds]
    facts = used(tasks=len(each), qpu_seconds=str(sum(one["qpu_seconds"] for one in each)))
    card = shipped("azure-rigetti")
    assert "started" in card.card.source
    (line,) = charge(card, "azure-quantum", facts, "rigetti.qpu.ankaa-3", each=each).lines
    assert (line.quantity, line.amount) == (Decimal(billed), billed * Decimal("0.02"))
    bound = upper_bound(card, "azure-quantum", "rigetti.qpu.ankaa-3", 1, float(max(seconds)), len(each))
    assert bound.amount >= line.amount


def test_the_backend_s_own_line_comes_first() -> None:
    sold = OWN.lines("ibm-quantum", "x", "local-simulator")
    assert OWN.lines("ibm-quantum", "local-simulator") == sold
    assert [line.meter for line in sold] == ["tasks", "shots", "simulator_seconds"]


def test_all_cards_that_ship_stand_side_by_side() -> None:
    """No two of them price one device; every price has its source's date."""
    found = {path.name: path.read_bytes() for path in sorted(CARDS.iterdir())}
    assert not lint(found)
    assert len(found) == 7


def test_a_fresh_plane_prices_what_a_card_of_version_1_priced_at_the_same_amounts() -> None:
    """The hash of a card of version 1 is as it was."""
    old = parse_card((GOOD / "version_1_providers.json").read_bytes())
    assert old.hash == "sha256:6f50c71bce908e0a0088158e6be2256f0fd11406fd76d7598abb16c96ecd20ef"
    fresh = [OWN, shipped("aws-braket"), shipped("ibm-quantum")]
    facts = used(shots=1000, simulator_seconds="0.004", qpu_seconds=2, node_fees="0.7")
    for price in old.priced:
        (now,) = (
            card for card in fresh if any((p.provider, p.device) == (price.provider, price.device) for p in card.priced)
        )
        before = charge(old, price.provider, facts, price.device)
        after = charge(now, price.provider, facts, price.device)
        assert (before.lines, before.amount) == (after.lines, after.amount)
        bounds = [upper_bound(card, price.provider, price.device, 1000, 300.0, 2).amount for card in (old, now)]
        assert bounds[0] == bounds[1]
