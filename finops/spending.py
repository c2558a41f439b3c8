# SPDX-License-Identifier: Apache-2.0
"""What was spent, by whatever a charged line is of: periods, dimensions, and the figures of one group (G7).

Contract: `gross` is what was used and what was shared out, `credits` what was taken back (credits, corrections and
refunds, as a rule below zero), `spend` their sum; amounts are exact and of one currency. A job counts once, where it
was charged; `completed` are those that ended with a result. A figure that nothing stands behind is None, never zero.
Pure: no clock, randomness, socket or database.
"""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from msgspec import Struct

from finops import money
from finops.errors import PeriodInvalid

MAX_DIMENSIONS: Final = 4
MONTHS_SHOWN: Final = 12
_RATIO: Final = Context(prec=40)
_MILLIONTH: Final = Decimal("0.000001")
_MONTHS: Final = 12


class Period(Struct, frozen=True):
    """Months in which lines count, both included, and moments at which they were charged, [since, until).

    Whatever is None bounds nothing.
    """

    first: str | None = None
    last: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Spend(Struct, frozen=True):
    """One group of lines; `whole` is the spend of all groups in its currency."""

    of: dict[str, str | None]
    currency: str
    spend: Decimal
    gross: Decimal
    credits: Decimal
    jobs: int
    completed: int
    whole: Decimal
    quantity: Decimal | None = None
    unit: str | None = None

    def record(self) -> dict[str, Any]:
        """The group as JSON values."""
        shown: dict[str, Any] = {
            **self.of,
            "currency": self.currency,
            "spend": money.text(self.spend),
            "gross": money.text(self.gross),
            "credits": money.text(self.credits),
            "share": _ratio(self.spend, self.whole),
            "jobs": self.jobs,
            "completed": self.completed,
            "cost_per_completed_job": _each(self.spend, self.completed),
        }
        if "meter" in self.of:
            shown |= {"quantity": None if self.quantity is None else money.text(self.quantity), "unit": self.unit}
        return shown


class Move(Struct, frozen=True):
    """One group in a period and in the one before."""

    of: dict[str, str | None]
    currency: str
    spend: Decimal
    before: Decimal

    def record(self) -> dict[str, Any]:
        """The move as JSON values; a group that cost nothing before has no per cent."""
        change = money.total((self.spend, -self.before))
        ratio = _ratio(change, self.before)
        return {
            **self.of,
            "currency": self.currency,
            "spend": money.text(self.spend),
            "before": money.text(self.before),
            "change": money.text(change),
            "change_percent": None if ratio is None else round(100 * ratio, 4),
        }


def period(month: str | None, since: str | None, until: str | None, now: datetime, *, by_month: bool = False) -> Period:
    """The period that was asked for; raises PeriodInvalid, naming the field.

    Without any the month that runs, or by month the last twelve. `since` and `until` are days or moments, in UTC.
    """
    if month is not None:
        if since is not None or until is not None:
            raise PeriodInvalid("want a month, or since and until", field="month")
        return Period(_month(month), month)
    if since is None and until is None:
        running = f"{now.astimezone(UTC):%Y-%m}"
        return Period(_months_before(running, MONTHS_SHOWN - 1) if by_month else running, running)
    begins, ends = span(since, until)
    return Period(since=begins, until=ends)


def before(asked: Period, now: datetime) -> Period:
    """The period before, equally long; of a month that runs, as much of the one before as has passed of it.

    Raises PeriodInvalid for one without a beginning.
    """
    if asked.first is not None and asked.last is not None:
        length = _number(asked.last) - _number(asked.first) + 1
        earlier = Period(_months_before(asked.first, length), _months_before(asked.last, length))
        if asked.last != f"{now.astimezone(UTC):%Y-%m}":
            return earlier
        passed = now - _moment_of(asked.last)
        return Period(earlier.first, earlier.last, until=_moment_of(_months_before(asked.last, length)) + passed)
    if asked.since is None:
        raise PeriodInvalid("what changed is seen against a period before: want a beginning", field="since")
    until = now if asked.until is None else asked.until
    if until <= asked.since:
        raise PeriodInvalid("has not begun", field="since")
    try:
        return Period(since=asked.since - (until - asked.since), until=asked.since)
    except OverflowError:
        raise PeriodInvalid("there is no time before it as long", field="since") from None


def _month(text: str) -> str:
    try:
        date.fromisoformat(f"{text}-01")
    except ValueError:
        raise PeriodInvalid("want YYYY-MM", field="month") from None
    return text


def span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Two days or moments, in UTC; raises PeriodInvalid, naming the field."""
    begins, ends = moment(since, "since"), moment(until, "until")
    if begins is not None and ends is not None and ends <= begins:
        raise PeriodInvalid("ends before it begins", field="until")
    return begins, ends


def moment(text: str | None, field: str) -> datetime | None:
    """A day or a moment with its zone, in UTC; raises PeriodInvalid, naming the field."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            if len(text) > len("2026-11-22"):
                raise PeriodInvalid("want the moment's zone, such as Z", field=field)
            at = at.replace(tzinfo=UTC)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise PeriodInvalid("want a day, YYYY-MM-DD, or a moment with its zone", field=field) from None


def _number(month: str) -> int:
    return int(month[:4]) * _MONTHS + int(month[5:]) - 1


def _months_before(month: str, many: int) -> str:
    year, number = divmod(max(_number(month) - many, _MONTHS), _MONTHS)
    return f"{year:04}-{number + 1:02}"


def _moment_of(month: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)


def _ratio(part: Decimal, whole: Decimal) -> float | None:
    if not whole:
        return None
    return float(_RATIO.divide(part, whole).quantize(_MILLIONTH, ROUND_HALF_EVEN, _RATIO))


def _each(amount: Decimal, many: int) -> str | None:
    # What one of many costs is a figure and no amount that anybody is charged: it is rounded.
    if not many:
        return None
    return money.text(_RATIO.divide(amount, Decimal(many)).quantize(_MILLIONTH, ROUND_HALF_EVEN, _RATIO))
