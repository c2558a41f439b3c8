# SPDX-License-Identifier: Apache-2.0
"""A file's usage is rebuilt from facts and card: zero difference, and one changed digit is found by its line (G7)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finops.charges import FIELDS, Charged
from finops.facts import fact
from finops.focus import columns, reading, recompute
from finops.focus.due import Proven, Told
from finops.focus.errors import FocusRefused
from finops.focus.recompute import Evidence, Finding
from finops.money import text
from finops.rates import charge, parse_card
from tests.finops.focus.sample import file, month, row

CARD = json.dumps(
    {
        "version": 1,
        "name": "test",
        "revision": 1,
        "currency": "USD",
        "source": "a test",
        "source_date": "2026-11-01",
        "effective_from": "2026-11-01",
        "effective_until": None,
        "precision": "0.01",
        "rounding": "half_even",
        "prices": [
            {
                "provider": "aws-braket",
                "device": "forte-as-sold",
                "meters": [
                    {"meter": "tasks", "unit": "Tasks", "rate": "0.3", "cap": None},
                    {"meter": "shots", "unit": "Shots", "rate": "0.00145", "cap": None},
                ],
            }
        ],
    }
).encode()
FACTS = (fact("tasks", Decimal(1), "measured", "plane"), fact("shots", Decimal(1001), "measured", "plane"))
CHARGE = charge(parse_card(CARD), "aws-braket", FACTS, device="braket-forte", sku="forte-as-sold")
SIGNED = tuple(
    (one.meter, text(one.quantity), one.unit, text(one.rate), text(one.amount), one.source) for one in CHARGE.lines
)
ROWS: list[dict[str, Any]] = [
    row(line=number, meter=one.meter, quantity=one.quantity, unit=one.unit, rate=one.rate, amount=one.amount)
    | {"purpose": "plain", "product": one.quantity * one.rate, "rate_card": CHARGE.card_hash}
    for number, one in enumerate(CHARGE.lines)
]


def charged(rows: list[dict[str, Any]]) -> tuple[Charged, ...]:
    """What an entry tells of them."""
    return tuple(Charged(**{name: one[name] for name in FIELDS}) for one in rows)


JOB = Proven(
    job_id="job-1",
    bundle_id="00000000-0000-4000-8000-00000000000b",
    provider="aws-braket",
    backend="braket-forte",
    waited=Decimal("1.5"),
    facts=FACTS,
    card=CARD,
    signed=SIGNED,
    told=Told(charged(ROWS), "demo", "qcos-test", 7),
)
KNOWN = Evidence({"job-1": JOB}, {}, {})


def written(form: str = "csv", most: int = 2, version: str = "1.2") -> bytes:
    """The file of that charge."""
    return file(ROWS[:most], version, form)


def held(data: bytes, evidence: Evidence = KNOWN) -> list[Finding]:
    """What isn't the same of a file, batch by batch."""
    version, table = reading.table(data)
    places = recompute.places(table)
    found: list[Finding] = []
    for _, lines in recompute.batches(table, 1):
        found += recompute.held(version, lines, recompute.usage(lines, evidence.known), evidence, places)
    return found


