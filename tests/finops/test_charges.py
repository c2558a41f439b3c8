# SPDX-License-Identifier: Apache-2.0
"""Charged lines: what an entry says was charged, the rows of it, and what row and entry disagree about (G7, I6)."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from finops import charges, money
from finops.books import Books, Named, differences, document, fold, restored
from finops.charges import Charged, Line, Section
from finops.errors import BooksInconsistent

AT = datetime(2026, 11, 30, 23, 59, 59, 999000, tzinfo=UTC)
NAMED = Named("00000000-0000-0000-0000-000000000001", AT)
LINES = (
    Line(meter="tasks", quantity="1", unit="Tasks", rate="0.3", amount="0.3", source="measured", by="plane"),
    Line(meter="shots", quantity="1000", unit="Shots", rate="0.00035", amount="0.35", source="measured", by="plane"),
)
Rows: TypeAlias = dict[str, tuple[Charged, ...]]
USAGE = Section(lines=LINES, currency="USD", job_id="j1", project="p", backend="qpu", started_at="2026-11-30T23:59:00Z")


def rows(*told: Section) -> tuple[Charged, ...]:
    return charges.rows(NAMED.entry_id, AT, told)


def test_a_section_is_read_back_as_it_was_told() -> None:
    assert charges.sections({"charge": USAGE.body()}) == (USAGE,)
    assert charges.sections({"job_id": "j1"}) == (), "entries of earlier releases charge nothing"
    assert USAGE.amount == Decimal("0.65")


def test_lines_are_numbered_over_all_sections_and_count_in_the_month_of_their_entry() -> None:
    credit = Section(lines=(Line(amount="-0.10"),), currency="USD", category="credit", project="p")
    found = rows(USAGE, credit)
    assert [row.line for row in found] == [0, 1, 2]
    assert [row.amount for row in found] == [Decimal("0.3"), Decimal("0.35"), Decimal("-0.10")]
    assert {row.month for row in found} == {"2026-11"}
    assert found[0].started_at == datetime(2026, 11, 30, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "closed", "month"),
    [
        (AT, set(), "2026-11"),
        (AT + timedelta(milliseconds=1), set(), "2026-12"),
        (datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), set(), "2026-11"),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), set(), "2028-02"),
        (AT, {"2026-11"}, "2026-12"),
        (AT, {"2026-11", "2026-12"}, "2027-01"),
        (AT, {"2026-10", "2026-12"}, "2026-11"),
    ],
)
def test_a_month_is_utc_and_the_first_open_one(at: datetime, closed: set[str], month: str) -> None:
    assert charges.month_of(at, closed) == month


@pytest.mark.parametrize("amount", ["-0.1", "NaN", "1e3", "1000000000000000", "0.0000000000001", "", "+1"])
def test_a_usage_is_a_plain_amount(amount: str) -> None:
    with pytest.raises(BooksInconsistent):
        rows(replace(USAGE, lines=(replace(LINES[0], amount=amount),)))


@pytest.mark.parametrize(
    "told",
    [
        {"lines": [], "currency": "USD", "category": "gift"},
        {"lines": [{"amount": 0.1}], "currency": "USD"},
        {"lines": [{"amount": "1", "colour": "red"}], "currency": "USD"},
        {"lines": [{"amount": "1", "source": "rumour"}], "currency": "USD"},
        {"currency": "USD"},
        None,
    ],
)
def test_what_is_no_section_is_not_folded(told: Any) -> None:
    with pytest.raises(BooksInconsistent):
        fold(Books(), "job:outcome:completed", {"charge": told}, NAMED)


@pytest.mark.parametrize(
    "changed", [{"currency": "usd"}, {"started_at": "2026-11-30T23:59:00"}, {"ended_at": "yesterday"}]
)
def test_a_section_whose_values_are_wrong_is_not_folded(changed: dict[str, str]) -> None:
    with pytest.raises(BooksInconsistent):
        fold(Books(), "job:outcome:completed", {"charge": USAGE.body() | changed}, NAMED)


def test_an_entry_charges_once_and_what_was_captured() -> None:
    books = fold(Books(), "cost:credited", {"charge": USAGE.body()}, NAMED)
    with pytest.raises(BooksInconsistent, match="charged before"):
        fold(books, "cost:credited", {"charge": USAGE.body()}, NAMED)
    with pytest.raises(BooksInconsistent, match="of no entry"):
        fold(Books(), "cost:credited", {"charge": USAGE.body()})


def test_each_difference_of_row_and_ledger_is_named() -> None:
    """I6: a changed, a missing and an added row; equal ones, with other zeros, are none."""
    told: Rows = {NAMED.entry_id: rows(USAGE)}
    first, second = told[NAMED.entry_id]
    same: Rows = {NAMED.entry_id: (replace(first, amount=Decimal("0.300")), second)}
    assert charges.differences(same, told) == []
    kept: Rows = {NAMED.entry_id: (replace(first, amount=Decimal("0.03"), project="q"),), "1-added": (second,)}
    assert differences(Books(charges=kept), Books(charges=told)) == [
        f"charge {NAMED.entry_id} line 0: project q, ledger p; amount 0.03, ledger 0.3",
        f"charge {NAMED.entry_id} line 1: told by the entry, no row",
        "charge 1-added line 1: a row that no entry tells of",
    ]


AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=12, allow_nan=False)


@given(st.lists(st.lists(AMOUNTS, min_size=1, max_size=4), max_size=6))
def test_a_state_that_was_kept_is_the_same_state(jobs: list[list[Decimal]]) -> None:
    """S4, I6: rows through the kept document, to the last decimal; no charges leave the document as it was."""
    books = Books()
    for number, amounts in enumerate(jobs):
        lines = tuple(Line(amount=money.text(amount), meter="shots") for amount in amounts)
        body = {"charge": Section(lines=lines, currency="USD", job_id=f"j{number}").body()}
        fold(books, "job:outcome:completed", body, Named(f"e{number}", AT + timedelta(days=number)))
    kept = document(books)
    assert ("charges" in kept) is bool(jobs)
    again = restored(kept)
    assert again.charges == books.charges
    assert document(again) == kept
    assert money.total(row.amount for own in again.charges.values() for row in own) == money.total(
        amount for amounts in jobs for amount in amounts
    )
