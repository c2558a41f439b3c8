# SPDX-License-Identifier: Apache-2.0
"""Rate cards: one reading each, a bound that holds, a charge that adds up (G6, G7, decision 6)."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from finops import money
from finops.card import Price, Rate
from finops.errors import AmountInvalid, FactInvalid, RateCardInvalid, UnknownPrice
from finops.facts import Fact, fact
from finops.rates import MAX_CARD_BYTES, RateCard, charge, parse_card, upper_bound

AER = (Path(__file__).parents[1] / "vectors" / "cards" / "good" / "version_1_aer.json").read_bytes()


def card(change: Any = None) -> RateCard:
    """The aer card, changed."""
    document = json.loads(AER)
    if change is not None:
        change(document)
    return parse_card(json.dumps(document).encode())


def bell(seconds: float = 0.004) -> list[Fact]:
    """What the reference bell circuit uses."""
    return [
        fact("tasks", 1, "measured", "plane"),
        fact("shots", 1000, "measured", "aer"),
        fact("simulator_seconds", seconds, "measured", "aer"),
        fact("simulator_peak_memory", 120_000_000, "measured", "aer"),
        fact("queue_seconds", 0.2, "measured", "plane"),
        fact("circuit_depth", 3, "measured", "plane"),
    ]


def test_a_bell_of_a_thousand_shots_holds_52_cents_and_costs_38() -> None:
    """G7: the figures of the demo, from the card that ships."""
    assert upper_bound(card(), "aer", "aer-1", 1000, 60.0).amount == Decimal("0.52")
    cost = charge(card(), "aer", bell())
    assert cost.record() == {
        "amount": "0.38",
        "currency": "USD",
        "rate_card": card().hash,
        "lines": [
            {
                "meter": "tasks",
                "quantity": "1",
                "unit": "Tasks",
                "rate": "0.3",
                "amount": "0.3",
                "source": "measured",
            },
            {
                "meter": "shots",
                "quantity": "1000",
                "unit": "Shots",
                "rate": "0.00008",
                "amount": "0.08",
                "source": "measured",
            },
            {
                "meter": "simulator_seconds",
                "quantity": "0.004",
                "unit": "Seconds",
                "rate": "0.007",
                "amount": "0",
                "source": "measured",
            },
        ],
    }
    assert cost.unmeasured == ()


def test_a_meter_without_a_price_makes_no_line() -> None:
    """G6: depth, memory and queue time are recorded and not charged."""
    assert {line.meter for line in charge(card(), "aer", bell()).lines} == {
        "tasks",
        "shots",
        "simulator_seconds",
    }


def test_a_priced_meter_without_a_fact_is_named() -> None:
    """G6: an absent measurement isn't charged, and isn't hidden either."""
    assert charge(card(), "aer", bell()[:2]).unmeasured == ("simulator_seconds",)


@given(
    shots=st.integers(0, 10**6),
    seconds=st.floats(0, 86_400),
    deadline=st.floats(0, 86_400),
    tasks=st.integers(1, 50),
    places=st.integers(0, 6),
)
def test_a_job_within_its_bounds_never_costs_more_than_its_upper_bound(
    shots: int, seconds: float, deadline: float, tasks: int, places: int
) -> None:
    """I3: the hold covers the charge, at any precision."""
    rounded = card(lambda document: document.update(precision=money.text(Decimal(1).scaleb(-places))))
    bound = upper_bound(rounded, "aer", "aer-1", shots, deadline, tasks)
    used = [
        fact("tasks", tasks, "measured", "plane"),
        fact("shots", shots, "measured", "aer"),
        fact("simulator_seconds", min(seconds, tasks * deadline), "measured", "aer"),
    ]
    assert charge(rounded, "aer", used).amount <= bound.amount


@given(st.integers(0, 10**9), st.floats(0, 1e6))
def test_a_charge_is_the_exact_sum_of_its_rounded_lines(shots: int, seconds: float) -> None:
    """G7: anyone recomputes it from quantity, rate, precision and rounding."""
    used = [fact("shots", shots, "measured", "aer"), fact("simulator_seconds", seconds, "measured", "aer")]
    cost = charge(card(), "aer", used)
    for line in cost.lines:
        assert line.amount == (line.quantity * line.rate).quantize(Decimal("0.0001"), rounding="ROUND_HALF_EVEN")
    assert cost.amount == sum(line.amount for line in cost.lines)


@pytest.mark.parametrize(("rounding", "amount"), [("half_even", "0.0002"), ("half_up", "0.0003")])
def test_the_card_states_how_halves_are_rounded(rounding: str, amount: str) -> None:
    """G7: 0.00025 becomes what the card says."""

    def change(document: dict[str, Any]) -> None:
        document["rounding"] = rounding
        document["prices"][0]["meters"] = [{"meter": "shots", "unit": "Shots", "rate": "0.00025"}]

    assert charge(card(change), "aer", [fact("shots", 1, "vendor", "x")]).amount == Decimal(amount)


def test_a_cap_bounds_what_is_billed_a_task() -> None:
    """A runaway simulation bills its cap, and the line says so."""
    (line,) = [line for line in charge(card(), "aer", bell(5000.0)).lines if line.meter == "simulator_seconds"]
    assert (line.quantity, line.amount) == (Decimal(20), Decimal("0.14"))


def test_an_unknown_price_refuses() -> None:
    """Decision 6: what has no price is never free."""
    with pytest.raises(UnknownPrice):
        upper_bound(card(), "ibm-quantum", "ibm_x", 1, 1.0)
    with pytest.raises(UnknownPrice):
        charge(card(), "ibm-quantum", bell())


def test_a_price_without_a_bound_refuses() -> None:
    """Decision 6: where a card got past its check, the hold is refused, not guessed."""
    checked = card()
    unbounded = Price("x", "*", (Rate("queue_seconds", "Seconds", "1"),))
    broken = structs.replace(checked, card=structs.replace(checked.card, prices=(unbounded,)))
    with pytest.raises(UnknownPrice, match=r"^queue_seconds: "):
        upper_bound(broken, "x", "y", 1, 1.0)


def test_a_device_of_its_own_price_beats_the_star() -> None:
    """The nearest price is the one."""

    def change(document: dict[str, Any]) -> None:
        own = {
            "provider": "aer",
            "device": "big",
            "meters": [{"meter": "tasks", "unit": "Tasks", "rate": "7"}],
        }
        document["prices"].append(own)

    assert upper_bound(card(change), "aer", "big", 1000, 1.0).amount == 7
    assert upper_bound(card(change), "aer", "small", 0, 0).amount == Decimal("0.3")


@pytest.mark.parametrize(
    ("executions", "deadline", "field"),
    [
        (-1, 1, "executions"),
        (10**30, 1, "executions"),
        (1, -1, "deadline_s"),
        (1, float("nan"), "deadline_s"),
        (1, 1e30, "deadline_s"),
    ],
)
def test_an_impossible_job_has_no_price(executions: int, deadline: float, field: str) -> None:
    """NaN, negative and 10^30 name the field."""
    with pytest.raises(AmountInvalid) as caught:
        upper_bound(card(), "aer", "aer-1", executions, deadline)
    assert caught.value.field == field


def test_a_fact_given_twice_is_not_charged_twice() -> None:
    """A doubled report is refused."""
    with pytest.raises(FactInvalid):
        charge(card(), "aer", [*bell(), bell()[1]])


def test_the_hash_is_of_the_canonical_document() -> None:
    """G7: a bill names its card; spacing, order and defaults of the file don't matter, any value does."""
    shipped = card()
    assert shipped.document == rfc8785.dumps(json.loads(AER))
    assert shipped.hash == "sha256:" + hashlib.sha256(shipped.document).hexdigest()
    assert parse_card(shipped.document) == shipped
    assert card(lambda document: document.pop("effective_until")).hash == shipped.hash
    assert card(lambda document: document.update(revision=2)).hash != shipped.hash


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_text_on_a_card_is_canonical(source: str) -> None:
    """The encoding is RFC 8785, whatever the characters."""
    made = card(lambda document: document.update(source=source))
    assert made.document == rfc8785.dumps(json.loads(made.document))


