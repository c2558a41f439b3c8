# SPDX-License-Identifier: Apache-2.0
"""An invoice's rows as lines that can be compared with charges (G7).

Contract: each line has an amount and a currency, and what else its columns say: whose task, which meter, how many of
which unit (in units of ours), from when to when. Amounts are exact: NaN, 10^15 and more, more than 12 decimals are
refused, and so is a negative amount in a line that is neither credit nor refund. One invoice has one currency. A line
of a kind that the mapping calls `other`, or of another service, is read, and compared with nothing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from msgspec import Struct

from finops import money
from finops.errors import AmountInvalid, InvoiceInvalid
from finops.facts import UNITS
from finops.invoices.mapping import Kind, Mapping
from finops.invoices.table import Format, Row, rows

_ISO_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_MONTH_FIRST: Final = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)
_AMOUNT: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
DAY: Final = timedelta(days=1)
FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2999


class InvoiceLine(Struct, frozen=True, kw_only=True):
    """One billed line; `line` is where it begins in the file. `end` is the first moment after."""

    line: int
    amount: Decimal
    currency: str
    kind: Kind = "usage"
    vendor_id: str | None = None
    job_id: str | None = None
    device: str | None = None
    meter: str | None = None
    quantity: Decimal | None = None
    unit: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    user: str | None = None


class Invoice(Struct, frozen=True):
    """A read invoice: at least one line, all in one currency."""

    lines: tuple[InvoiceLine, ...]
    currency: str


def read(data: bytes, form: Format, mapping: Mapping) -> Invoice:
    """The invoice of a file; raises InvoiceInvalid naming line and field."""
    found = _read(rows(data, form), mapping)
    if not found:
        raise InvoiceInvalid("has a header and no line")
    currency = found[0].currency
    for line in found:
        if line.currency != currency:
            raise InvoiceInvalid(
                f"is in {line.currency}, line {found[0].line} in {currency}: an invoice has one currency",
                field=f"line {line.line}, {mapping.columns.get('currency', 'currency')}",
            )
    return Invoice(tuple(found), currency)


def _read(table: Iterable[Row], mapping: Mapping) -> list[InvoiceLine]:
    found: list[InvoiceLine] = []
    for number, cells in table:
        for field, column in mapping.columns.items():
            if column not in cells and field not in mapping.optional:
                raise InvoiceInvalid("the invoice has no such column", field=f"line {number}, {column}")
        if mapping.only is not None and mapping.only.column not in cells:
            raise InvoiceInvalid("the invoice has no such column", field=f"line {number}, {mapping.only.column}")
        try:
            found.append(_Reading(number, cells, mapping).line())
        except AmountInvalid as error:
            raise InvoiceInvalid(error.detail, field=error.field) from error
    return found


class _Reading:
    """One row being read: each cell by our name of it, and where it stands for a refusal."""

    def __init__(self, number: int, cells: object, mapping: Mapping) -> None:
        self.number, self.mapping = number, mapping
        self.cells: dict[str, str] = dict(cells)  # type: ignore[call-overload]

    def line(self) -> InvoiceLine:
        kind = self._kind()
        amount = self._amount(kind)
        unit_word, quantity, meter = self._cell("unit"), self._quantity(kind), None
        unit: str | None = None
        if kind != "other":
            meter = self._meter()
            unit, quantity = self._unit(unit_word, quantity, meter)
        start, end = self._times()
        device = self._cell("device")
        return InvoiceLine(
            line=self.number,
            amount=amount,
            currency=self._currency(),
            kind=kind,
            vendor_id=self._cell("vendor_id"),
            job_id=self._cell("job_id"),
            device=None if device is None else self.mapping.device(device),
            meter=meter,
            quantity=quantity,
            unit=unit,
            start=start,
            end=end,
            user=self._cell("user"),
        )

    def _cell(self, field: str) -> str | None:
        column = self.mapping.columns.get(field)  # type: ignore[call-overload]
        return self.cells.get(column, "").strip() or None if column is not None else None

    def _where(self, field: str) -> str:
        return f"line {self.number}, {self.mapping.columns.get(field, field)}"  # type: ignore[call-overload]

    def _refused(self, field: str, why: str) -> InvoiceInvalid:
        return InvoiceInvalid(why, field=self._where(field))

    def _kind(self) -> Kind:
        only = self.mapping.only
        if only is not None and self.cells.get(only.column, "").strip().lower() not in {w.lower() for w in only.words}:
            return "other"
        word = self._cell("kind")
        if word is None:
            return "usage"
        kind = self.mapping.kind(word)
        if kind is None:
            raise self._refused("kind", f"an unknown kind of line: {word}")
        return kind  # type: ignore[return-value]

    def _amount(self, kind: Kind) -> Decimal:
        cell = self._cell("amount")
        if cell is None:
            raise self._refused("amount", "is empty")
        return self._signed("amount", cell, kind)

    def _signed(self, field: str, cell: str, kind: Kind) -> Decimal:
        """A number, negative only where the provider gives something back."""
        if not _AMOUNT.fullmatch(cell):
            raise self._refused(field, "want a decimal number")
        whole = Decimal(cell)
        money.check(abs(whole), self._where(field))
        if whole < 0 and kind == "usage":
            raise self._refused(field, "is negative, and the line is neither credit nor refund")
        return whole

    def _currency(self) -> str:
        cell = self._cell("currency")
        if cell is None and (cell := self.mapping.currency) is None:
            raise self._refused("currency", "is empty")
        return money.currency(cell, self._where("currency"))

    def _quantity(self, kind: Kind) -> Decimal | None:
        cell = self._cell("quantity")
        return None if cell is None else self._signed("quantity", cell, kind)

    def _meter(self) -> str | None:
        word = self._cell("meter")
        if word is None:
            return None
        meter = word if word in UNITS else self.mapping.meter(word)
        if meter is None:
            raise self._refused("meter", f"the mapping has no meter for it: {word[:100]}")
        return meter

    def _unit(self, word: str | None, quantity: Decimal | None, meter: str | None) -> tuple[str | None, Decimal | None]:
        """Unit and quantity in ours; an unknown unit, or one that isn't the meter's, is refused."""
        if word is None:
            return (None, quantity) if meter is None else (UNITS[meter], quantity)
        unit = self.mapping.unit(word)
        if unit is None:
            raise self._refused("unit", f"an unknown unit: {word[:100]}")
        if meter is not None and unit.unit != UNITS[meter]:
            raise self._refused("unit", f"{meter} is counted in {UNITS[meter]}, not {unit.unit}")
        if quantity is None:
            return unit.unit, None
        with money.exact():
            return unit.unit, quantity * Decimal(unit.factor)

    def _times(self) -> tuple[datetime | None, datetime | None]:
        start, start_is_day = self._time("start")
        end, end_is_day = self._time("end")
        if start is None or end is None:
            at = start or end
            if at is None:
                return None, None
            return at, at + DAY if start_is_day or end_is_day else at
        if end_is_day and end == start:
            end = end + DAY
        if end < start:
            raise self._refused("end", "is before the start")
        return start, end

    def _time(self, field: str) -> tuple[datetime | None, bool]:
        """A moment, and whether only its day was told."""
        cell = self._cell(field)
        if cell is None:
            return None, False
        wanted = "a date or time as ISO 8601" if self.mapping.dates == "iso" else "a date as MM/DD/YYYY"
        try:
            at, is_day = _moment(cell, month_first=self.mapping.dates == "month-first")
        except (ValueError, OverflowError):
            raise self._refused(field, f"want {wanted}") from None
        if not FIRST_YEAR <= at.year <= LAST_YEAR:
            raise self._refused(field, f"is in the year {at.year}")
        return at, is_day


def _moment(cell: str, *, month_first: bool) -> tuple[datetime, bool]:
    if month_first:
        match = _MONTH_FIRST.fullmatch(cell)
        if match is None:
            raise ValueError(cell)
        return datetime.combine(date(int(match[3]), int(match[1]), int(match[2])), time(), UTC), True
    if _ISO_DAY.fullmatch(cell):
        return datetime.combine(date.fromisoformat(cell), time(), UTC), True
    if not _ISO.fullmatch(cell):
        raise ValueError(cell)
    at = datetime.fromisoformat(cell)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC), False