def changed(data: bytes, place: int, name: str, value: str) -> bytes:
    """A CSV file with another cell."""
    lines = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    lines[place][name] = value
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, lines[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().encode()


def another(column: columns.Column, value: str) -> str:
    """Another value that the column may have."""
    if not value:
        return {"decimal": "1.5", "integer": "5"}.get(column.kind, "other")
    if column.kind in ("time", "moment"):
        return value[:8] + ("03" if value[8:10] != "03" else "04") + value[10:]
    return value[:-1] + ("1" if value[-1] != "1" else "2")


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("version", columns.VERSIONS)
def test_a_file_of_ours_has_zero_difference(version: str, form: str) -> None:
    """Whichever form and version, whatever name the backend is sold under."""
    found = held(written(form, version=version))
    assert found == []
    assert recompute.differences(["USD"], found) == {"USD": "0"}


@pytest.mark.parametrize("version", columns.VERSIONS)
def test_each_column_that_is_changed_is_named(version: str) -> None:
    """Of one line, and of no other."""
    whole = written(version=version)
    cells = list(csv.DictReader(io.StringIO(whole.decode())))[1]
    for column in columns.of(version):
        value = another(column, cells[column.name])
        (found,) = held(changed(whole, 1, column.name, value), KNOWN_TOO)
        assert (found.state, found.line) == ("differs", 2), (column.name, found)
        assert column.name in found.detail.split(", "), (column.name, found)


# As the plane has it: the entry of a line that no job's evidence gives can be asked for.
KNOWN_TOO = Evidence({"job-1": JOB}, {}, {JOB.told.rows[0].entry_id: JOB.told})


def test_each_column_of_what_is_no_usage_is_held_too() -> None:
    """A credit, a refund of an earlier month, a correction and a share, from their entries."""
    rows = month()[3:]
    whole = file(rows)
    entries = {one["entry_id"]: Told(charged([one]), "demo", "qcos-test", 7, one["corrects"]) for one in rows}
    known = Evidence({"job-1": JOB}, {}, entries)
    assert held(whole, known) == []
    lines = list(csv.DictReader(io.StringIO(whole.decode(), newline="")))
    for place, line in enumerate(lines):
        for column in columns.of("1.2"):
            if (place, column.name) == (place, "x_LedgerEntryId"):
                continue  # then another entry is asked for, and there is none
            (found,) = held(changed(whole, place, column.name, another(column, line[column.name])), known)
            assert found.line == place + 1, (column.name, found)
            assert found.state == "differs" or column.name == "x_LedgerLine", (column.name, found)
            assert column.name in found.detail or found.state == "extra", (column.name, found)


def test_what_is_missing_too_much_or_unproven_is_said() -> None:
    """No line passes for want of evidence, nor where the entry charges otherwise than was signed."""
    assert [one.state for one in held(written(most=1))] == ["missing"]
    twice = written() + b"\n".join(written().split(b"\n")[1:])
    assert [(one.state, one.line) for one in held(twice)] == [("extra", 3), ("extra", 4)]
    unsaid = Evidence({}, {"job-1": "its evidence is invalid"}, KNOWN_TOO.told)
    assert {(one.state, one.detail) for one in held(written(), unsaid)} == {("unproven", "its evidence is invalid")}
    other = msgspec.structs.replace(JOB.told.rows[0], amount=Decimal(9))
    told = Told((other, JOB.told.rows[1]), "demo", "qcos-test", 7)
    found = held(written(), Evidence({"job-1": msgspec.structs.replace(JOB, told=told)}, {}, {}))
    assert {(one.state, "otherwise than was signed" in one.detail) for one in found} == {("unproven", True)}


def test_a_line_that_the_plane_has_in_another_month_differs() -> None:
    """Its entry says from which month on; a closed one puts it off."""
    rows = [one | {"month": "2026-12"} for one in ROWS]
    version, table = reading.table(file(rows))
    ((_, lines),) = recompute.batches(table, 64)
    places = recompute.places(table)
    used = recompute.usage(lines, KNOWN.known)
    assert recompute.held(version, lines, used, KNOWN, places) == []
    (found,) = recompute.held(version, lines, used, KNOWN, places, {2})
    assert (found.line, found.detail) == (2, "BillingPeriodStart")
    early = held(file([one | {"month": "2026-10"} for one in ROWS]))
    assert all("BillingPeriodStart" in one.detail and "InvoiceId" in one.detail for one in early)


def _reordered(data: bytes) -> bytes:
    lines = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(reversed(lines[0])), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(reversed(lines))
    return out.getvalue().encode()


SAVED: dict[str, Callable[[bytes], bytes]] = {
    "lines in another order, columns too, all quoted, CRLF": _reordered,
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "numbers without their last zeros": lambda data: data.replace(b"0.3000000000", b"0.3").replace(b".0000000000", b""),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_file_that_another_tool_saved_again_is_the_same(name: str) -> None:
    """Where it says the same."""
    saved = SAVED[name](written())
    assert saved != written()
    assert held(saved) == []


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "semicolons": (lambda data: data.replace(b",", b";"), "heading: its columns are parted by semicolons"),
    "a date as a spreadsheet has it": (
        lambda data: changed(data, 1, "ChargePeriodStart", "05.11.2026 09:59"),
        "line 2, ChargePeriodStart: want YYYY-MM-DDTHH:MM:SSZ",
    ),
    "a day that isn't": (
        lambda data: changed(data, 0, "ChargePeriodStart", "2026-02-30T00:00:00Z"),
        "line 1, ChargePeriodStart",
    ),
    "no month": (lambda data: changed(data, 0, "BillingPeriodStart", ""), "line 1, BillingPeriodStart: is empty"),
    "no job": (lambda data: changed(data, 1, "x_JobId", ""), "line 2, x_JobId: is empty"),
    "a column of somebody else's": (lambda data: data.replace(b"x_User", b"x_Person", 1), "heading"),
    "a column too many": (
        lambda data: b"".join(
            line + b",1\n" if n else line + b",x_Mine\n" for n, line in enumerate(data.split(b"\n")[:-1])
        ),
        "'x_Mine' is no column",
    ),
    "a column twice": (lambda data: data.replace(b"x_User", b"x_Team", 1), "'x_Team' is there twice"),
    "a line cut off": (lambda data: data[: data.rindex(b",")], "line 2, line: has 65 fields, not 66"),
    "a quotation that doesn't end": (
        lambda data: data.replace(b"\n80", b'\n"80').replace(b"\n0.3", b'\n"0.3'),
        "line 1",
    ),
    "no UTF-8": (lambda data: data.replace(b"plain", b"pl\xe4in"), "neither CSV nor Parquet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_isnt_ours_is_refused_with_the_place(name: str) -> None:
    """Whole: nothing of it is held."""
    change, told = REFUSED[name]
    data = change(written())
    assert data != written()
    with pytest.raises(FocusRefused) as refused:
        reading.table(data)
    assert told in str(refused.value)


def test_parquet_that_lost_something_is_refused_and_what_kept_its_values_is_read() -> None:
    """Binary fractions aren't amounts; larger texts and finer times are the same."""
    table = pq.read_table(io.BytesIO(written("parquet")))

    def saved(name: str, kind: pa.DataType) -> bytes:
        sink = io.BytesIO()
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, table[name].cast(kind)), sink)
        return sink.getvalue()

    assert held(saved("ChargePeriodStart", pa.timestamp("ns", "UTC"))) == []
    assert held(saved("x_User", pa.large_string())) == []
    with pytest.raises(FocusRefused, match="BilledCost: is double, which is not exact"):
        reading.table(saved("BilledCost", pa.float64()))
    with pytest.raises(FocusRefused, match="cut off"):
        reading.table(written("parquet")[:-100])


@pytest.mark.parametrize("wrong", ["NaN", "1" + "0" * 30, "1e3", "eighty", "Infinity", "1" + "0" * 15])
def test_a_number_that_is_none_is_refused_with_line_and_field(wrong: str) -> None:
    """And a file that isn't ours."""
    with pytest.raises(FocusRefused, match="line 2, BilledCost"):
        reading.table(changed(written(), 1, "BilledCost", wrong))
    for other in (b"", b"a,b\n1,2\n", b"PAR1junk", b"\xff\xfe"):
        with pytest.raises(FocusRefused):
            reading.table(other)
