# SPDX-License-Identifier: Apache-2.0
"""Reading a rate card: every fault of it with its line and field, or the checked card (G6, G7).

Enters: a file's bytes. `faults` lists all that is wrong; `parse_card` raises the first, or gives the card. A card that
passes can be read in one way only, and each line of it is bounded: by what a job asks for, by what compiling finds, or
by a cap. `hash` is SHA-256 over its canonical JSON (RFC 8785; a card holds only texts, integers, true, false and null),
so spacing, order and defaults of the file don't matter. Pure.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from unicodedata import category

import msgspec
from msgspec import Struct

from finops import money
from finops.card import JOB, MAX_CARD_BYTES, Card, Card2, Line, Priced, Rate, RateCard, Term
from finops.errors import AmountInvalid, RateCardInvalid
from finops.facts import UNITS
from finops.places import NoJson, Placed, placed

# What a job can use of these is bounded by what it asked for, or known once it is compiled; others need a cap. These
# alone are known of each task.
ASKED: Final = frozenset({"tasks", "shots", "simulator_seconds", "qpu_seconds"})
COMPILED: Final = frozenset(
    {
        *(f"{what}_{kind}" for what in ("one_qubit", "two_qubit", "multi_qubit") for kind in ("gates", "gate_shots")),
        *(f"submitted_{what}_qubit_gates" for what in ("one", "two", "multi")),
        "measurements",
        "submitted_measurements",
        "measurement_shots",
        "mitigated_tasks",
    }
)
PRECISIONS: Final = frozenset(money.text(Decimal(1).scaleb(-places)) for places in range(money.DECIMALS + 1))

_LEAST: Final = Decimal(1).scaleb(-money.DECIMALS)
_OF_A_TASK: Final = (JOB, "tasks", "mitigated_tasks")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_PRICE: Final = re.compile(r"\$\.prices\[\d+\]")
_MOST_FAULTS: Final = 100
_WORDS: Final = {
    ".increment.rounding": "up, half_up or down",
    ".rounding": "half_even or half_up",
    ".by": "job or task",
}
# Breaks of a line, control and format characters, halves of pairs: what a reader doesn't see.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_NAMED: Final = frozenset({"name", "provider", "device", "unit", "meter"})
# What stands in for a member that couldn't be read, so that the rest of a card is judged too.
_LINE: Final = {"meter": "tasks", "unit": "Tasks", "rate": "0"}
_READINGS: Final = [{"says": "x", "source": "x", "source_date": "2000-01-01"}] * 2
_STAND_INS: Final[dict[str, Any]] = {
    **_LINE,
    **_READINGS[0],
    "version": 2,
    "name": "x",
    "revision": 1,
    "currency": "USD",
    "effective_from": "2000-01-01",
    "precision": "1",
    "rounding": "half_up",  # a card's, and an increment's
    "provider": "x",
    "device": "x",
    "lines": [_LINE],
    "meters": [_LINE],
    "prices": [{"provider": "x", "device": "x", "lines": [_LINE], "meters": [_LINE]}],
    "size": "1",
    "each": "0",
    "of": JOB,
    "above": "0",
    "about": "x",
    "readings": _READINGS,
    "chosen": 0,
}


class Fault(Struct, frozen=True):
    """What is wrong, at which field (a path from `$`) of which line."""

    field: str
    detail: str
    line: int = 1


class _Version(Struct):
    version: int


def parse_card(data: bytes, *, accepted: bool = False) -> RateCard:
    """Read and check a card; raises RateCardInvalid with the path of the first field at fault."""
    card, found = _read(data)
    if card is None or found:
        first = found[0]
        raise RateCardInvalid(first.detail, field=first.field)
    document = msgspec.json.encode(card, order="sorted")
    ends = None if card.effective_until is None else _day(card.effective_until)
    return RateCard(card, document, hash_of(document), _day(card.effective_from), ends, accepted)


def faults(data: bytes) -> list[Fault]:
    """All that is wrong with a card, in the order of its lines; none of a good one."""
    return _read(data)[1]


def hash_of(document: bytes) -> str:
    """The hash that names a card, of its canonical bytes."""
    return "sha256:" + hashlib.sha256(document).hexdigest()


def _read(data: bytes) -> tuple[Card | Card2 | None, list[Fault]]:
    if len(data) > MAX_CARD_BYTES:
        return None, [Fault("$", f"larger than {MAX_CARD_BYTES} bytes")]
    try:
        file = placed(data)
    except NoJson as error:
        return None, [Fault("$", error.detail, error.line)]
    found = [(path, "stands there twice") for path in file.twice]
    card, broken, mended = _shaped(file.value)
    found += broken
    if card is not None:
        found += [(at, said) for at, said in _faults(card) if not _spoilt(at, mended)]
    return card, _told(found, file)


def _told(found: list[tuple[str, str]], file: Placed) -> list[Fault]:
    made = [Fault(_plain_text(path), _plain_text(said), file.line(path)) for path, said in dict.fromkeys(found)]
    return sorted(made, key=lambda one: one.line)


def _plain_text(said: str) -> str:
    """What quotes a file, on one line whatever the file has there."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in said)


