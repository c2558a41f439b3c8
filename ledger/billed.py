# SPDX-License-Identifier: Apache-2.0
"""A bill by a rate card of version 2, computed again from the facts (docs/evidence-format.md, section 15). Pure.

Enters the card's bytes, what was charged, where it ran, and the facts of the artefact `execution` where that is
carried. Raises EvidenceInvalid where no price of the card gives exactly these lines. Sums of meters are fractions,
rounded once to 12 decimals; nothing is a float. Written apart from what charges: it shares no code with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.errors import EvidenceInvalid
from ledger.predicate import CostLine, Money

DECIMALS = 12
_EXACT = Context(prec=120)
_ROUNDING = {"half_even": ROUND_HALF_EVEN, "half_up": ROUND_HALF_UP}
_TO_WHOLE: Mapping[str, Callable[[Fraction], int]] = {
    "up": math.ceil,
    "half_up": lambda exact: math.floor(exact + Fraction(1, 2)),
    "down": math.floor,
}
_OF_A_TASK = frozenset({"job", "tasks", "mitigated_tasks"})
Plain = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?\Z")]


class _Term(Struct, frozen=True):
    each: Plain
    of: str
    per: Plain = "1"


class _Tier(Struct, frozen=True):
    above: Plain
    rate: Plain


class _Increment(Struct, frozen=True):
    size: Plain
    rounding: Literal["up", "half_up", "down"]


class _Line(Struct, frozen=True):
    meter: str
    unit: str
    rate: Plain | None = None
    tiers: tuple[_Tier, ...] = ()
    quantity: tuple[_Term, ...] = ()
    minimum: tuple[_Term, ...] = ()
    cap: tuple[_Term, ...] = ()
    by: Literal["job", "task"] = "job"
    increment: _Increment | None = None


class _Price(Struct, frozen=True):
    provider: str
    device: str
    lines: tuple[_Line, ...]


class _Unit(Struct, frozen=True):
    unit: str
    price: Plain | None = None


class _Card(Struct, frozen=True):
    currency: str
    precision: Money
    rounding: Literal["half_even", "half_up"]
    prices: tuple[_Price, ...]
    units: tuple[_Unit, ...] = ()


class _Fact(Struct, frozen=True):
    meter: str
    quantity: Plain


class _Item(Struct, frozen=True):
    facts: tuple[_Fact, ...] | None = None


class _Execution(Struct, frozen=True):
    facts: tuple[_Fact, ...]
    items: tuple[_Item, ...] = ()


class _Used(Struct, frozen=True):
    """What the job used of each meter, and what each of its tasks did, where that is told."""

    job: Mapping[str, Fraction]
    each: Sequence[Mapping[str, Fraction]]


class _Version(Struct, frozen=True):
    version: msgspec.Raw = msgspec.Raw(b"1")


Written = tuple[str, str, Decimal, Decimal, Decimal]
_card = msgspec.json.Decoder(_Card)
_execution = msgspec.json.Decoder(_Execution)
_version = msgspec.json.Decoder(_Version)


def second(card: bytes) -> bool:
    """Whether the card is one of version 2; one that can't be read at all isn't."""
    try:
        return bytes(_version.decode(card).version).strip() == b"2"
    except (ValueError, RecursionError):
        return False


def recomputed(
    lines: Sequence[CostLine],
    currency: str,
    ran_on: tuple[str | None, str | None],
    card: bytes,
    execution: bytes | None,
) -> None:
    """The lines are those of a price that the card has for this (provider, backend); raises EvidenceInvalid."""
    try:
        read = _card.decode(card)
        used = None if execution is None else _used(_execution.decode(execution))
        if read.currency != currency:
            raise EvidenceInvalid(f"the currency: {read.currency} is not {currency}")
        told = [
            (line.meter, line.unit, Decimal(line.quantity), Decimal(line.rate), Decimal(line.amount)) for line in lines
        ]
        if not any(_gives(read, price, used, told) for price in _for(read, ran_on)):
            raise EvidenceInvalid("no price of the card gives these lines")
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise EvidenceInvalid(f"rate_card: {error}") from error


def _used(execution: _Execution) -> _Used:
    return _Used(_facts(execution.facts), [_facts(one.facts) for one in execution.items if one.facts is not None])


def _facts(told: tuple[_Fact, ...]) -> dict[str, Fraction]:
    found = {fact.meter: Fraction(fact.quantity) for fact in told}
    if len(found) != len(told):
        raise EvidenceInvalid("execution: a fact is there twice")
    return found


def _for(card: _Card, ran_on: tuple[str | None, str | None]) -> list[_Price]:
    """The backend's own price, else all of its provider: what a backend is sold as, the record doesn't say."""
    theirs = [price for price in card.prices if price.provider == ran_on[0]]
    return [price for price in theirs if price.device == ran_on[1]] or theirs


def _gives(card: _Card, price: _Price, used: _Used | None, told: list[Written]) -> bool:
    if used is not None:
        return [bill for line in price.lines for bill in _billed(card, line, used)] == told
    known = {(line.meter, line.unit, rate) for line in price.lines for _, rate in _rates(card, line)}
    return all(
        (meter, unit, rate) in known and amount == _rounded(card, quantity, rate)
        for meter, unit, quantity, rate, amount in told
    )


def _billed(card: _Card, line: _Line, used: _Used) -> list[Written]:
    counted = line.quantity or (_Term("1", line.meter),)
    if any(term.of not in used.job for term in counted if term.of not in ("job", "mitigated_tasks")):
        return []
    if any(term.of not in _OF_A_TASK for limit in (line.cap, line.minimum) for term in limit):
        raise EvidenceInvalid(f"{line.meter}: a limit of something else than tasks")
    alone = [used.job] if line.by == "job" else _tasks(line, counted, used)
    quantity = _finest(sum((_limited(line, counted, one) for one in alone), Fraction(0)), card.rounding)
    rates = _rates(card, line)
    made: list[Written] = []
    for number, (above, rate) in enumerate(rates):
        below = max(quantity, above) if number + 1 == len(rates) else rates[number + 1][0]
        if above == 0 or quantity > above:
            part = _EXACT.subtract(min(quantity, below), above)
            made.append((line.meter, line.unit, part, rate, _rounded(card, part, rate)))
    return made


def _tasks(line: _Line, counted: Sequence[_Term], used: _Used) -> Sequence[Mapping[str, Fraction]]:
    """What each task used: of one alone what the job did; of several they sum up to what the job did."""
    meters = {"tasks", *(term.of for term in (*counted, *line.cap, *line.minimum))}
    if "job" in meters:
        raise EvidenceInvalid(f"{line.meter}: billed by task, and counts the job")
    if not used.each:
        if used.job.get("tasks", 0) > 1:
            raise EvidenceInvalid(f"{line.meter}: billed by task, and no item says what it used")
        return [{**used.job, "tasks": Fraction(1)}]
    each = [{"mitigated_tasks": Fraction(0), **one} for one in used.each]
    for meter in meters:
        told = [one[meter] for one in each if meter in one]
        if len(told) < len(each) or sum(told, Fraction(0)) != used.job.get(meter, 0):
            raise EvidenceInvalid(f"{meter}: the items' facts aren't the job's")
    if any(one["tasks"] != 1 for one in each):
        raise EvidenceInvalid(f"{line.meter}: an item that isn't one task")
    return each


def _limited(line: _Line, counted: Sequence[_Term], used: Mapping[str, Fraction]) -> Fraction:
    """The line's quantity in whole increments, then at most its cap, then at least its minimum."""
    limits = {
        "job": Fraction(1),
        "tasks": max(used.get("tasks", Fraction(0)), Fraction(1)),
        "mitigated_tasks": used.get("mitigated_tasks", Fraction(0)),
    }
    exact = _sum(counted, {**limits, **used, "job": Fraction(1)})
    if line.increment is not None:
        size = Fraction(line.increment.size)
        exact = _TO_WHOLE[line.increment.rounding](exact / size) * size
    if line.cap:
        exact = min(exact, _sum(line.cap, limits))
    return max(exact, _sum(line.minimum, limits)) if line.minimum else exact


