# SPDX-License-Identifier: Apache-2.0
"""Rate cards: prices as data, the most a job can cost, and what it did cost.

Contract: a card is JSON with a version, effective dates, one currency, the source of its prices and that
source's date, a stated precision and rounding, and for each provider and device a rate a meter. `hash` is
SHA-256 over its canonical JSON (RFC 8785; the card holds only strings, integers and null), so a bill that
names it can be recomputed.

- `upper_bound` is never below `charge` for work that stays within the executions and the deadline it was
  given.
- `charge` writes one line for each priced meter that has a fact, each rounded as the card says; the amount is
  the exact sum of the lines. Facts without a price cost nothing and stay facts.
- No price, or no bound for one, raises UnknownPrice: nothing is ever free by omission.

Not here: tiers, minima, provider credits, currency exchange. Pure: no clock, randomness, socket or database.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from finops import money
from finops.errors import AmountInvalid, RateCardInvalid, UnknownPrice
from finops.facts import UNITS, Fact, Source, by_meter
from finops.money import Money

MAX_CARD_BYTES: Final = 1_000_000
ANY_DEVICE: Final = "*"

_ROUNDING: Final = {"half_even": ROUND_HALF_EVEN, "half_up": ROUND_HALF_UP}
_PRECISIONS: Final = frozenset(money.text(Decimal(1).scaleb(-places)) for places in range(money.DECIMALS + 1))
# What a job can use of these is bounded by what it asked for; any other priced meter needs a `cap`.
_BOUND_BY_DEADLINE: Final = ("simulator_seconds", "qpu_seconds")
_BOUNDED: Final = frozenset({"tasks", "shots", *_BOUND_BY_DEADLINE})
_ROUNDER: Final = Context(prec=80)
_NOTHING: Final[Mapping[str, Decimal]] = {}

_Text = Annotated[str, Meta(min_length=1, max_length=500)]
_Revision = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Price of one unit of a meter; at most `cap` units of it are billed a task (null: no cap)."""

    meter: str
    unit: str
    rate: str
    cap: str | None = None


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """The rates of one provider's device; device "*" is every device without a price of its own."""

    provider: _Text
    device: _Text
    meters: Annotated[tuple[Rate, ...], Meta(min_length=1)]


class Card(Struct, frozen=True, forbid_unknown_fields=True):
    """The card's JSON, version 1. Dates begin at 00:00 UTC; `effective_until` is the first day after."""

    version: Literal[1]
    name: _Text
    revision: _Revision
    currency: str
    source: _Text
    source_date: str
    effective_from: str
    precision: str
    rounding: Literal["half_even", "half_up"]
    prices: Annotated[tuple[Price, ...], Meta(min_length=1)]
    effective_until: str | None = None


class RateCard(Struct, frozen=True):
    """A checked card: its document, the canonical bytes that `hash` covers, and when it holds (aware UTC)."""

    card: Card
    document: bytes
    hash: str
    effective_from: datetime
    effective_until: datetime | None

    @property
    def currency(self) -> str:
        """The one currency of all its prices."""
        return self.card.currency

    def in_force(self, at: datetime) -> bool:
        """Whether the card's dates cover the moment."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)

    def rates(self, provider: str, device: str, sku: str | None = None) -> tuple[Rate, ...]:
        """The rates of a device: its own, else what it is sold as, else the provider's "*"; raises UnknownPrice."""
        found = {price.device: price.meters for price in self.card.prices if price.provider == provider}
        rates = found.get(device) or found.get(sku or ANY_DEVICE) or found.get(ANY_DEVICE)
        if rates is None:
            raise UnknownPrice(f"card {self.card.name} has no price for {provider} {device}", field="provider")
        return rates


class ChargeLine(Struct, frozen=True):
    """One charged meter: `amount` is the billed `quantity` × `rate`, rounded as the card says."""

    meter: str
    quantity: Decimal
    unit: str
    rate: Decimal
    amount: Decimal
    source: Source


class Charge(Struct, frozen=True):
    """What a job costs by one card; `unmeasured` names priced meters that had no fact and so no line."""

    lines: tuple[ChargeLine, ...]
    amount: Decimal
    currency: str
    card_hash: str
    unmeasured: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """The evidence's `cost` record as canonical JSON values."""
        lines = [
            {
                "meter": line.meter,
                "quantity": money.text(line.quantity),
                "unit": line.unit,
                "rate": money.text(line.rate),
                "amount": money.text(line.amount),
                "source": line.source,
            }
            for line in self.lines
        ]
        amount = money.text(self.amount)
        return {"amount": amount, "currency": self.currency, "rate_card": self.card_hash, "lines": lines}


def parse_card(data: bytes) -> RateCard:
    """Read and check a card; raises RateCardInvalid with the path of the field at fault."""
    if len(data) > MAX_CARD_BYTES:
        raise RateCardInvalid(f"larger than {MAX_CARD_BYTES} bytes")
    try:
        card = msgspec.json.decode(data, type=Card)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        detail, _, path = str(error).partition(" - at ")
        raise RateCardInvalid(detail, field=path.strip("`") or None) from error
    begins, ends = _check_head(card)
    _check_prices(card)
    document = msgspec.json.encode(card, order="sorted")
    return RateCard(card, document, "sha256:" + hashlib.sha256(document).hexdigest(), begins, ends)