def _shaped(value: Any) -> tuple[Card | Card2 | None, list[tuple[str, str]], list[str]]:
    """The value as a card, mended where its shape is wrong; what was wrong, and the paths that were mended."""
    found: list[tuple[str, str]] = []
    mended: list[str] = []
    shape: type[Card | Card2] = Card
    while len(found) < _MOST_FAULTS:
        try:
            known = msgspec.convert(value, _Version).version
            if known not in (1, 2):
                return None, [*found, ("$.version", "want 1 or 2")], mended
            shape = Card if known == 1 else Card2
            return msgspec.convert(value, shape), found, mended
        except msgspec.ValidationError as error:
            detail, _, path = str(error).partition(" - at ")
            path = path.strip("`") or "$"
            if detail.startswith("Invalid enum value"):
                detail += next((f": want {words}" for end, words in _WORDS.items() if path.endswith(end)), "")
            named = _MISSING.fullmatch(detail) or _UNKNOWN.fullmatch(detail)
            member = path if named is None else f"{path}.{named[1]}"
            if not any(_inside(member, one) for one in mended):  # what a stand-in lacks isn't the file's own fault
                found.append((path if detail.startswith("Object missing") else member, detail))
            mended.append(member)
            if not isinstance(value, dict) or not _mended(value, path, detail):
                break
    return None, found, mended


def _mended(value: dict[str, Any], path: str, detail: str) -> bool:
    """Put a stand-in where the fault is; False where there is none."""
    steps: list[str | int] = [name or int(number) for name, number in _STEP.findall(path)]
    missing, unknown = _MISSING.fullmatch(detail), _UNKNOWN.fullmatch(detail)
    steps += [named[1] for named in (missing or unknown,) if named is not None]
    if not steps:
        return False
    inner: Any = value
    for step in steps[:-1]:
        inner = inner[step]
    last = steps[-1]
    named = next((step for step in reversed(steps) if isinstance(step, str)), "")
    if unknown is not None:
        del inner[last]
    elif isinstance(last, str) and named in _STAND_INS:
        inner[last] = _copy(_STAND_INS[named])
    elif isinstance(last, str):
        del inner[last]  # an optional member: as if it weren't there
    elif named in _STAND_INS:
        inner[last] = _copy(_STAND_INS[named][0])
    else:
        del inner[last]
    return True


