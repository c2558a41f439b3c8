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
    "nan.csv": "line 2, amount: want a decimal number like 1234.56: NaN",
    "infinity.json": "line 1, amount: Infinity is no number",
    "ten-to-the-thirty.csv": "line 3, amount: is 10^15 or more",
    "ten-to-the-thirty.json": "line 1, amount: is 10^15 or more",
    "too-many-decimals.csv": "line 2, amount: has more than 20 decimals",
    "negative-usage.csv": "line 2, amount: is negative, and the line is neither credit, refund nor discount",
    "negative-quantity.csv": "line 2, quantity: is negative, and the line is neither credit, refund nor discount",
    "wrong-currency.csv": "line 2, currency: want a three-letter ISO 4217 code",
    "no-such-currency.csv": "line 2, currency: ISO 4217 has no currency ZZZ",
    "mixed-currencies.csv": "line 3, currency: is in EUR, line 2 in USD: an invoice has one currency",
    "missing-column.csv": "line 2, currency: the invoice has no such column",
    "no-amount.csv": "line 2, amount: is empty",
    "duplicated-header.csv": "line 1, task: the header names this column twice",
    "unnamed-column.csv": "line 1: a column has no name, or spaces around it",
    "bad-date.csv": "line 2, start: want a date or time as ISO 8601: 2026-02-30",
    "year-one.csv": "line 2, start: want a date or time as ISO 8601: 0001-01-01T00:00:00+14:00",
    "year-9999.csv": "line 2, start: is in the year 9999",
    "ambiguous-date.csv": "line 2, start: want a date or time as ISO 8601: 03/10/26",
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
    "quoted-newlines.csv": "line 4, amount: want a decimal number like 1234.56: x",
    "not-json.json": "line 1: is no JSON: Expecting property name enclosed in double quotes",
    "object.json": "want a list of objects, one a line of the invoice",
    "nested.json": 'line 1, amount: want a decimal number like 1234.56: {"value": "1"}',
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


HEAD = "task,meter,quantity,amount,currency,start,kind\n"
LINE = "arn:1,shots,1000,1.45,USD,2026-10-03,usage\n"


def as_one(text: str) -> list[tuple[object, ...]]:
    """What a text is read as, a line each."""
    found = read(text.encode(), "csv", mapping.shipped("plain")).lines
    return [(one.line, one.vendor_id, one.kind, one.amount, one.quantity) for one in found]


def test_a_spreadsheets_ways_of_writing_a_file_are_read() -> None:
    """UTF-16, semicolons, tabs, CRLF, rows of nothing but separators: the same lines, each where it stands."""
    plain = as_one(HEAD + LINE + ",,,,,,\n\n" + LINE)
    assert plain == [(2, "arn:1", "usage", Decimal("1.45"), 1000), (5, "arn:1", "usage", Decimal("1.45"), 1000)]
    text = (HEAD + LINE + ",,,,,,\n\n" + LINE).replace("\n", "\r\n")
    for separator in ",;|\t":
        assert as_one(text.replace(",", separator)) == plain
    for wide in ("utf-16", "utf-16-le", "utf-16-be"):
        marked = text if wide == "utf-16" else "\ufeff" + text
        assert len(read(marked.encode(wide), "csv", mapping.shipped("plain")).lines) == 2


def test_a_line_of_totals_is_no_line_and_must_be_what_is_above_it() -> None:
    """A file that was cut short, or whose total counts what isn't there, says so itself."""
    once = as_one(HEAD + LINE)
    assert as_one(HEAD + LINE + "Total,,,1.45,USD,,\n") == once, "named by its one word"
    assert as_one(HEAD + LINE + "Oct,,,1.45,,2026-10-31,Invoice total\n") == once, "named by its kind"
    for bad in ("1.46", "1450"):
        with pytest.raises(InvoiceInvalid) as refused:
            as_one(HEAD + LINE + f"Grand Total:,,,{bad},USD,,\n")
        assert str(refused.value) == f"line 3, amount: is a total of {bad}, and the lines above it add up to 1.45"


@pytest.mark.parametrize(
    ("like", "cell", "read_as"),
    [
        ("1,234.56", "1,234,567.89", "1234567.89"),
        ("1,234.56", "1234567.89", "1234567.89"),
        ("1.234,56", "-1.234,5", "-1234.5"),
        ("1 234,56", "1\u00a0234,56", "1234.56"),
        ("1'234.56", "1\u2019234.56", "1234.56"),
        ("1234.56", "1.5e-7", "0.00000015"),
        ("1234.56", "0.0134408602150538", "0.0134408602150538"),
        ("1234.56", "1,234.56", None),
        ("1,234.56", "12,34.56", None),
        ("1,234.56", "1.234,56", None),
        ("1.234,56", "1234.56", None),
        ("1 234,56", "1.5", None),
        ("1,234.56", "$1,234.56", None),
        ("1.234,56", "1.234 EUR", None),
    ],
)
def test_numbers_are_read_as_the_mapping_says_and_no_other_way(like: str, cell: str, read_as: str | None) -> None:
    document = {"version": 1, "name": "x", "columns": {"amount": "a"}, "currency": "EUR", "numbers": like}
    document |= {"kinds": [{"word": "*", "means": "credit"}], "columns": {"amount": "a", "kind": "k"}}
    data = f'k;a\nx;"{cell}"\n'.encode()
    if read_as is None:
        with pytest.raises(InvoiceInvalid, match=f"line 2, a: want a decimal number like {like}: "):
            read(data, "csv", mapping.parse(json.dumps(document).encode()))
    else:
        assert read(data, "csv", mapping.parse(json.dumps(document).encode())).lines[0].amount == Decimal(read_as)


