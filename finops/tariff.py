# SPDX-License-Identifier: Apache-2.0
"""The tariff: which of several rate cards prices a backend at a moment, and which cards can't stand side by side.

Contract: of each card name the newest pushed whose dates cover the moment is in force, and none where a newer one said
that the name `ends` before it. A device is priced by the one card that names it, else by the one that names what it is
sold as, else by the one that has its provider's "*". Two names in force that name the same device of a provider are an
overlap; days between two revisions of a name that no revision covers are a gap, unless the earlier one `ends`. Both are
refused before they could price anything. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from finops.card import ANY_DEVICE, RateCard
from finops.errors import UnknownPrice

_FIRST = datetime.min.replace(tzinfo=UTC)


class Tariff(Struct, frozen=True):
    """The cards in force at a moment, one a name, and between which dates they are (None: no date bounds them)."""

    cards: tuple[RateCard, ...]
    since: datetime | None
    until: datetime | None
    sold: dict[tuple[str, str], RateCard]

    def covers(self, at: datetime) -> bool:
        """Whether these are the cards in force then, too, as long as nobody pushes another."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)

    def card_for(self, provider: str, device: str, sku: str | None = None) -> RateCard:
        """The card that prices the device; raises UnknownPrice where none does."""
        for name in (device, sku, ANY_DEVICE):
            if name is not None and (card := self.sold.get((provider, name))) is not None:
                return card
        raise UnknownPrice(f"no rate card in force prices {provider} {device}", field="rate_card")


class Clash(Struct, frozen=True):
    """Two cards that can't both stand: `card` is at fault at `field`, `detail` names both."""

    card: RateCard
    field: str
    detail: str


def tariff(pushed: Sequence[RateCard], at: datetime) -> Tariff:
    """The tariff of cards in the order in which they were pushed, the newest last."""
    cards = tuple(_in_force(pushed, at))
    sold = {(price.provider, price.device): card for card in cards for price in card.priced}
    breaks = _breaks(pushed)
    since = max((moment for moment in breaks if moment <= at), default=None)
    until = min((moment for moment in breaks if moment > at), default=None)
    return Tariff(cards, since, until, sold)


def clashes(pushed: Sequence[RateCard], since: datetime = _FIRST) -> list[Clash]:
    """What is wrong among cards in the order in which they were pushed, from a moment on."""
    return [*_overlaps(pushed, since), *_gaps(pushed, since)]


def reused(card: RateCard, others: Iterable[RateCard]) -> Clash | None:
    """What is wrong where another card of the name has the same revision and says something else."""
    for other in others:
        if (other.name, other.card.revision) == (card.name, card.card.revision) and other.hash != card.hash:
            said = f"revision {card.card.revision} of {card.name} is another card: give this one a number of its own"
            return Clash(card, "$.revision", said)
    return None


def _in_force(pushed: Sequence[RateCard], at: datetime) -> Iterator[RateCard]:
    decided: set[str] = set()
    for card in reversed(pushed):
        if card.name in decided:
            continue
        if card.in_force(at):
            decided.add(card.name)
            yield card
        elif card.ends and card.effective_until is not None and card.effective_until <= at:
            decided.add(card.name)


def _breaks(pushed: Iterable[RateCard]) -> list[datetime]:
    """Moments at which a card begins or stops to hold, in order."""
    days = {day for card in pushed for day in (card.effective_from, card.effective_until) if day is not None}
    return sorted(days)


def _overlaps(pushed: Sequence[RateCard], since: datetime) -> Iterator[Clash]:
    told: set[tuple[str, str, str, str]] = set()
    place = {id(card): number for number, card in enumerate(pushed)}
    for at in [since, *(moment for moment in _breaks(pushed) if moment > since)]:
        first: dict[tuple[str, str], RateCard] = {}
        for card in sorted(_in_force(pushed, at), key=lambda one: place[id(one)]):
            for number, price in enumerate(card.priced):
                other = first.setdefault((price.provider, price.device), card)
                key = (other.name, card.name, price.provider, price.device)
                if other is not card and key not in told:
                    told.add(key)
                    day = f"from {max(at, card.effective_from):%Y-%m-%d}"
                    said = f"cards {other.name} and {card.name} both price {price.provider} {price.device} {day}"
                    yield Clash(card, f"$.prices[{number}]", said)


def _gaps(pushed: Sequence[RateCard], since: datetime) -> Iterator[Clash]:
    for name in sorted({card.name for card in pushed}):
        revisions = sorted((card for card in pushed if card.name == name), key=lambda one: one.effective_from)
        covered, last = revisions[0].effective_until, revisions[0]
        for card in revisions[1:]:
            if covered is None:
                break
            if covered < card.effective_from and card.effective_from > since and not last.ends:
                days = f"from {covered:%Y-%m-%d} until {card.effective_from:%Y-%m-%d}"
                said = f"{name} has no price {days}: between revision {last.card.revision} and {card.card.revision}"
                yield Clash(card, "$.effective_from", said)
            if card.effective_until is None or card.effective_until > covered:
                covered, last = card.effective_until, card
