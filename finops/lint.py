# SPDX-License-Identifier: Apache-2.0
"""Rate cards before they are pushed: every fault with its file, line and field (G6).

Enters: files by name. Leaves: the faults of each card by itself, then of those that are sound, where they overlap,
leave a gap or are two of one revision, as if they were pushed in the order given. `notes` are no faults: what a sound
card doesn't bill, though its author may think so. Needs no plane. Pure.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from finops.card import JOB, Line, RateCard
from finops.places import placed
from finops.reading import faults, parse_card
from finops.tariff import clashes, reused

RESERVED = (
    "counts what was reserved for a job while it was there: time for which a session is open between its jobs is on no "
    "bill"
)
TOGETHER = (
    "a job's tasks fill its minimum together: where the vendor's minimum is each program's, the line is to be by task"
)


class Found(Struct, frozen=True):
    """A fault: in which file, on which line, at which field."""

    file: str
    line: int
    field: str
    detail: str


def lint(files: Mapping[str, bytes]) -> list[Found]:
    """All that is wrong with the cards, by themselves and together."""
    found: list[Found] = []
    sound: list[tuple[RateCard, str]] = []
    for file, data in files.items():
        wrong = faults(data)
        found += [Found(file, one.line, one.field, one.detail) for one in wrong]
        if not wrong:
            sound.append((parse_card(data), file))
    cards = [card for card, _ in sound]
    twins = (reused(card, cards[:number]) for number, card in enumerate(cards))
    for clash in [*(twin for twin in twins if twin is not None), *clashes(cards)]:
        file = next(file for card, file in sound if card is clash.card)
        line = placed(files[file]).line(clash.field)
        found.append(Found(file, line, clash.field, clash.detail))
    return found


def notes(files: Mapping[str, bytes]) -> list[Found]:
    """What who wrote a card should know of it; a card that has faults has no notes."""
    found = []
    for file, data in files.items():
        if faults(data):
            continue
        for at, price in enumerate(parse_card(data).priced):
            for number, line in enumerate(price.lines):
                field = f"$.prices[{at}].lines[{number}]"
                found += [Found(file, placed(data).line(field), field, said) for said in _said(line)]
    return found


def _said(line: Line) -> Iterator[str]:
    if "reservation_seconds" in {line.meter, *(term.of for term in line.quantity)}:
        yield RESERVED
    if line.by == "job" and any(term.of != JOB for term in line.minimum):
        yield TOGETHER
