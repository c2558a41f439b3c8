# SPDX-License-Identifier: Apache-2.0
"""The most a job can cost by a rate card, and what it did cost (G6, G7, I3, decision 6).

Contract:

- `upper_bound` is never below `charge` for work that stays within the executions, the deadline and the other meters
  that it was given. Gate meters are unknown before compilation, so who admits gives what the circuit's scan bounds, and
  who dispatches what was compiled: the hold at the dispatch gate covers the charge.
- `charge` writes one line for each line of the card whose meters all have facts, or one for each tier that is reached.
  A quantity that the card computes is rounded to 12 decimals, each amount to the card's precision, both as the card
  says; the amount is the exact sum of the lines. Facts without a price cost nothing and stay facts.
- A line `by` task is reckoned for each task alone, from what that one used, and bills the sum. Who charges a job of
  several tasks says what each used.
- No price, no bound for one, or one that rests on a reading nobody accepted, raises UnknownPrice: nothing is ever free
  by omission.

What a card says is in `card`, how one is read in `reading`, which of several counts in `tariff`. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Final, TypeAlias

from msgspec import Struct

from finops import money
from finops.card import ANY_DEVICE, JOB, MAX_CARD_BYTES, Increment, Line, RateCard, Rounding, Term
from finops.errors import UnknownPrice
from finops.facts import Fact, Source, by_meter
from finops.money import Money
from finops.reading import parse_card

__all__ = ["ANY_DEVICE", "MAX_CARD_BYTES", "Charge", "ChargeLine", "RateCard", "charge", "parse_card", "upper_bound"]

_ROUNDING: Final = {"half_even": ROUND_HALF_EVEN, "half_up": ROUND_HALF_UP}
_BOUND_BY_DEADLINE: Final = ("simulator_seconds", "qpu_seconds")
_ROUNDER: Final = Context(prec=80)
# Nothing was mitigated where nobody says that it was; what else has no fact isn't known, and makes no line.
UNLESS_SAID: Final = frozenset({"mitigated_tasks"})
_NOTHING: Final[Mapping[str, Decimal]] = {}
_ONCE: Final = Fraction(1)
_Used: TypeAlias = Mapping[str, Decimal] | Mapping[str, Fraction]
_Tasks: TypeAlias = Sequence[tuple[int, _Used]]
"""So many tasks that used so much each."""
# Of words that differ, the line of several facts has the weakest.
_WEAKEST: Final[tuple[Source, ...]] = ("estimated", "vendor", "measured")


class ChargeLine(Struct, frozen=True):
    """One charged meter: `amount` is the billed `quantity` × `rate`, rounded as the card says; by whose word."""

    meter: str
    quantity: Decimal
    unit: str
    rate: Decimal
    amount: Decimal
    source: Source
    by: str = "plane"


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


def upper_bound(
    card: RateCard,
    provider: str,
    device: str,
    executions: int,
    deadline_s: Decimal | float,
    tasks: int = 1,
    sku: str | None = None,
    known: Mapping[str, Decimal] = _NOTHING,
    each: Sequence[Mapping[str, Decimal]] = (),
) -> Money:
    """The most that `executions` shots in `tasks` tasks of `deadline_s` seconds each can cost, rounded up.

    `known` has the most of other meters, where the caller has one; without, a meter counts by its line's cap. Of
    mitigation nobody spoke of, each task has it. `each` has the most of other meters of each task, where tasks differ;
    without, they are alike. Raises UnknownPrice, or AmountInvalid for a number out of range.
    """
    count = money.check(Decimal(tasks), "tasks")
    shots = money.check(Decimal(executions), "executions")
    seconds = money.measured(deadline_s, "deadline_s")
    card.agreed(provider, device, sku)
    amount = money.ZERO
    with money.exact():
        most = {"mitigated_tasks": count, **known, "tasks": count, "shots": shots}
        most |= dict.fromkeys(_BOUND_BY_DEADLINE, count * seconds)
        for line in card.lines(provider, device, sku):
            quantity = _billed(line, most, each, card)
            if quantity is None:
                missing = ", ".join(meter for meter in _meters(line) if meter not in most)
                said = f"nothing tells how many {missing} it takes before it runs, and card {card.name} has no cap"
                raise UnknownPrice(said, field=line.meter)
            for part, rate in _tiers(line, money.check(quantity, line.meter)):
                amount += _rounded(part * rate, card.card.precision, ROUND_CEILING)
    return Money(money.check(amount, "price"), card.currency)


def charge(
    card: RateCard,
    provider: str,
    facts: Iterable[Fact],
    device: str = ANY_DEVICE,
    sku: str | None = None,
    each: Sequence[Mapping[str, Decimal]] = (),
    *,
    alike: bool = False,
) -> Charge:
    """What the facts cost on the provider's device; raises UnknownPrice, FactInvalid or AmountInvalid.

    `each` has what each of several tasks used of the meters that lines by task count (`RateCard.by_task`); `alike`
    tasks used an equal share of the facts each, whatever that is.
    """
    measured = by_meter(facts)
    lines: list[ChargeLine] = []
    unmeasured: list[str] = []
    used = dict.fromkeys(UNLESS_SAID, money.ZERO) | {meter: one.quantity for meter, one in measured.items()}
    told = [{**dict.fromkeys(UNLESS_SAID, money.ZERO), **one} for one in each]
    several = used.get("tasks", money.ZERO) > 1 and not alike
    with money.exact():
        for line in card.lines(provider, device, sku):
            missing = [meter for meter in _meters(line) if meter not in measured and meter not in UNLESS_SAID]
            if missing:
                unmeasured += missing
                continue
            if line.by == "task" and several and not _known(line, told):
                raise UnknownPrice("is billed by task, and nobody says what each task used", field=line.meter)
            quantity = _billed(line, used, told, card)
            if quantity is None:
                raise UnknownPrice("has no quantity", field=line.meter)
            source, by = _word([measured[meter] for meter in _meters(line) if meter in measured])
            for part, rate in _tiers(line, money.check(quantity, line.meter)):
                amount = _rounded(part * rate, card.card.precision, _ROUNDING[card.card.rounding])
                lines.append(ChargeLine(line.meter, part, line.unit, rate, amount, source, by))
    amount = money.check(money.total(line.amount for line in lines), "amount")
    return Charge(tuple(lines), amount, card.currency, card.hash, tuple(dict.fromkeys(unmeasured)))


def _known(line: Line, each: Sequence[Mapping[str, Decimal]]) -> bool:
    """Whether each task's use of what the line counts is told."""
    return len(each) > 0 and all(meter in one for one in each for meter in _meters(line))