def _rates(card: _Card, line: _Line) -> list[tuple[Decimal, Decimal]]:
    """From where on which rate holds; the first from 0."""
    if line.rate is not None:
        return [(Decimal(0), Decimal(line.rate))]
    if not line.tiers:
        price = next((unit.price for unit in card.units if unit.unit == line.unit), None)
        if price is None:
            raise EvidenceInvalid(f"{line.meter}: no rate on the card")
        return [(Decimal(0), Decimal(price))]
    tiers = [(Decimal(tier.above), Decimal(tier.rate)) for tier in line.tiers]
    above = [one for one, _ in tiers]
    if above[0] != 0 or sorted(set(above)) != above:
        raise EvidenceInvalid(f"{line.meter}: tiers out of order")
    return tiers


def _sum(terms: Sequence[_Term], used: Mapping[str, Fraction]) -> Fraction:
    return sum((Fraction(term.each) * used[term.of] / Fraction(term.per) for term in terms), Fraction(0))


def _finest(exact: Fraction, rounding: str) -> Decimal:
    whole, rest = divmod(exact.numerator * 10**DECIMALS, exact.denominator)
    half = 2 * rest - exact.denominator
    up = half > 0 or (half == 0 and (rounding == "half_up" or whole % 2 == 1))
    return Decimal(whole + up).scaleb(-DECIMALS, _EXACT)


def _rounded(card: _Card, quantity: Decimal, rate: Decimal) -> Decimal:
    return _EXACT.multiply(quantity, rate).quantize(Decimal(card.precision), _ROUNDING[card.rounding], _EXACT)