@pytest.mark.parametrize(("dates", "cell"), [("month-first", "10/3/2026"), ("day-first", "3.10.2026")])
def test_dates_are_read_as_the_mapping_says(dates: str, cell: str) -> None:
    document = {"version": 1, "name": "x", "columns": {"amount": "a", "start": "d"}, "currency": "EUR", "dates": dates}
    (line,) = read(f"a,d\n1,{cell}\n".encode(), "csv", mapping.parse(json.dumps(document).encode())).lines
    assert line.start == datetime(2026, 10, 3, tzinfo=UTC)


CUR2 = (
    "line_item_resource_id,line_item_usage_type,line_item_usage_amount,pricing_unit,line_item_unblended_cost,"
    "line_item_currency_code,line_item_usage_start_date,line_item_usage_end_date,line_item_line_item_type,"
    "line_item_product_code,resource_tags\n"
    '{0},USE1-QuantumTask-Shot,1000,Shots,1.4500000000000002,USD,{1},AmazonBraket,"{{""team"":""a,b""}}"\n'
    ",USE1-QuantumTask,1,Tasks,-0.0435,USD,{2},AmazonBraket,\n"
    ",,0,,0.33,USD,{3},AmazonBraket,\n"
    ",USE1-Notebk:ml.t3.medium,3.5,Hrs,0.175,USD,{4},AmazonBraket,\n"
    ",USW2-BoxUsage:c7g.large,24,Hrs,1.74,USD,{4},AmazonEC2,\n"
).format(
    "arn:1",
    *(f"2026-10-03 00:00:00.000,2026-10-03 01:00:00.000,{kind}" for kind in ("Usage", "EdpDiscount", "Tax", "Usage")),
)


def test_a_data_export_of_aws_is_read_with_its_discounts_and_taxes_told_apart() -> None:
    """CUR 2.0 has other names for the columns; a notebook's hours are no job's."""
    kinds = [one.kind for one in read(CUR2.encode(), "csv", mapping.shipped("aws")).lines]
    assert kinds == ["usage", "discount", "tax", "other", "other"]


def test_a_cost_details_export_of_azure_is_read_under_either_agreements_names() -> None:
    text = (VECTORS / "azure.csv").read_text(encoding="utf-8")
    head, _, rest = text.partition("\n")
    renamed = ",".join(name[:1].lower() + name[1:] for name in head.split(","))
    renamed = renamed.replace("billingCurrencyCode", "billingCurrency")
    assert read(f"{renamed}\n{rest}".encode(), "csv", mapping.shipped("azure")) == invoice("azure.csv", "azure")


@pytest.mark.parametrize(
    ("told", "task"),
    [
        ("b7c1", "b7c1"),
        ('{"UsageType":"x","JobId":"b7c1"}', "b7c1"),
        ('{"UsageType":"x"}', None),
        ('{"jobId":"a","taskId":"b"}', None),
        ("{b7c1", "{b7c1"),
    ],
)
def test_a_tasks_name_is_found_in_what_azure_says_more(told: str, task: str | None) -> None:
    """A sum of a day has more to say, too, and is no task's for that."""
    data = (VECTORS / "azure.csv").read_text(encoding="utf-8").replace("b7c1", '"' + told.replace('"', '""') + '"')
    assert read(data.encode(), "csv", mapping.shipped("azure")).lines[0].vendor_id == task


def test_a_focus_file_of_another_tool_with_tags_and_units_of_other_services_is_read() -> None:
    row = {"BilledCost": 1.74, "BillingCurrency": "USD", "ChargeCategory": "Usage", "Tags": {"team": "a"}}
    row |= {"ChargePeriodStart": "2026-10-03T00:00:00Z", "ChargePeriodEnd": "2026-10-04T00:00:00Z"}
    row |= {"ConsumedQuantity": 24, "ConsumedUnit": "GB-Hours", "ResourceId": "i-1"}
    (line,) = read(json.dumps([row]).encode(), "focus", mapping.shipped("focus")).lines
    assert (line.amount, line.quantity, line.unit, line.meter) == (Decimal("1.74"), Decimal(24), None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": {"currency": "c"}}, "map $.columns: names no column of amounts"),
        ({"columns": {"amount": "a"}}, "map $.currency: names neither a column nor a code of the currency"),
        ({"columns": {"amount": "a"}, "currency": "usd"}, "map $.currency: want a three-letter ISO 4217 code"),
        ({"meters": [{"word": "x", "means": "coffee"}]}, "map $.meters[0]: no such meter: coffee"),
        (
            {"kinds": [{"word": "x", "means": "gift"}]},
            "map $.kinds[0]: want one of usage, credit, refund, discount, tax, other, total",
        ),
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