def upper_bound(
    card: RateCard,
    provider: str,
    device: str,
    executions: int,
    deadline_s: Decimal | float,
    tasks: int = 1,
    sku: str | None = None,
    known: Mapping[str, Decimal] = _NOTHING,
) -> Money:
    """The most that `executions` shots in `tasks` tasks of `deadline_s` seconds each can cost, rounded up.

    `known` has the most of other meters, where the caller has one below their caps. Raises UnknownPrice, or
    AmountInvalid for a count or deadline out of range.
    """
    count = money.check(Decimal(tasks), "tasks")
    shots = money.check(Decimal(executions), "executions")
    seconds = money.measured(deadline_s, "deadline_s")
    amount = money.ZERO
    with money.exact():
        most = {**known, "tasks": count, "shots": shots} | dict.fromkeys(_BOUND_BY_DEADLINE, count * seconds)
        for rate in card.rates(provider, device, sku):
            # A meter that nobody bounds has a cap: `parse_card` saw to it.
            quantity = _billed(rate, most.get(rate.meter), count)
            amount += _rounded(quantity * Decimal(rate.rate), card.card.precision, ROUND_CEILING)
    return Money(money.check(amount, "price"), card.currency)


def charge(
    card: RateCard, provider: str, facts: Iterable[Fact], device: str = ANY_DEVICE, sku: str | None = None
) -> Charge:
    """What the facts cost on the provider's device; raises UnknownPrice, FactInvalid or AmountInvalid."""
    measured = by_meter(facts)
    tasks = measured["tasks"].quantity if "tasks" in measured else Decimal(1)
    lines: list[ChargeLine] = []
    unmeasured: list[str] = []
    with money.exact():
        for rate in card.rates(provider, device, sku):
            fact = measured.get(rate.meter)
            if fact is None:
                unmeasured.append(rate.meter)
                continue
            quantity = _billed(rate, fact.quantity, tasks)
            price = Decimal(rate.rate)
            amount = _rounded(quantity * price, card.card.precision, _ROUNDING[card.card.rounding])
            lines.append(ChargeLine(rate.meter, quantity, rate.unit, price, amount, fact.source))
    amount = money.check(money.total(line.amount for line in lines), "amount")
    return Charge(tuple(lines), amount, card.currency, card.hash, tuple(unmeasured))


def _billed(rate: Rate, quantity: Decimal | None, tasks: Decimal) -> Decimal:
    """What is billed: at most the rate's cap a task, and a job has one task at least."""
    if rate.cap is None:
        if quantity is None:
            raise UnknownPrice("has neither a bound nor a cap", field=rate.meter)
        return quantity
    cap = Decimal(rate.cap) * max(tasks, Decimal(1))
    return cap if quantity is None else min(quantity, cap)


def _rounded(amount: Decimal, precision: str, rounding: str) -> Decimal:
    # The one place where money loses digits, on purpose and as the card states: outside the exact context.
    return amount.quantize(Decimal(precision), rounding=rounding, context=_ROUNDER)


def _check_head(card: Card) -> tuple[datetime, datetime | None]:
    try:
        money.currency(card.currency)
    except AmountInvalid as error:
        raise RateCardInvalid(error.detail, field="$.currency") from error
    if card.precision not in _PRECISIONS:
        raise RateCardInvalid("want 1, 0.1, … with at most 12 decimals", field="$.precision")
    _day(card.source_date, "$.source_date")
    begins = _day(card.effective_from, "$.effective_from")
    if card.effective_until is None:
        return begins, None
    ends = _day(card.effective_until, "$.effective_until")
    if ends <= begins:
        raise RateCardInvalid("ends before it begins", field="$.effective_until")
    return begins, ends


def _check_prices(card: Card) -> None:
    devices: set[tuple[str, str]] = set()
    for number, price in enumerate(card.prices):
        path = f"$.prices[{number}]"
        if (price.provider, price.device) in devices:
            raise RateCardInvalid(f"a second price for {price.provider} {price.device}", field=path)
        devices.add((price.provider, price.device))
        meters: set[str] = set()
        for position, rate in enumerate(price.meters):
            _check_rate(rate, f"{path}.meters[{position}]")
            if rate.meter in meters:
                raise RateCardInvalid(f"a second rate for {rate.meter}", field=f"{path}.meters[{position}]")
            meters.add(rate.meter)


def _check_rate(rate: Rate, path: str) -> None:
    unit = UNITS.get(rate.meter)
    if unit is None:
        raise RateCardInvalid(f"no such meter: {rate.meter}", field=f"{path}.meter")
    if rate.unit != unit:
        raise RateCardInvalid(f"{rate.meter} is counted in {unit}, not {rate.unit}", field=f"{path}.unit")
    try:
        money.parse(rate.rate, f"{path}.rate")
        if rate.cap is not None:
            money.parse(rate.cap, f"{path}.cap")
    except AmountInvalid as error:
        raise RateCardInvalid(error.detail, field=error.field) from error
    if rate.cap is None and rate.meter not in _BOUNDED:
        raise RateCardInvalid(f"nothing bounds {rate.meter}: its rate needs a cap", field=f"{path}.cap")


def _day(text: str, path: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise RateCardInvalid("want a date, YYYY-MM-DD", field=path) from None
    if day.isoformat() != text:  # fromisoformat reads other spellings too; a card has one
        raise RateCardInvalid("want a date, YYYY-MM-DD", field=path)
    return datetime.combine(day, time(), UTC)
