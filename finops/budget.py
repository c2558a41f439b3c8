# SPDX-License-Identifier: Apache-2.0
"""Budgets: scopes, periods and their windows, and the balance algebra.

Contract: money behaves like a card (decision 6). A hold reserves the most that a job can cost; settling it
captures what it did cost and releases the rest; a capture above the hold is an overrun, recorded and counted,
never hidden. A hold and its settlement count in the window of the moment when the hold was made, so a job
over midnight has one month.

A budget counts money, or, as a quota, shots or jobs: its unit is a currency, `shots` or `jobs`. A hard one stops what
doesn't fit; a soft and an advisory one count and stop nothing. The period `concurrent`, of quotas alone, counts what is
held at one moment: nothing is ever captured in it.

Pure: no clock, randomness, socket or database. Not here: alerts, currency exchange.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct, structs

from finops import money
from finops.errors import BudgetInvalid
from finops.money import ZERO

Mode: TypeAlias = Literal["hard", "soft", "advisory"]
Counts: TypeAlias = Literal["money", "shots", "jobs"]

SCOPES: Final = ("tenant", "project", "cost_center", "user", "workflow", "session", "provider")
QUOTAS: Final = ("shots", "jobs")
MODES: Final[tuple[str, ...]] = get_args(Mode)
THRESHOLDS: Final = (80, 100)
MAX_THRESHOLDS: Final = 16
MAX_ROLLING_DAYS: Final = 3660
MAX_PER_CENT: Final = 1000
ONE: Final = Decimal(1)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]*", re.ASCII)  # what a spec may call a project, and all else
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(@[a-z0-9][a-z0-9._-]*)?", re.ASCII)
_ROLLING = re.compile(r"rolling:([1-9][0-9]{0,3})", re.ASCII)


class Scope(Struct, frozen=True):
    """What a budget is for, written `kind:NAME`."""

    kind: str
    name: str

    def __str__(self) -> str:
        """The text that `parse_scope` reads."""
        return f"{self.kind}:{self.name}"


class Period(Struct, frozen=True):
    """When a budget begins anew: each UTC month or quarter, never (`total`), with each moment (`concurrent`); or it is
    of the last `days` UTC days.
    """

    kind: Literal["monthly", "quarterly", "total", "rolling", "concurrent"]
    days: int | None = None

    def __str__(self) -> str:
        """The text that `parse_period` reads."""
        return self.kind if self.days is None else f"{self.kind}:{self.days}"


class Windows(Struct, frozen=True):
    """The window of each kind of period at one moment; a rolling budget sums windows of one day."""

    monthly: str
    quarterly: str
    rolling: str
    total: str = "all"
    concurrent: str = "now"

    def of(self, period: str) -> str:
        """The window of a period, as `parse_period` reads it."""
        return str(getattr(self, period.partition(":")[0]))


class Balance(Struct, frozen=True):
    """One window of one budget: what is held and what was captured."""

    held: Decimal = ZERO
    captured: Decimal = ZERO

    def hold(self, amount: Decimal) -> "Balance":
        """The balance with the amount reserved."""
        return Balance(money.total((self.held, amount)), self.captured)

    def settle(self, held: Decimal, captured: Decimal) -> "Balance":
        """The balance after a hold of `held` ended in a charge of `captured`."""
        return Balance(money.total((self.held, -held)), money.total((self.captured, captured)))


class BudgetView(Struct, frozen=True):
    """One budget in the window of a moment; a rolling budget's figures are the sums over its days."""

    budget_id: str
    scope: str
    period: str
    window: str
    limit: Decimal
    held: Decimal
    captured: Decimal
    currency: str
    mode: Mode = "hard"
    thresholds: tuple[int, ...] = THRESHOLDS
    notify: tuple[str, ...] | None = None
    """The channels that its alerts go to, where it names any; only `show` reads them."""
    asked: Decimal | None = None
    """What the hold that was refused would have taken; None where none was."""

    @property
    def counts(self) -> Counts:
        """What is counted, by the unit."""
        return counts(self.currency)

    @property
    def available(self) -> Decimal:
        """What a hold may still take; negative after an overrun or a lowered limit."""
        return money.total((self.limit, -self.held, -self.captured))

    def refused(self, asked: Decimal) -> "BudgetView":
        """The budget as a refusal has it, of a hold that would have taken so much."""
        return structs.replace(self, asked=asked)

    def record(self) -> dict[str, str]:
        """The budget as `budget show` prints it, and as a refusal names it: then with what was asked."""
        amounts = {name: money.text(getattr(self, name)) for name in ("limit", "held", "captured", "available")}
        asked = {} if self.asked is None else {"asked": money.text(self.asked)}
        return {"scope": self.scope, "period": self.period, **amounts, "currency": self.currency} | asked

    def refusal(self) -> str:
        """Why the hold was refused, in words."""
        asked, left = money.text(self.asked or ZERO), money.text(self.available)
        return (
            f"{self.scope} ({self.period}) has {left} {self.currency} left of {money.text(self.limit)}, {asked} asked"
        )


