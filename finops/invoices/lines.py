# SPDX-License-Identifier: Apache-2.0
"""An invoice's rows as lines that can be compared with charges (G7).

Contract: each line has an amount and a currency, and what else its columns say: whose task, which meter, how many of
which unit (in units of ours), from when to when. Amounts are exact: NaN, 10^15 and more, more than 20 decimals are
refused, and so is a negative amount in a line of usage. One invoice has one currency. A line of a kind that the mapping
calls `other`, or of another service, is read, and compared with nothing. A line of totals is no line: it must be what
the lines above it add up to, else it is refused. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Final

from msgspec import Struct

from finops import money
from finops.errors import AmountInvalid, InvoiceInvalid
from finops.facts import UNITS
from finops.invoices.mapping import OTHER, Kind, Mapping, several
from finops.invoices.table import Cells, Format, Row, rows

_ISO_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_MONTH_FIRST: Final = re.compile(r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})", re.ASCII)
_DAY_FIRST: Final = re.compile(r"(?P<day>\d{1,2})(?P<by>[./])(?P<month>\d{1,2})(?P=by)(?P<year>\d{4})", re.ASCII)
_AMOUNT: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_GROUPED: Final = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})*(\.[0-9]{1,40})?", re.ASCII)
_GROUPS: Final = {" ": " \u00a0\u202f", "'": "'\u2019"}
"""Other ways to write what groups digits: spaces that don't break a line, a typographer's apostrophe."""
_TOTAL: Final = re.compile(r"(grand |invoice |sub[ -]?)?totals?:?", re.IGNORECASE)
_TASK: Final = re.compile(r".*(job|task)[-_ ]?id", re.IGNORECASE)
DECIMALS: Final = 20
"""An invoice's: providers write sixteen, where a rate was multiplied as a float."""
_FINEST: Final = Decimal(1).scaleb(-DECIMALS)
_WIDE: Final = Context(prec=80)
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
                field=f"line {line.line}, {(*mapping.named('currency'), 'currency')[0]}",
            )
    return Invoice(tuple(found), currency)


def _read(table: Iterable[Row], mapping: Mapping) -> list[InvoiceLine]:
    found: list[InvoiceLine] = []
    for number, cells in table:
        one = _Reading(number, cells, mapping)
        try:
            line = one.line()
        except AmountInvalid as error:
            raise InvoiceInvalid(error.detail, field=error.field) from error
        if line.kind == "total":
            one.check_total(line.amount, money.total(above.amount for above in found))
        else:
            found.append(line)
    return found


