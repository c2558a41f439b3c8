# SPDX-License-Identifier: Apache-2.0
"""A FOCUS file says what was charged, to the last decimal, and the same lines are the same bytes (G7, G14)."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from control_plane.commands import _costs_export
from finops.errors import PeriodInvalid
from finops.focus import columns, rows, writers
from finops.focus.errors import FocusRefused
from finops.focus.selection import Selection
from finops.spending import moment
from tests.finops.focus.sample import PARTIES, file, month, raw, row

DOCS = Path(__file__).parents[3] / "docs"


def read(data: bytes) -> list[dict[str, str]]:
    """The lines of a CSV file, by the standard library's reader."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_shots_task_and_seconds_of_a_job_are_lines_of_their_own_that_share_it() -> None:
    """Each with its unit, priced as the card says."""
    lines = read(file(month()))[:3]
    assert [line["PricingUnit"] for line in lines] == ["Shots", "Tasks", "Seconds"]
    assert {line["x_JobId"] for line in lines} == {"job-1"}
    assert {line["x_EvidenceBundleId"] for line in lines} == {"00000000-0000-4000-8000-00000000000b"}
    assert [line["x_LedgerLine"] for line in lines] == ["0", "1", "2"]
    assert {line["x_QueueSeconds"] for line in lines} == {"1.5000000000"}
    assert {(line["ProviderName"], line["InvoiceIssuerName"]) for line in lines} == {("qcos-test", "qcos-test")}


def test_decimals_are_exact_and_look_like_decimals() -> None:
    """Ten decimals, or as many as it takes; the product of a line stands beside what was billed of it."""
    lines = read(file(month()))
    assert lines[0]["BilledCost"] == "80.0000000000"
    assert lines[5]["BilledCost"] == "0.123456789012"
    assert (lines[2]["ContractedCost"], lines[2]["BilledCost"]) == ("1.9753072000", "1.9800000000")
    for line in lines[:3]:
        product = Decimal(line["PricingQuantity"]) * Decimal(line["ListUnitPrice"])
        assert product == Decimal(line["ListCost"])


def test_small_and_no_amounts_are_told_without_an_exponent() -> None:
    """Below a millionth too, on either side of 0."""
    amounts = ("0", "0.000000000001", "0.0000001", "-0.00000025", "0.000001", "-3")
    rows = [row(number, amount=Decimal(amount)) for number, amount in enumerate(amounts)]
    told = [line["BilledCost"] for line in read(file([*rows, row(9, line=1, amount=None)]))]
    assert told[:4] == ["0.0000000000", "0.000000000001", "0.0000001000", "-0.0000002500"]
    assert told[4:] == ["0.0000010000", "-3.0000000000", ""]


def test_credits_and_corrections_are_classed_as_focus_does() -> None:
    """A correction of an earlier month has a class; within the month it is an adjustment."""
    said = [(line["ChargeCategory"], line["ChargeClass"], line["ConsumedQuantity"]) for line in read(file(month()))[3:]]
    assert said == [("Credit", "", ""), ("Usage", "Correction", ""), ("Adjustment", "", ""), ("Adjustment", "", "")]


def test_a_correction_is_of_an_earlier_month_where_what_it_corrects_counts_there() -> None:
    """Not where the job merely began before midnight, or its month was closed when it ended."""
    began = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    given = {"category": "refund", "amount": Decimal(-1), "started_at": began}
    lines = read(file([row(1, **given, corrects="2026-11"), row(2, **given, corrects="2026-10"), row(3, **given)]))
    assert [line["ChargeClass"] for line in lines] == ["", "Correction", ""]
    assert {line["ChargePeriodStart"] for line in lines} == {"2026-10-31T23:59:59Z"}


def test_texts_come_back_as_they_were() -> None:
    """Quotes, commas and line breaks too."""
    assert read(file(month()))[0]["x_Purpose"] == 'a "benchmark", of two\nlines'


