# SPDX-License-Identifier: Apache-2.0
"""Rate cards: the JSON of both versions, and what a checked card says.

A card is prices as data: a name and its revision, effective dates, one currency, the source of its prices and that
source's date, a stated precision and rounding. Version 1 has a rate a meter. Version 2 has lines, each of them
`quantity × rate = amount`, and no language beside these forms:

- `quantity`: what the line counts, a sum of so much `each` so many `of` a meter (`per` 5000 of them, or each one; of
  "job": once). Absent, it is the meter itself. A factor is a fraction, and so exact: 1/5000 and 1/3600 alike; the sum
  is rounded once, to 12 decimals.
- `increment`: how the quantity is rounded to whole increments, before its limits: "up" bills each that was started.
- `minimum` and `cap`: such sums again, of "job" and tasks: at least and at most so much is billed.
- `by`: "job" unless told: quantity, increment and limits are the job's, over all its tasks. "task": they are each
  task's, and the line bills their sum.
- `rate`, or `tiers`, or neither where the card's `units` have the price of the line's unit. Tiers are marginal and by
  one job's quantity: each part of it has the rate of the tier that it lies in, and makes a line of the bill.
- `disputed`: what a source says can be read in two ways; all readings are stated and one is chosen. It has no bound,
  and so no job, until an administrator has accepted the card.

Not here: currency exchange; volume over several jobs, which no single job's hold could bound. Pure.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from finops.errors import UnknownPrice

MAX_CARD_BYTES: Final = 1_000_000
ANY_DEVICE: Final = "*"
JOB: Final = "job"

Rounding: TypeAlias = Literal["half_even", "half_up"]
By: TypeAlias = Literal["job", "task"]
_Text = Annotated[str, Meta(min_length=1, max_length=500)]
_Word = Annotated[str, Meta(min_length=1, max_length=64)]
_Revision = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """Version 1: price of one unit of a meter; at most `cap` units of it are billed a task (null: no cap)."""

    meter: str
    unit: str
    rate: str
    cap: str | None = None


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """Version 1: the rates of a provider's device; device "*" is every device without a price of its own."""

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
    rounding: Rounding
    prices: Annotated[tuple[Price, ...], Meta(min_length=1)]
    effective_until: str | None = None


