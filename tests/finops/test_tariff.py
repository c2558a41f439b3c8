# SPDX-License-Identifier: Apache-2.0
"""Which of several cards prices, and which can't stand side by side (G6)."""

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest

from finops.errors import UnknownPrice
from finops.rates import RateCard, parse_card
from finops.tariff import clashes, tariff
from tests.vectors.cards import make

AT = datetime(2026, 11, 22, tzinfo=UTC)


def card(name: str = "a", revision: int = 1, device: str = "*", sells: str = "example", **head: object) -> RateCard:
    """A card for one device."""
    document = copy.deepcopy(make.GOOD) | {"name": name, "revision": revision} | head
    document["prices"][0] |= {"device": device, "provider": sells}
    return parse_card(json.dumps(document).encode())


def test_of_a_name_the_newest_pushed_that_covers_the_moment_prices() -> None:
    first, second = card(revision=1), card(revision=2)
    later = card(revision=3, effective_from="2027-01-01")
    found = tariff([first, second, later], AT)
    assert found.cards == (second,)
    since, until = second.effective_from, later.effective_from
    assert (found.since, found.until) == (since, until)
    moments = (since - timedelta(microseconds=1), since, AT, until)
    assert [found.covers(at) for at in moments] == [False, True, True, False]
    assert tariff([first, second, later], until).cards == (later,)
    assert tariff([second, later, first], AT).cards == (first,)


def test_a_revision_of_a_while_gives_way_to_the_one_before_it() -> None:
    usual, offer = card(revision=1), card(revision=2, effective_from="2026-11-01", effective_until="2026-12-01")
    assert tariff([usual, offer], AT).cards == (offer,)
    assert tariff([usual, offer], datetime(2026, 12, 1, tzinfo=UTC)).cards == (usual,)


def test_a_card_that_ends_takes_its_name_with_it() -> None:
    usual, last = card(revision=1), card(revision=2, effective_until="2026-12-01", ends=True)
    assert tariff([usual, last], AT).cards == (last,)
    found = tariff([usual, last], datetime(2026, 12, 1, tzinfo=UTC))
    assert found.cards == ()
    with pytest.raises(UnknownPrice):
        found.card_for("example", "x")


def test_a_device_is_priced_by_the_card_that_names_it_then_by_its_sku_then_by_its_provider() -> None:
    star, sold, own = card("star"), card("sold", device="arn"), card("own", device="b1")
    found = tariff([star, sold, own], AT)
    assert [found.card_for("example", *of).name for of in (("b1", "arn"), ("b2", "arn"), ("b2",))] == [
        "own",
        "sold",
        "star",
    ]
    with pytest.raises(UnknownPrice):
        found.card_for("another", "b1")


def test_two_names_for_one_device_overlap_while_both_hold() -> None:
    one, other = card("one"), card("other", effective_from="2027-01-01")
    (clash,) = clashes([one, other])
    assert clash.detail == "cards one and other both price example * from 2027-01-01"
    assert clash.card is other
    assert not clashes([card("one", effective_until="2027-01-01"), other])
    assert not clashes([one, card("other", device="b1")])
    ended = card("one", 2, effective_until="2026-12-01", ends=True)
    assert not clashes([one, other, ended], AT)


def test_what_overlapped_in_the_past_is_nobody_s_fault_now() -> None:
    old = card("one", effective_until="2026-06-01")
    assert clashes([old, card("other")])
    assert not clashes([old, card("other")], AT)


def test_days_between_two_revisions_are_a_gap_unless_the_earlier_one_ends() -> None:
    later = card(revision=2, effective_from="2026-09-01")
    (clash,) = clashes([card(effective_until="2026-08-01"), later])
    assert clash.detail == "a has no price from 2026-08-01 until 2026-09-01: between revision 1 and 2"
    assert not clashes([card(effective_until="2026-08-01", ends=True), later])
    assert not clashes([card(effective_until="2026-09-01"), later])
    assert not clashes([card(), card(revision=3, effective_until="2026-08-01"), later])
