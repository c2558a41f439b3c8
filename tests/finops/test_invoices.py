# SPDX-License-Identifier: Apache-2.0
"""Invoices are read in one way, or refused by line and field (G7)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from finops.errors import InvoiceInvalid
from finops.invoices import mapping, table
from finops.invoices.lines import Invoice, read

VECTORS = Path(__file__).parents[1] / "vectors" / "invoices"
REFUSED = {
    "nan.csv": "line 2, amount: want a decimal number",
    "infinity.json": "Infinity is no amount",
    "ten-to-the-thirty.csv": "line 3, amount: is 10^15 or more",
    "ten-to-the-thirty.json": "line 1, amount: is 10^15 or more",
    "too-many-decimals.csv": "line 2, amount: has more than 12 decimals",
    "negative-usage.csv": "line 2, amount: is negative, and the line is neither credit nor refund",
    "negative-quantity.csv": "line 2, quantity: is negative, and the line is neither credit nor refund",
    "wrong-currency.csv": "line 2, currency: want a three-letter ISO 4217 code",
    "mixed-currencies.csv": "line 3, currency: is in EUR, line 2 in USD: an invoice has one currency",
    "missing-column.csv": "line 2, currency: the invoice has no such column",
    "no-amount.csv": "line 2, amount: is empty",
    "duplicated-header.csv": "line 1, task: the header names this column twice",
    "unnamed-column.csv": "line 1: a column has no name, or spaces around it",
    "bad-date.csv": "line 2, start: want a date or time as ISO 8601",
    "year-one.csv": "line 2, start: want a date or time as ISO 8601",
    "year-9999.csv": "line 2, start: is in the year 9999",
    "ambiguous-date.csv": "line 2, start: want a date or time as ISO 8601",
    "end-before-start.csv": "line 2, end: is before the start",
    "unknown-unit.csv": "line 2, unit: an unknown unit: Flops",
    "unit-of-another-meter.csv": "line 2, unit: shots is counted in Shots, not Seconds",
    "unknown-meter.csv": "line 2, meter: the mapping has no meter for it: coffee",
    "short-row.csv": "line 3: has 2 cells, the header 10",
    "open-quote.csv": "line 2: is no CSV: unexpected end of data",
    "not-utf8.csv": "line 2: is not UTF-8",
    "nul.csv": "line 2: holds a NUL",
    "empty.csv": "the file is empty",
    "only-a-byte-order-mark.csv": "the file is empty",
    "header-only.csv": "has a header and no line",
    "quoted-newlines.csv": "line 4, amount: want a decimal number",
    "not-json.json": "line 1: is no JSON: Expecting property name enclosed in double quotes",
    "object.json": "want a list of objects, one a line of the invoice",
    "nested.json": "line 1, amount: want text, a number or null",
    "twice.json": "amount: an object names this twice",
    "deep.json": "is nested too deeply",
}


def invoice(name: str, how: str = "plain") -> Invoice:
    form = cast("table.Format", name.rpartition(".")[2])
    return read((VECTORS / name).read_bytes(), form, mapping.shipped(how))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_bad_invoice_is_refused_by_line_and_field(name: str) -> None:
    with pytest.raises(InvoiceInvalid) as refused:
        invoice(name)
    assert str(refused.value) == REFUSED[name]


def test_a_file_of_50_mb_is_refused_unread() -> None:
    with pytest.raises(InvoiceInvalid, match="52428800 bytes"):
        read(bytes(50 << 20), "csv", mapping.shipped("plain"))


def test_every_vector_is_read_or_refused() -> None:
    """No file lies there that no test speaks of."""
    spoken = {*REFUSED, *GOOD, "aws.csv", "azure.csv", "focus.csv", "ibm.csv"}
    assert {one.name for one in VECTORS.iterdir()} == spoken


GOOD = ("good.csv", "good.json", "byte-order-mark.csv", "quoted-newlines-good.csv", "formula-cells.csv")


@pytest.mark.parametrize("name", GOOD)
def test_a_right_invoice_is_read_to_the_last_digit(name: str) -> None:
    """A byte order mark, line breaks within quotes and cells like formulas are text, and nothing becomes a float."""
    line = invoice(name).lines[0]
    assert (line.amount, line.currency, line.meter) == (Decimal("1.45"), "USD", "shots")
    assert (line.quantity, line.unit, line.line) == (Decimal(1000), "Shots", 1 if name.endswith("json") else 2)


def test_an_invoice_of_aws_is_read_by_its_mapping() -> None:
    shots, task, storage, credit = invoice("aws.csv", "aws").lines
    assert (shots.meter, shots.quantity, shots.unit) == ("shots", Decimal(1000), "Shots")
    assert (task.meter, task.amount, task.vendor_id) == ("tasks", Decimal("0.30"), shots.vendor_id)
    assert (storage.kind, storage.meter, storage.amount) == ("other", None, Decimal("0.27"))
    assert (credit.kind, credit.amount) == ("credit", Decimal("-0.50"))


def test_an_invoice_of_ibm_is_read_by_its_mapping() -> None:
    (line,) = invoice("ibm.csv", "ibm").lines
    assert (line.vendor_id, line.device, line.meter, line.quantity) == (
        "cz1",
        "ibm_fez",
        "qpu_seconds",
        Decimal("12.5"),
    )


def test_an_invoice_of_azure_counts_in_units_of_ours() -> None:
    (line,) = invoice("azure.csv", "azure").lines
    assert (line.quantity, line.unit, line.meter) == (Decimal(1800), "Seconds", "qpu_seconds")
    assert (line.start, line.end) == (datetime(2026, 10, 3, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC))


def test_an_invoice_in_focus_is_read_as_csv_and_as_json() -> None:
    (line,) = invoice("focus.csv", "focus").lines
    assert (line.amount, line.vendor_id) == (Decimal("1.45"), "arn:task/1")
    cells = [dict(row) for _, row in table.rows((VECTORS / "focus.csv").read_bytes(), "focus")]
    assert read(json.dumps(cells).encode(), "focus", mapping.shipped("focus")).lines[0].amount == line.amount


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": {"currency": "c"}}, "map $.columns: names no column of amounts"),
        ({"columns": {"amount": "a"}}, "map $.currency: names neither a column nor a code of the currency"),
        ({"columns": {"amount": "a"}, "currency": "usd"}, "map $.currency: want a three-letter ISO 4217 code"),
        ({"meters": [{"word": "x", "means": "coffee"}]}, "map $.meters[0]: no such meter: coffee"),
        ({"kinds": [{"word": "x", "means": "gift"}]}, "map $.kinds[0]: want one of usage, credit, refund, other"),
        ({"units": [{"word": "x", "unit": "Cups"}]}, "map $.units[0].unit: no such unit: Cups"),
        ({"units": [{"word": "x", "unit": "Shots", "factor": "0"}]}, "map $.units[0].factor: is zero"),
        ({"version": 2}, "map $.version: Invalid enum value 2"),
        ({"surprise": 1}, "map: Object contains unknown field `surprise`"),
    ],
)
def test_a_bad_mapping_is_refused_by_its_field(change: dict[str, object], said: str) -> None:
    document = {"version": 1, "name": "x", "columns": {"amount": "a", "currency": "c"}} | change
    with pytest.raises(InvoiceInvalid) as refused:
        mapping.parse(json.dumps(document).encode())
    assert str(refused.value) == said


def test_a_mapping_that_does_not_ship_is_refused_with_those_that_do() -> None:
    with pytest.raises(InvoiceInvalid, match="no mapping nobody; there are aws, azure, focus, ibm, plain"):
        mapping.shipped("nobody")