class _Reading:
    """One row being read: each cell by our name of it, and where it stands for a refusal."""

    def __init__(self, number: int, cells: Cells, mapping: Mapping) -> None:
        self.number, self.mapping, self.cells = number, mapping, cells
        self.columns: dict[str, str] = {field: self._column(mapping.named(field), field) for field in mapping.columns}
        self.only = None if mapping.only is None else self._column(several(mapping.only.column), None)

    def _column(self, names: tuple[str, ...], field: str | None) -> str:
        """Under which of its names a column is there; the first where it is optional, and isn't."""
        found = next((name for name in names if name in self.cells), None)
        if found is None and field not in self.mapping.optional:
            told = " or ".join(names)
            raise InvoiceInvalid("the invoice has no such column", field=f"line {self.number}, {told}")
        return found or names[0]

    def check_total(self, told: Decimal, above: Decimal) -> None:
        """Raises InvoiceInvalid where a line of totals isn't what is above it: the file lacks lines, or has others."""
        if told != above:
            why = f"is a total of {money.text(told)}, and the lines above it add up to {money.text(above)}"
            raise self._refused("amount", why)

    def line(self) -> InvoiceLine:
        kind = self._kind()
        amount = self._amount(kind)
        unit_word, quantity, meter = self._cell("unit"), self._quantity(kind), None
        unit: str | None = None
        if kind not in (OTHER, "total"):
            meter = self._meter()
            if meter == OTHER:
                kind, meter = OTHER, None
            else:
                unit, quantity = self._unit(unit_word, quantity, meter)
        start, end = self._times()
        device = self._cell("device")
        return InvoiceLine(
            line=self.number,
            amount=amount,
            currency=self._currency() if kind != "total" else "",
            kind=kind,
            vendor_id=_task(self._cell("vendor_id")),
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
        column = self.columns.get(field)
        return self.cells.get(column, "").strip() or None if column is not None else None

    def _where(self, field: str) -> str:
        return f"line {self.number}, {self.columns.get(field, field)}"

    def _refused(self, field: str, why: str) -> InvoiceInvalid:
        return InvoiceInvalid(why, field=self._where(field))

    def _kind(self) -> Kind:
        only = self.mapping.only
        if self._is_total():
            return "total"
        if only is not None and self.only is not None:
            of = self.cells.get(self.only, "").strip().lower()
            if of not in {word.lower() for word in only.words}:
                return "other"
        word = self._cell("kind")
        if word is None:
            return "usage"
        kind = self.mapping.kind(word)
        if kind is None:
            raise self._refused("kind", f"an unknown kind of line: {word}")
        return kind  # type: ignore[return-value]

    def _is_total(self) -> bool:
        """Whether but for numbers and a currency the row says nothing save that it is the total."""
        numbers = {self.columns.get(field) for field in ("amount", "quantity", "currency")}
        told = [cell.strip() for name, cell in self.cells.items() if name not in numbers and cell.strip()]
        return len(told) == 1 and _TOTAL.fullmatch(told[0]) is not None

    def _amount(self, kind: Kind) -> Decimal:
        cell = self._cell("amount")
        if cell is None:
            raise self._refused("amount", "is empty")
        return self._signed("amount", cell, kind)

    def _signed(self, field: str, cell: str, kind: Kind) -> Decimal:
        """A number, negative only where the provider gives something back."""
        whole = self._number(field, cell)
        if abs(whole) >= money.CEILING:
            raise self._refused(field, "is 10^15 or more")
        if whole != whole.quantize(_FINEST, context=_WIDE):
            raise self._refused(field, f"has more than {DECIMALS} decimals")
        if whole < 0 and kind == "usage":
            raise self._refused(field, "is negative, and the line is neither credit, refund nor discount")
        return whole

    def _number(self, field: str, cell: str) -> Decimal:
        """A number as the mapping's example has it."""
        like = self.mapping.numbers
        plain, number = cell, _AMOUNT
        if like != "1234.56":
            groups, point = _GROUPS.get(like[1], like[1]), like[5]
            plain = "".join(
                "," if one in groups else "." if one == point else "?" if one in ".," else one for one in cell
            )
            number = _GROUPED if "," in plain else _AMOUNT
        if not number.fullmatch(plain):
            raise self._refused(field, f"want a decimal number like {like}: {cell[:60]}")
        return Decimal(plain.replace(",", ""))

    def _currency(self) -> str:
        cell = self._cell("currency")
        if cell is None and (cell := self.mapping.currency) is None:
            raise self._refused("currency", "is empty")
        return money.iso_4217(cell, self._where("currency"))

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
        if unit is None and meter is None:
            return None, quantity  # of what isn't said which meter it is, nothing but the amount is compared
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
        pattern, wanted = _DATES[self.mapping.dates]
        try:
            at, is_day = _moment(cell) if pattern is None else _day(cell, pattern)
        except (ValueError, OverflowError):
            raise self._refused(field, f"want {wanted}: {cell[:60]}") from None
        if not FIRST_YEAR <= at.year <= LAST_YEAR:
            raise self._refused(field, f"is in the year {at.year}")
        return at, is_day


def _task(cell: str | None) -> str | None:
    """The task's name; of a JSON object (Azure's AdditionalInfo) the one member that is a job's or task's id."""
    if cell is None or not cell.startswith("{"):
        return cell
    try:
        read = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    named = {value for key, value in read.items() if isinstance(value, str) and _TASK.fullmatch(key)}
    return named.pop() if len(named) == 1 else None


_DATES: Final = {
    "iso": (None, "a date or time as ISO 8601"),
    "month-first": (_MONTH_FIRST, "a date as MM/DD/YYYY"),
    "day-first": (_DAY_FIRST, "a date as DD.MM.YYYY or DD/MM/YYYY"),
}


def _day(cell: str, pattern: re.Pattern[str]) -> tuple[datetime, bool]:
    match = pattern.fullmatch(cell)
    if match is None:
        raise ValueError(cell)
    day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    return datetime.combine(day, time(), UTC), True


def _moment(cell: str) -> tuple[datetime, bool]:
    if _ISO_DAY.fullmatch(cell):
        return datetime.combine(date.fromisoformat(cell), time(), UTC), True
    if not _ISO.fullmatch(cell):
        raise ValueError(cell)
    at = datetime.fromisoformat(cell)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC), False
