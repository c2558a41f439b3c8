# SPDX-License-Identifier: Apache-2.0
"""Amounts are exact, bounded, and have one text each (decision 6)."""

from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finops import money
from finops.errors import AmountInvalid

AMOUNTS = st.decimals(min_value=0, max_value=Decimal(999999999999999), places=12, allow_nan=False)


@given(AMOUNTS)
def test_an_amount_survives_its_text(amount: Decimal) -> None:
    """What is written is read back, exactly."""
    assert money.parse(money.text(amount), "amount") == amount


@given(AMOUNTS, st.integers(0, 12))
def test_equal_amounts_have_equal_texts(amount: Decimal, zeros: int) -> None:
    """I6: an amount has one form, whatever zeros it gained on its way."""
    padded = Decimal(f"{amount:f}" + ("" if "." in f"{amount:f}" else ".") + "0" * zeros)
    assert money.text(padded) == money.text(amount)


@given(st.lists(AMOUNTS, max_size=50))
def test_a_sum_is_exact_to_the_last_decimal(amounts: list[Decimal]) -> None:
    """G7: integers of 10^-12 agree with the decimals."""
    units = sum(int(amount.scaleb(12)) for amount in amounts)
    assert money.total(amounts) == Decimal(units).scaleb(-12)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.00", "0"),
        ("1E+3", "1000"),
        ("0.5200", "0.52"),
        ("-0.10", "-0.1"),
        ("1000", "1000"),
    ],
)
def test_text_has_no_exponent_and_no_trailing_zeros(amount: str, written: str) -> None:
    """The contract's plain decimal string."""
    assert money.text(Decimal(amount)) == written


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "-1",
        "+1",
        "1e3",
        "1E3",
        "01",
        ".5",
        "5.",
        "",
        " 1",
        "1 ",
        "1_000",
        "1,5",
        "١",
        "1" + "0" * 15,
        "0." + "1" * 13,
        1,
        1.5,
        None,
        True,
        Decimal(1),
        b"1",
    ],
)
def test_what_is_no_plain_decimal_is_refused_by_field(value: object) -> None:
    """Bad input names its field."""
    with pytest.raises(AmountInvalid) as caught:
        money.parse(value, "amount")
    assert caught.value.field == "amount"
    assert caught.value.code == "amount_invalid"


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "1E30", "1E15", "1E-13", "1E-400"])
def test_numbers_out_of_bounds_are_refused_by_field(value: str) -> None:
    """NaN, negative, 10^30 and a thirteenth decimal are refused."""
    with pytest.raises(AmountInvalid, match=r"^limit: "):
        money.check(Decimal(value), "limit")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1, 1e30, 1e300, True])
def test_a_measured_float_out_of_bounds_is_refused(value: float) -> None:
    """A broken clock never becomes a charge."""
    with pytest.raises(AmountInvalid, match=r"^wall_s: "):
        money.measured(value, "wall_s")


@given(st.floats(min_value=0, max_value=1e9))
def test_a_measured_float_is_rounded_up_and_by_less_than_a_millionth(value: float) -> None:
    """A bound stays a bound."""
    read = money.measured(value, "wall_s")
    assert 0 <= Fraction(read) - Fraction(repr(value)) < Fraction(1, 1_000_000)


def test_exact_arithmetic_raises_where_a_digit_would_be_lost() -> None:
    """Nothing is rounded by accident."""
    with money.exact(), pytest.raises(Inexact):
        Decimal(1) / Decimal(3)


@pytest.mark.parametrize("code", ["usd", "US", "USDT", "", "U$D", None, 840, "USD "])
def test_a_currency_has_three_capitals(code: object) -> None:
    """Wrong currency codes are refused by field."""
    with pytest.raises(AmountInvalid, match=r"^currency: "):
        money.currency(code)


def test_a_currency_of_iso_4217_is_one_that_somebody_may_be_billed_in() -> None:
    """The newest, one that ended and may be on old bills; no metal's test code and no nothing."""
    assert {"XCG", "XAD", "ZWG", "BGN"} <= money.CURRENCIES
    assert not {"XXX", "XTS", "ANG", "HRK", "ZZZ"} & money.CURRENCIES