class Settlement(Struct, frozen=True):
    """How a hold ended: hold + overrun = captured + released, and not both overrun and released."""

    captured: Decimal
    released: Decimal
    overrun: Decimal

    @property
    def held(self) -> Decimal:
        """The hold that this settlement ended."""
        return money.total((self.captured, self.released, -self.overrun))


def settlement(held: Decimal, capture: Decimal) -> Settlement:
    """Split a hold by what was really charged."""
    money.check(capture, "capture")
    rest = money.total((held, -capture))
    return Settlement(capture, max(rest, ZERO), max(-rest, ZERO))


def counts(unit: str) -> Counts:
    """What a budget of this unit counts."""
    match unit:
        case "shots" | "jobs":
            return unit
        case _:
            return "money"


def share(unit: str, amount: Decimal, shots: Decimal, jobs: Decimal = ONE) -> Decimal:
    """What a hold, or its settlement, counts in a budget of this unit."""
    return {"money": amount, "shots": shots, "jobs": jobs}[counts(unit)]


def in_reach(mode: str, unit: str, currency: str) -> bool:
    """Whether a budget has to do with a hold in this currency. Nothing is converted: a hard one in another refuses it,
    a soft or advisory one, which stops nothing, doesn't count it.
    """
    return mode == "hard" or counts(unit) != "money" or unit == currency


def parse_unit(text: object, period: Period, amount: Decimal) -> str:
    """Read a currency code, `shots` or `jobs`; raises BudgetInvalid or AmountInvalid where the rest is against it."""
    if text not in QUOTAS:
        if period.kind == "concurrent":
            raise BudgetInvalid("concurrent counts shots or jobs, no money", field="period")
        return money.iso_4217(text, "currency")
    if amount != amount.to_integral_value():
        raise BudgetInvalid(f"{text} are counted whole", field="amount")
    return str(text)


def parse_mode(text: str) -> Mode:
    """Read `hard`, `soft` or `advisory`; raises BudgetInvalid."""
    match text:
        case "hard" | "soft" | "advisory":
            return text
    raise BudgetInvalid(f"want {', '.join(MODES)}", field="mode")


def parse_thresholds(per_cents: Iterable[int]) -> tuple[int, ...]:
    """Read per cents of a limit, each once and ascending; none is allowed. Raises BudgetInvalid."""
    found = tuple(per_cents)
    if len(found) > MAX_THRESHOLDS or not all(1 <= one <= MAX_PER_CENT for one in found):
        raise BudgetInvalid(
            f"want at most {MAX_THRESHOLDS} whole per cents from 1 to {MAX_PER_CENT}", field="thresholds"
        )
    if any(one >= then for one, then in pairwise(found)):
        raise BudgetInvalid("want per cents that ascend", field="thresholds")
    return found


def parse_scope(text: str) -> Scope:
    """Read `kind:NAME` where the kind is one of `SCOPES`; raises BudgetInvalid."""
    kind, _, name = text.partition(":")
    if kind not in SCOPES:
        raise BudgetInvalid(f"want one of {', '.join(SCOPES)}, then a colon and a name", field="scope")
    if not 1 <= len(name) <= 128 or name != name.strip() or not name.isprintable():
        raise BudgetInvalid("want a name of 1 to 128 printable characters", field="scope")
    return Scope(kind, name)


def nameable(scope: Scope) -> bool:
    """Whether a job could ever touch a budget of this scope. Which tenant there is, others say."""
    wanted = _USER if scope.kind == "user" else _NAME
    return scope.kind == "tenant" or wanted.fullmatch(scope.name) is not None


def parse_period(text: str) -> Period:
    """Read `monthly`, `quarterly`, `total`, `concurrent` or `rolling:DAYS`; raises BudgetInvalid."""
    match text:
        case "monthly" | "quarterly" | "total" | "concurrent":
            return Period(text)
    rolling = _ROLLING.fullmatch(text)
    if rolling is None or int(rolling[1]) > MAX_ROLLING_DAYS:
        known = f"monthly, quarterly, total, concurrent or rolling:DAYS up to {MAX_ROLLING_DAYS}"
        raise BudgetInvalid(f"want {known}", field="period")
    return Period("rolling", int(rolling[1]))


def windows(at: datetime) -> Windows:
    """The windows of a moment, by the UTC calendar; `at` must be aware."""
    if at.tzinfo is None:
        raise BudgetInvalid("want a time with its zone", field="at")
    day = at.astimezone(UTC)
    quarter = (day.month + 2) // 3
    return Windows(f"{day.year:04}-{day.month:02}", f"{day.year:04}-Q{quarter}", f"{day:%Y-%m-%d}")