class Term(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So much `each` so many (`per`, 1) `of` a meter; of "job", once."""

    each: str
    of: _Word
    per: str = "1"

    @property
    def factor(self) -> Fraction:
        """What the meter's quantity is multiplied with, exactly."""
        return Fraction(Decimal(self.each)) / Fraction(Decimal(self.per))


class Tier(Struct, frozen=True, forbid_unknown_fields=True):
    """The rate of what lies `above` so much of one job's quantity, up to the next tier."""

    above: str
    rate: str


class Increment(Struct, frozen=True, forbid_unknown_fields=True):
    """What is billed in whole increments of `size` units: each that was started, the nearest, or each that is full."""

    size: str
    rounding: Literal["up", "half_up", "down"]


def _of_a_task(limit: tuple[Term, ...]) -> Decimal | None:
    if not limit:
        return None
    return sum((Decimal(term.each) / Decimal(term.per) for term in limit if term.of in (JOB, "tasks")), Decimal(0))


class Line(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a bill; `meter` is a meter, or the name that the card gives to a `quantity` of its own."""

    meter: _Word
    unit: _Word
    rate: str | None = None
    tiers: tuple[Tier, ...] = ()
    quantity: tuple[Term, ...] = ()
    minimum: tuple[Term, ...] = ()
    cap: tuple[Term, ...] = ()
    by: By = "job"
    increment: Increment | None = None

    @property
    def cap_of_a_task(self) -> Decimal | None:
        """The most that is billed of a job of one task, none of it mitigated; None without a cap."""
        return _of_a_task(self.cap)

    @property
    def minimum_of_a_task(self) -> Decimal | None:
        """The least that is billed of such a job; None without a minimum."""
        return _of_a_task(self.minimum)


class Reading(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to read a source."""

    says: _Text
    source: _Text
    source_date: str


class Dispute(Struct, frozen=True, forbid_unknown_fields=True):
    """What can be read in several ways; the price's lines are those of reading number `chosen`, from 0."""

    about: _Text
    readings: Annotated[tuple[Reading, ...], Meta(min_length=2)]
    chosen: Annotated[int, Meta(ge=0)]


class Unit(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider's own unit and what one of it costs; null: unpublished, and what is billed in it is refused."""

    unit: _Word
    price: str | None = None
    source: _Text | None = None
    source_date: str | None = None


class Priced(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The lines of a provider's device; source and date where they aren't the card's."""

    provider: _Text
    device: _Text
    lines: Annotated[tuple[Line, ...], Meta(min_length=1)]
    source: _Text | None = None
    source_date: str | None = None
    disputed: Dispute | None = None


class Card2(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The card's JSON, version 2; with `ends`, no earlier revision holds again after its last day."""

    version: Literal[2]
    name: _Text
    revision: _Revision
    currency: str
    source: _Text
    source_date: str
    effective_from: str
    precision: str
    rounding: Rounding
    prices: Annotated[tuple[Priced, ...], Meta(min_length=1)]
    effective_until: str | None = None
    ends: bool = False
    units: tuple[Unit, ...] = ()


class RateCard(Struct, frozen=True):
    """A checked card: its document, the canonical bytes that `hash` covers, and when it holds (aware UTC).

    `accepted` is whether an administrator took its disputed readings as they are chosen.
    """

    card: Card | Card2
    document: bytes
    hash: str
    effective_from: datetime
    effective_until: datetime | None
    accepted: bool = False

    @property
    def name(self) -> str:
        """Its revisions have one name."""
        return self.card.name

    @property
    def currency(self) -> str:
        """The one currency of all its prices."""
        return self.card.currency

    @property
    def ends(self) -> bool:
        """Whether its name has no price after its last day, whatever earlier revisions say."""
        return isinstance(self.card, Card2) and self.card.ends

    @property
    def priced(self) -> tuple[Priced, ...]:
        """Its prices in the form of version 2."""
        return self.card.prices if isinstance(self.card, Card2) else tuple(map(_of_version_1, self.card.prices))

    def in_force(self, at: datetime) -> bool:
        """Whether the card's dates cover the moment."""
        return self.effective_from <= at and (self.effective_until is None or at < self.effective_until)

    def price(self, provider: str, device: str, sku: str | None = None) -> Priced:
        """The price of a device: its own, else what it is sold as, else the provider's "*"; raises UnknownPrice."""
        found = {price.device: price for price in self.priced if price.provider == provider}
        price = found.get(device) or found.get(sku or ANY_DEVICE) or found.get(ANY_DEVICE)
        if price is None:
            raise UnknownPrice(f"card {self.name} has no price for {provider} {device}", field="provider")
        return price

    def lines(self, provider: str, device: str, sku: str | None = None) -> tuple[Line, ...]:
        """The lines of a device, each with a rate or tiers; raises UnknownPrice where a unit has no price."""
        return tuple(self._rated(line) for line in self.price(provider, device, sku).lines)

    def meters(self, provider: str, device: str, sku: str | None = None) -> frozenset[str]:
        """The meters that the device's lines count; none where it has no price."""
        try:
            lines = self.price(provider, device, sku).lines
        except UnknownPrice:
            return frozenset()
        return _counted(lines)

    def by_task(self, provider: str, device: str, sku: str | None = None) -> frozenset[str]:
        """The meters that must be known of each task, for lines by task count them; none where it has no price."""
        try:
            lines = [line for line in self.price(provider, device, sku).lines if line.by == "task"]
        except UnknownPrice:
            return frozenset()
        return _counted(lines) | {"tasks"} if lines else frozenset()

    def agreed(self, provider: str, device: str, sku: str | None = None) -> None:
        """Raise UnknownPrice where the device's price rests on a disputed reading that nobody accepted."""
        disputed = self.price(provider, device, sku).disputed
        if disputed is not None and not self.accepted:
            said = f"card {self.name} rests on a disputed reading ({disputed.about}); no administrator accepted it"
            raise UnknownPrice(said, field=self.hash)

    @property
    def disputes(self) -> tuple[Dispute, ...]:
        """What of it is disputed."""
        return tuple(price.disputed for price in self.priced if price.disputed is not None)

    def _rated(self, line: Line) -> Line:
        if line.rate is not None or line.tiers or not isinstance(self.card, Card2):
            return line
        price = next((unit.price for unit in self.card.units if unit.unit == line.unit), None)
        if price is None:
            said = f"card {self.name} has no price for its unit {line.unit}: push a revision with your contract's"
            raise UnknownPrice(said, field=line.meter)
        return replace(line, rate=price)


def _counted(lines: Sequence[Line]) -> frozenset[str]:
    """The meters that lines and their limits count."""
    found = {term.of for line in lines for term in (*line.quantity, *line.minimum, *line.cap)}
    return frozenset(found | {line.meter for line in lines if not line.quantity}) - {JOB}


def _of_version_1(price: Price) -> Priced:
    lines = (
        Line(
            rate.meter,
            rate.unit,
            rate.rate,
            cap=() if rate.cap is None else (Term(rate.cap, "tasks"),),
        )
        for rate in price.meters
    )
    return Priced(price.provider, price.device, tuple(lines))