def _copy(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _spoilt(at: str, mended: list[str]) -> bool:
    """Whether a fault is told of what only stands in for what the file has there.

    A line, unit, term or reading with a wrong member is judged no further; of a price its own place alone isn't.
    """
    for path in mended:
        around = path[: path.rfind("]") + 1] or path
        if at == around or (_inside(at, around) and not _PRICE.fullmatch(around)) or _inside(at, path):
            return True
    return False


def _inside(at: str, path: str) -> bool:
    return at == path or at.startswith((f"{path}.", f"{path}["))


def _faults(card: Card | Card2) -> Iterator[tuple[str, str]]:
    yield from _names(msgspec.to_builtins(card), "$", "")
    yield from _head(card)
    devices: set[tuple[str, str]] = set()
    sold = [(price.provider, price.device) for price in card.prices]
    for number, (provider, device) in enumerate(sold):
        if (provider, device) in devices:
            yield f"$.prices[{number}]", f"a second price for {provider} {device}: one of two readings is to be chosen"
        devices.add((provider, device))
    if isinstance(card, Card2):
        for number, price in enumerate(card.prices):
            yield from _priced(price, card, f"$.prices[{number}]")
    else:
        for number, rates in enumerate(card.prices):
            yield from _rates(rates.meters, f"$.prices[{number}]")


def _names(value: Any, path: str, member: str) -> Iterator[tuple[str, str]]:
    """Names with characters that nobody sees, or with spaces around: two prices would look like one."""
    match value:
        case dict():
            for name, one in value.items():
                yield from _names(one, f"{path}.{name}", name)
        case list() | tuple():
            for number, one in enumerate(value):
                yield from _names(one, f"{path}[{number}]", member)
        case str() if member in _NAMED:
            if (unseen := next((one for one in value if category(one) in _UNSEEN), None)) is not None:
                yield path, f"has a character that nobody sees, U+{ord(unseen):04X}"
            elif value != value.strip():
                yield path, "begins or ends with a space"


def _head(card: Card | Card2) -> Iterator[tuple[str, str]]:
    try:
        money.iso_4217(card.currency)
    except AmountInvalid as error:
        yield "$.currency", error.detail
    if card.precision not in PRECISIONS:
        yield "$.precision", "want 1, 0.1, … with at most 12 decimals"
    days = {"source_date": card.source_date, "effective_from": card.effective_from}
    if card.effective_until is not None:
        days["effective_until"] = card.effective_until
    wrong = [name for name, day in days.items() if not _is_day(day)]
    yield from ((f"$.{name}", "want a date, YYYY-MM-DD") for name in wrong)
    if not wrong and card.effective_until is not None and card.effective_until <= card.effective_from:
        yield "$.effective_until", "ends before it begins"
    if isinstance(card, Card2):
        if card.ends and card.effective_until is None:
            yield "$.ends", "ends, and has no last day: it needs effective_until"
        yield from _units(card)


def _units(card: Card2) -> Iterator[tuple[str, str]]:
    known: set[str] = set()
    for number, unit in enumerate(card.units):
        path = f"$.units[{number}]"
        if unit.unit in known or unit.unit in UNITS.values():
            yield f"{path}.unit", f"a second unit {unit.unit}"
        known.add(unit.unit)
        if unit.price is not None:
            yield from _amount(unit.price, f"{path}.price")
        yield from _dated(unit.source_date, f"{path}.source_date")


def _priced(price: Priced, card: Card2, path: str) -> Iterator[tuple[str, str]]:
    yield from _dated(price.source_date, f"{path}.source_date")
    if price.disputed is not None:
        for number, reading in enumerate(price.disputed.readings):
            yield from _dated(reading.source_date, f"{path}.disputed.readings[{number}].source_date")
        if len({reading.says for reading in price.disputed.readings}) < len(price.disputed.readings):
            yield f"{path}.disputed.readings", "has a reading twice"
        if price.disputed.chosen >= len(price.disputed.readings):
            yield f"{path}.disputed.chosen", f"there are readings 0 to {len(price.disputed.readings) - 1}"
    meters: set[str] = set()
    for number, line in enumerate(price.lines):
        where = f"{path}.lines[{number}]"
        if line.meter in meters:
            yield where, f"a second line for {line.meter}"
        meters.add(line.meter)
        yield from _line(line, card, where)


def _line(line: Line, card: Card2, path: str) -> Iterator[tuple[str, str]]:
    yield from _counted(line, card, path)
    yield from _rate(line, card, path)
    if line.increment is not None:
        yield from _amount(line.increment.size, f"{path}.increment.size", least=_LEAST)
    for name in ("quantity", "minimum", "cap"):
        for number, term in enumerate(getattr(line, name)):
            where = f"{path}.{name}[{number}]"
            yield from _amount(term.each, f"{where}.each")
            yield from _amount(term.per, f"{where}.per", least=_LEAST)
            if term.of != JOB and term.of not in UNITS:
                yield f"{where}.of", f"no such meter: {term.of}"
            elif name != "quantity" and term.of not in _OF_A_TASK:
                yield f"{where}.of", f"a {name} is of {', '.join(_OF_A_TASK)}"
            elif line.by == "task" and term.of not in ASKED | COMPILED:
                yield f"{where}.of", _not_of_a_task(term.of)
        if len({term.of for term in getattr(line, name)}) < len(getattr(line, name)):
            yield f"{path}.{name}", "has a meter twice"
    if not line.cap:
        unbounded = [of for of in _meters(line) if of in UNITS and of not in ASKED | COMPILED]
        for of in unbounded:
            yield f"{path}.cap", f"nothing bounds {of}: its line needs a cap"
    elif line.minimum and _plain(line.minimum) and _plain(line.cap) and not _within(line.minimum, line.cap):
        yield f"{path}.minimum", "is above the cap"


def _counted(line: Line, card: Card2, path: str) -> Iterator[tuple[str, str]]:
    unit = UNITS.get(line.meter)
    if line.quantity:
        if unit is not None:
            yield f"{path}.meter", f"{line.meter} is a meter: what a line counts itself needs a name of its own"
        elif not _NAME.fullmatch(line.meter):
            yield f"{path}.meter", "want a name in small letters, digits and _"
        if line.unit not in {unit.unit for unit in card.units}:
            yield f"{path}.unit", f"unknown unit {line.unit}: the card's units don't have it"
    elif unit is None:
        yield f"{path}.meter", f"no such meter: {line.meter}"
    elif line.by == "task" and line.meter not in ASKED | COMPILED:
        yield f"{path}.by", _not_of_a_task(line.meter)
    elif line.unit != unit:
        yield f"{path}.unit", f"{line.meter} is counted in {unit}, not {line.unit}"


def _not_of_a_task(of: str) -> str:
    if of == JOB:
        return "a line by task counts each task: want tasks, not job"
    return f"nobody knows {of} of each task: a line by task can't count it"


def _rate(line: Line, card: Card2, path: str) -> Iterator[tuple[str, str]]:
    unit = next((unit for unit in card.units if unit.unit == line.unit), None)
    if line.rate is not None:
        yield from _amount(line.rate, f"{path}.rate")
    if line.rate is not None and line.tiers:
        yield f"{path}.tiers", "has a rate and tiers: want one of them"
    if line.rate is None and not line.tiers and unit is None:
        yield path, f"has no rate, no tiers, and its unit {line.unit} has no price"
    if unit is not None and unit.price is not None and (line.rate is not None or line.tiers):
        yield path, f"has a rate, and its unit {line.unit} has a price: want one of them"
    last: Decimal | None = None
    for number, tier in enumerate(line.tiers):
        where = f"{path}.tiers[{number}]"
        yield from _amount(tier.rate, f"{where}.rate")
        wrong = list(_amount(tier.above, f"{where}.above"))
        yield from wrong
        if wrong:
            continue
        above = Decimal(tier.above)
        if number == 0 and above != 0:
            yield f"{where}.above", "the first tier is above 0"
        if last is not None and above <= last:
            yield f"{where}.above", "tiers are out of order"
        last = above


def _rates(rates: tuple[Rate, ...], path: str) -> Iterator[tuple[str, str]]:
    """Version 1."""
    meters: set[str] = set()
    for number, rate in enumerate(rates):
        where = f"{path}.meters[{number}]"
        unit = UNITS.get(rate.meter)
        if unit is None:
            yield f"{where}.meter", f"no such meter: {rate.meter}"
        elif rate.unit != unit:
            yield f"{where}.unit", f"{rate.meter} is counted in {unit}, not {rate.unit}"
        yield from _amount(rate.rate, f"{where}.rate")
        if rate.cap is not None:
            yield from _amount(rate.cap, f"{where}.cap")
        elif unit is not None and rate.meter not in ASKED:
            yield f"{where}.cap", f"nothing bounds {rate.meter}: its rate needs a cap"
        if rate.meter in meters:
            yield where, f"a second rate for {rate.meter}"
        meters.add(rate.meter)


def _meters(line: Line) -> list[str]:
    return [term.of for term in line.quantity] or [line.meter]


def _plain(terms: tuple[Term, ...]) -> bool:
    amounts = [*((term.each, money.ZERO) for term in terms), *((term.per, _LEAST) for term in terms)]
    return all(term.of in _OF_A_TASK for term in terms) and not any(
        list(_amount(text, "", least)) for text, least in amounts
    )


def _within(minimum: tuple[Term, ...], cap: tuple[Term, ...]) -> bool:
    """Whether the minimum is at most the cap for any number of tasks from 1 on, however many are mitigated.

    Both are linear, so it is enough to look at one task, mitigated or not, and at what one more of either adds.
    """
    room = {of: _each(cap, of) - _each(minimum, of) for of in _OF_A_TASK}
    task, mitigated = room["tasks"], room["tasks"] + room["mitigated_tasks"]
    return min(room[JOB] + task, room[JOB] + mitigated, task, mitigated) >= 0


def _each(terms: tuple[Term, ...], of: str) -> Fraction:
    return sum((term.factor for term in terms if term.of == of), Fraction())


def _amount(text: str, path: str, least: Decimal = money.ZERO) -> Iterator[tuple[str, str]]:
    try:
        if money.parse(text, path) < least:
            yield path, "is zero"
    except AmountInvalid as error:
        yield path, error.detail


def _dated(day: str | None, path: str) -> Iterator[tuple[str, str]]:
    if day is not None and not _is_day(day):
        yield path, "want a date, YYYY-MM-DD"


def _is_day(text: str) -> bool:
    try:  # fromisoformat reads other spellings too; a card has one
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), UTC)