def _alone(line: Line, job: _Used, each: Sequence[Mapping[str, Decimal]]) -> _Tasks:
    """The job's tasks, as far as the line counts them; of what isn't told each used an equal share of the job's."""
    meters = list(dict.fromkeys([*_meters(line), *(term.of for term in (*line.cap, *line.minimum))]))
    count = len(each) or max(int(job.get("tasks", _ONCE)), 1)
    share = {meter: Fraction(job[meter]) / count for meter in meters if meter in job} | {"tasks": _ONCE}
    used = Counter(tuple(one.get(meter) for meter in meters) for one in each)
    if not used:
        return [(count, share)]
    return [
        (times, share | {of: Fraction(told) for of, told in zip(meters, quantities, strict=True) if told is not None})
        for quantities, times in used.items()
    ]


def _meters(line: Line) -> list[str]:
    """The meters whose facts a line counts; none where it counts the job alone."""
    return [term.of for term in line.quantity if term.of != JOB] if line.quantity else [line.meter]


def _billed(line: Line, job: _Used, each: Sequence[Mapping[str, Decimal]], card: RateCard) -> Decimal | None:
    """What is billed, of the job or of each of its tasks; None where a meter that it counts is unknown and no cap is.

    Rounded to 12 decimals, as the card rounds.
    """
    total = Fraction()
    for count, used in _alone(line, job, each) if line.by == "task" else [(1, job)]:
        quantity = _limited(line, used)
        if quantity is None:
            return None
        total += count * quantity
    return _finest(total, card.card.rounding)


def _limited(line: Line, used: _Used) -> Fraction | None:
    """The quantity in whole increments, at most the cap and at least the minimum; a job has one task at least."""
    quantity = _sum(line.quantity or (Term("1", line.meter),), used)
    if quantity is not None and line.increment is not None:
        quantity = _whole(quantity, line.increment)
    mitigated, tasks = Fraction(used.get("mitigated_tasks", 0)), Fraction(used.get("tasks", 1))
    limits = {"mitigated_tasks": mitigated, "tasks": max(tasks, _ONCE)}
    if line.cap:
        cap = _sum(line.cap, limits)
        quantity = cap if quantity is None or cap is None else min(quantity, cap)
    if quantity is not None and line.minimum:
        quantity = max(quantity, _sum(line.minimum, limits) or Fraction())
    return quantity


def _sum(terms: tuple[Term, ...], used: _Used) -> Fraction | None:
    total = Fraction()
    for term in terms:
        quantity = _ONCE if term.of == JOB else used.get(term.of)
        if quantity is None:
            return None
        total += term.factor * Fraction(quantity)
    return total


def _whole(quantity: Fraction, increment: Increment) -> Fraction:
    """So many whole increments."""
    size = Fraction(Decimal(increment.size))
    full, rest = divmod(quantity, size)
    more = rest > 0 if increment.rounding == "up" else increment.rounding == "half_up" and 2 * rest >= size
    return (full + more) * size


def _finest(quantity: Fraction, rounding: Rounding) -> Decimal:
    """To 12 decimals, as the card rounds."""
    whole, rest = divmod(quantity.numerator * 10**money.DECIMALS, quantity.denominator)
    half = 2 * rest - quantity.denominator
    up = half > 0 or (half == 0 and (rounding == "half_up" or whole % 2 == 1))
    return Decimal(whole + up).scaleb(-money.DECIMALS)


def _tiers(line: Line, quantity: Decimal) -> Iterator[tuple[Decimal, Decimal]]:
    """The quantity by its tiers, each part with its rate; marginal, and the first is there though nothing is in it."""
    if line.rate is not None:
        yield quantity, Decimal(line.rate)
        return
    above = [Decimal(tier.above) for tier in line.tiers]
    for tier, (low, high) in zip(line.tiers, pairwise([*above, max(quantity, above[-1])]), strict=True):
        if low == 0 or quantity > low:
            yield min(quantity, high) - low, Decimal(tier.rate)


def _word(facts: list[Fact]) -> tuple[Source, str]:
    """Whose word a line rests on: of several the weakest, and of the same the first by name."""
    if not facts:
        return "measured", "plane"
    weakest = min(facts, key=lambda one: (_WEAKEST.index(one.source), one.by))
    return weakest.source, weakest.by


def _rounded(amount: Decimal, precision: str, rounding: str) -> Decimal:
    # The one place where money loses digits, on purpose and as the card states: outside the exact context.
    return amount.quantize(Decimal(precision), rounding=rounding, context=_ROUNDER)
