# SPDX-License-Identifier: Apache-2.0
"""Charged lines: what an entry says was charged, and the rows that this makes (G6, G7, I6).

Contract: member `charge` of an entry's body is one section, member `charges` a list of them where an entry tells of
several (a shared cost that is split); each has its lines and what they are of: job, project, cost centre, person by
pseudonym, backend, times. `rows` gives the rows of an entry, numbered over all of its sections, in the order told. A
line's `amount` is text, exact, negative only where its category isn't `usage`. An entry without these members charges
nothing: those of earlier releases have none.

A line counts in the UTC month of its entry, or in the first open one after it where that month is closed: `month_of`,
as `finops.open_month` in the database. Pure: no clock, randomness, socket or database.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from finops import money
from finops.errors import AmountInvalid, BooksInconsistent
from finops.facts import Fact, Source
from finops.rates import Charge

Category: TypeAlias = Literal["usage", "credit", "correction", "refund", "shared"]
CATEGORIES: Final[tuple[str, ...]] = get_args(Category)


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """One charged line; a usage has all of them, anything else an amount at least."""

    amount: str
    meter: str | None = None
    quantity: str | None = None
    unit: str | None = None
    rate: str | None = None
    source: Source | None = None
    by: str | None = None


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lines of one job, or of one credit, and what they are of; times as the ledger writes them.

    `ended_at` is null where nobody knows how the job ended.
    """

    lines: tuple[Line, ...]
    currency: str
    category: Category = "usage"
    job_id: str | None = None
    project: str | None = None
    cost_center: str | None = None
    team: str | None = None
    pseudonym: str | None = None
    purpose: str | None = None
    classification: str | None = None
    provider: str | None = None
    backend: str | None = None
    region: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    rate_card: str | None = None

    def body(self) -> dict[str, Any]:
        """The section as canonical JSON values."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body

    @property
    def amount(self) -> Decimal:
        """The exact sum of its lines."""
        return money.total(Decimal(line.amount) for line in self.lines)


class Charged(Struct, frozen=True, kw_only=True):
    """One row of `finops.charge`, but for its tenant. Times are aware."""

    entry_id: str
    line: int
    category: str
    month: str
    charged_at: datetime
    job_id: str | None
    project: str | None
    cost_center: str | None
    team: str | None
    pseudonym: str | None
    purpose: str | None
    classification: str | None
    provider: str | None
    backend: str | None
    region: str | None
    started_at: datetime | None
    ended_at: datetime | None
    meter: str | None
    quantity: Decimal | None
    unit: str | None
    rate: Decimal | None
    amount: Decimal
    currency: str
    source: str | None
    reporter: str | None
    rate_card: str | None


FIELDS: Final[tuple[str, ...]] = Charged.__struct_fields__


def lines(charge: Charge, facts: Iterable[Fact]) -> tuple[Line, ...]:
    """The lines of a job's charge; each is reported by whom its meter's fact names, else by the rate card."""
    by = {fact.meter: fact.by for fact in facts}
    return tuple(
        Line(
            meter=line.meter,
            quantity=money.text(line.quantity),
            unit=line.unit,
            rate=money.text(line.rate),
            amount=money.text(line.amount),
            source=line.source,
            by=by.get(line.meter, "rate_card"),
        )
        for line in charge.lines
    )


def sections(body: dict[str, Any]) -> tuple[Section, ...]:
    """What an entry's body says was charged; raises BooksInconsistent where it can't be read."""
    told = ([body["charge"]] if "charge" in body else []) + list(body.get("charges", ()))
    try:
        return tuple(msgspec.convert(one, Section) for one in told)
    except msgspec.ValidationError as error:
        raise BooksInconsistent(str(error), field="charge") from error


def rows(
    entry_id: str, at: datetime, told: Iterable[Section], closed: Collection[str] = frozenset()
) -> tuple[Charged, ...]:
    """The rows of an entry of this moment; raises BooksInconsistent where a line isn't what a charge may be."""
    month = month_of(at, closed)
    found: list[Charged] = []
    try:
        for section in told:
            found += [
                Charged(
                    entry_id=entry_id,
                    line=number,
                    category=section.category,
                    month=month,
                    charged_at=at,
                    job_id=section.job_id,
                    project=section.project,
                    cost_center=section.cost_center,
                    team=section.team,
                    pseudonym=section.pseudonym,
                    purpose=section.purpose,
                    classification=section.classification,
                    provider=section.provider,
                    backend=section.backend,
                    region=section.region,
                    started_at=_time(section.started_at),
                    ended_at=_time(section.ended_at),
                    meter=line.meter,
                    quantity=None if line.quantity is None else money.parse(line.quantity, "quantity"),
                    unit=line.unit,
                    rate=None if line.rate is None else money.parse(line.rate, "rate"),
                    amount=_amount(line.amount, section.category),
                    currency=money.currency(section.currency),
                    source=line.source,
                    reporter=line.by,
                    rate_card=section.rate_card,
                )
                for number, line in enumerate(section.lines, len(found))
            ]
    except (AmountInvalid, ValueError) as error:
        raise BooksInconsistent(str(error), field="charge") from error
    return tuple(found)


def month_of(at: datetime, closed: Collection[str] = frozenset()) -> str:
    """The UTC month of a moment, `YYYY-MM`, or the first one after it that isn't closed."""
    day = at.astimezone(UTC)
    year, month = day.year, day.month
    while (name := f"{year:04}-{month:02}") in closed:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return name


def document(row: Charged) -> list[Any]:
    """The row as plain values, in the order of `FIELDS`; `restored` reads it back."""
    return [_plain(getattr(row, name)) for name in FIELDS]


def restored(document: list[Any]) -> Charged:
    """The row of such a document."""
    return msgspec.convert(dict(zip(FIELDS, document, strict=True)), Charged)


def differences(rows: dict[str, tuple[Charged, ...]], folded: dict[str, tuple[Charged, ...]]) -> list[str]:
    """What rows and ledger say otherwise of charges, by entry, a line each: a missing, an added or a changed row."""
    found: list[str] = []
    for entry_id in sorted(rows.keys() | folded.keys()):
        stored = {row.line: row for row in rows.get(entry_id, ())}
        told = {row.line: row for row in folded.get(entry_id, ())}
        for line in sorted(stored.keys() | told.keys()):
            row, entry = stored.get(line), told.get(line)
            if row == entry:
                continue
            if row is None or entry is None:
                said = "told by the entry, no row" if row is None else "a row that no entry tells of"
            else:
                names = [name for name in FIELDS if getattr(row, name) != getattr(entry, name)]
                said = "; ".join(
                    f"{name} {_plain(getattr(row, name))}, ledger {_plain(getattr(entry, name))}" for name in names
                )
            found.append(f"charge {entry_id} line {line}: {said}")
    return found


def _amount(text: str, category: str) -> Decimal:
    if category == "usage" or not text.startswith("-"):
        return money.parse(text, "amount")
    return -money.parse(text[1:], "amount")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC)


def _plain(value: object) -> Any:
    match value:
        case Decimal():
            return money.text(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds")
        case _:
            return value