def test_parquet_says_what_csv_says() -> None:
    """Decimals and times as such, and which FOCUS it has the shape of."""
    table = pq.read_table(io.BytesIO(file(month(), form="parquet")))
    assert table.schema.metadata[writers.SHAPE] == b"1.2"
    assert table["BilledCost"].type == pa.decimal128(38, 12)
    lines = read(file(month()))
    assert table.column_names == list(lines[0])
    assert [Decimal(line["BilledCost"]) for line in lines] == table["BilledCost"].to_pylist()
    assert [line["SkuPriceId"] or None for line in lines] == table["SkuPriceId"].to_pylist()


@pytest.mark.parametrize("form", columns.FORMATS)
@pytest.mark.parametrize("version", columns.VERSIONS)
def test_the_same_lines_are_the_same_bytes_however_they_were_cut(version: str, form: str) -> None:
    """What the database sent in one piece or many, and words that came in another order before, are no matter."""
    many = [row(number, backend=f"b-{number % 7}", project=f"p-{number % 5}") for number in range(2_000)]
    assert file(many, version, form) == file(many, version, form)
    text = "".join(",".join(_copied(one)) + "\n" for one in many).encode()
    found = []
    for size in (1_000, 65_537):
        pieces = iter([text[at : at + size] for at in range(0, len(text), size)])
        sink = io.BytesIO()
        assert writers.write(sink, rows.tables(pieces), version, form, PARTIES) == 2_000
        found.append(sink.getvalue())
    assert found[0] == found[1]
    assert writers.digest([raw(many)], version, form, PARTIES)[1] == 2_000


def _copied(one: dict[str, object]) -> list[str]:
    return ["" if value is None else '"' + str(value).replace('"', '""') + '"' for value in one.values()]


@pytest.mark.parametrize("form", columns.FORMATS)
def test_a_month_without_charges_is_a_file_with_its_heading(form: str) -> None:
    """Valid, and empty."""
    data = file([], form=form)
    names = read(data) if form == "csv" else pq.read_table(io.BytesIO(data)).to_pylist()
    assert names == []
    wanted = [column.name for column in columns.of("1.2")]
    assert data.decode().strip().split(",") == wanted if form == "csv" else True
    assert list(rows.tables(iter([b""]))) == []


def test_versions_differ_where_focus_does() -> None:
    """1.4 knows who hosts and who serves; provider and publisher are gone."""
    older, newer = ({column.name for column in columns.of(version)} for version in ("1.2", "1.4"))
    assert older - newer == {"ProviderName", "PublisherName"}
    assert newer - older == {"HostProviderName", "InvoiceDetailId", "ServiceProviderName"}
    assert read(file(month(), "1.4"))[3]["InvoiceDetailId"] == "demo-2026-11-USD-credit"


def test_what_cannot_be_exported_is_refused_with_its_field() -> None:
    """A month, a version, a format, a period."""
    for wrong in ("2026-13", "26-1", "2026-1", "x"):
        with pytest.raises(PeriodInvalid, match="month"):
            Selection(month=wrong)
    with pytest.raises(PeriodInvalid, match="month"):
        Selection()
    with pytest.raises(PeriodInvalid, match="until"):
        Selection(since=moment("2026-11-02", "since"), until=moment("2026-11-01", "until"))
    with pytest.raises(PeriodInvalid, match="since"):
        moment("2026-11-31", "since")
    with pytest.raises(FocusRefused, match="focus"):
        columns.of("1.3")
    with pytest.raises(FocusRefused, match="format"):
        writers.digest([], "1.2", "xlsx", PARTIES)


def test_the_page_has_every_column_and_the_command_every_choice() -> None:
    """Made from the table."""
    page = (DOCS / "focus.md").read_text("utf-8")
    assert f"<!-- focus-columns -->\n{columns.document()}" in page
    assert (_costs_export.FORMATS, _costs_export.VERSIONS) == (columns.FORMATS, columns.VERSIONS)
