# SPDX-License-Identifier: Apache-2.0
"""Rate cards before they are pushed: every fault with its file, line and field (G6).

Enters: files by name. Leaves: the faults of each card by itself, then of those that are sound, where they overlap,
leave a gap or are two of one revision, as if they were pushed in the order given. Needs no plane. Pure.
"""

from collections.abc import Mapping

from msgspec import Struct

from finops.card import RateCard
from finops.places import placed
from finops.reading import faults, parse_card
from finops.tariff import clashes, reused


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