def test_a_card_is_in_force_from_its_first_day_until_its_last() -> None:
    """Dates begin at 00:00 UTC, wherever the asker is."""
    made = card(lambda document: document.update(effective_until="2027-01-01"))
    begins, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert made.in_force(begins)
    assert made.in_force(ends - timedelta(microseconds=1))
    assert not made.in_force(begins - timedelta(microseconds=1))
    assert not made.in_force(ends)


def _meter(**changes: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["prices"][0]["meters"][2].update(changes)

    return change


BAD = {
    "$.currency": lambda card: card.update(currency="usd"),
    "$.precision": lambda card: card.update(precision="0.02"),
    "$.rounding": lambda card: card.update(rounding="down"),
    "$.version": lambda card: card.update(version=3),
    "$.revision": lambda card: card.update(revision=0),
    "$.source": lambda card: card.update(source=""),
    "$.source_date": lambda card: card.update(source_date="20261101"),
    "$.effective_from": lambda card: card.update(effective_from="2026-02-30"),
    "$.effective_until": lambda card: card.update(effective_until="2026-01-01"),
    "$.prices": lambda card: card.update(prices=[]),
    "$.prices[0].meters": lambda card: card["prices"][0].update(meters=[]),
    "$.prices[1]": lambda card: card["prices"].append(card["prices"][0]),
    "$.prices[0].meters[3]": lambda card: card["prices"][0]["meters"].append(card["prices"][0]["meters"][0]),
    "$.prices[0].meters[2].meter": _meter(meter="photons"),
    "$.prices[0].meters[2].unit": _meter(unit="Minutes"),
    "$.prices[0].meters[2].rate": _meter(rate="-0.1"),
    "$.prices[0].meters[2].cap": _meter(meter="queue_seconds", cap=None),
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_card_is_refused_at_the_field_at_fault(field: str) -> None:
    """Unknown unit, negative rate, doubled price, unbounded meter, impossible date: each names its place."""
    with pytest.raises(RateCardInvalid) as caught:
        card(BAD[field])
    assert caught.value.field == field


@pytest.mark.parametrize("rate", ["NaN", "1e3", "1" + "0" * 30, "0." + "1" * 13, ""])
def test_a_rate_is_a_plain_decimal(rate: str) -> None:
    """NaN and 10^30 are no rates."""
    with pytest.raises(RateCardInvalid):
        card(_meter(rate=rate))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        b'{"version":1.0}',
        b" " * (MAX_CARD_BYTES + 1),
        AER.replace(b'"name"', b'"nom"'),
        AER.replace(b'"0.30"', b"0.30"),
    ],
)
def test_what_is_no_card_is_refused(data: bytes) -> None:
    """Not JSON, too large, unknown fields, numbers where text belongs."""
    with pytest.raises(RateCardInvalid):
        parse_card(data)
