# SPDX-License-Identifier: Apache-2.0
"""Rate cards in PostgreSQL: pushed, accepted, in force (G6, I6, I7).

Contract: every function takes a connection whose transaction its caller owns, and whose tenant is set. `push` and
`accept` change what prices; their caller writes the entry of it into the same transaction. A card never changes under
its hash, and one whose row was changed in the database prices nothing. Cards of a tenant are pushed one after another:
what overlaps or leaves a gap is seen, whoever else pushes at the same moment.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from finops.card import RateCard
from finops.errors import RateCardInvalid, UnknownPrice
from finops.reading import hash_of, parse_card
from finops.tariff import Tariff, clashes, reused
from finops.tariff import tariff as made

_parsed = lru_cache(maxsize=256)(parse_card)  # a card's bytes never change


async def push(conn: AsyncConnection, tenant: str, document: bytes, at: datetime) -> RateCard:
    """Check a card beside those that hold from now on and make it the newest; pushed again, it is the newest again.

    Raises RateCardInvalid.
    """
    pushed = parse_card(document)
    await conn.execute(_LOCK, {"tenant": tenant})
    rows = (await conn.execute(_LASTING, {"tenant": tenant, "at": at})).all()
    named = (await conn.execute(_NAMED, {"tenant": tenant, "name": pushed.name})).all()
    if (twin := reused(pushed, [_sound(row.hash, row.document, row.accepted) for row in named])) is not None:
        raise RateCardInvalid(twin.detail, field=twin.field)
    standing = [_sound(row.hash, row.document, row.accepted) for row in rows if row.hash != pushed.hash]
    for clash in clashes([*standing, pushed], at):
        # What was there before, and clashes with another that was, is not this card's fault.
        if clash.card is pushed or pushed.name in clash.detail.split():
            raise RateCardInvalid(clash.detail, field=clash.field)
    values = {
        "tenant": tenant,
        "hash": pushed.hash,
        "name": pushed.name,
        "from": pushed.effective_from,
        "until": pushed.effective_until,
        "ends": pushed.ends,
        "document": pushed.document,
    }
    accepted = (await conn.execute(_PUSH, values)).scalar_one()
    return replace(pushed, accepted=accepted)


async def accept(conn: AsyncConnection, tenant: str, card_hash: str) -> RateCard | None:
    """Take a card's disputed readings as they are chosen; None where nothing was left to accept.

    Raises UnknownPrice where the tenant has no such card.
    """
    found = await card(conn, tenant, card_hash)
    if found.accepted or not found.disputes:
        return None
    changed = (await conn.execute(_ACCEPT, {"tenant": tenant, "hash": card_hash})).rowcount
    return replace(found, accepted=True) if changed else None


async def tariff(conn: AsyncConnection, tenant: str, at: datetime) -> Tariff:
    """What prices at the moment; raises UnknownPrice where no card is in force, or a row of one was changed."""
    rows = (await conn.execute(_IN_FORCE, {"tenant": tenant, "at": at})).all()
    found = made([_sound(row.hash, row.document, row.accepted) for row in rows], at)
    if not found.cards:
        raise UnknownPrice("no rate card is in force", field="rate_card")
    since, until = (await conn.execute(_CHANGES, {"tenant": tenant, "at": at})).one()
    return replace(found, since=since, until=until)


async def card(conn: AsyncConnection, tenant: str, card_hash: str) -> RateCard:
    """The card of this hash, in force or not; raises UnknownPrice."""
    row = (await conn.execute(_CARD, {"tenant": tenant, "hash": card_hash})).one_or_none()
    if row is None:
        raise UnknownPrice(f"no rate card {card_hash}", field="rate_card")
    return _sound(card_hash, row.document, row.accepted)


async def sound(conn: AsyncConnection, tenant: str) -> dict[str, tuple[bool, bool]]:
    """Hash of each card of the tenant → whether its row is still what was pushed, and was accepted; for the audit role.

    In the order in which they were pushed, which says what prices.
    """
    rows = await conn.execute(_ALL, {"tenant": tenant})
    return {row.hash: (_unchanged(row), row.accepted) for row in rows}


def _unchanged(row: Row[Any]) -> bool:
    if hash_of(row.document) != row.hash:
        return False
    card = _parsed(bytes(row.document), accepted=row.accepted)
    told = card.name, card.effective_from, card.effective_until, card.ends
    return told == (row.name, row.effective_from, row.effective_until, row.ends)


async def every(conn: AsyncConnection, tenant: str) -> list[RateCard]:
    """Every card that the tenant ever had, in the order in which they were pushed; UnknownPrice if one was changed."""
    rows = (await conn.execute(_ALL, {"tenant": tenant})).all()
    return [_sound(row.hash, row.document, row.accepted) for row in rows]


def _sound(card_hash: str, document: bytes, accepted: bool) -> RateCard:
    """The card, if its row holds what was pushed under this hash: nobody pays by a price that no entry tells of."""
    if hash_of(document) != card_hash:
        raise UnknownPrice(f"rate card {card_hash} was changed in the database", field="rate_card")
    return _parsed(bytes(document), accepted=accepted)


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('finops.rate_card ' || :tenant, 0))")
# The newest is the one that was pushed last, also where the clock was set back between.
_PUSH = text("""
    INSERT INTO finops.rate_card (tenant, hash, name, effective_from, effective_until, ends, document, pushed_at)
    SELECT :tenant, :hash, :name, :from, :until, :ends, :document,
           greatest(clock_timestamp(), max(pushed_at) + interval '1 microsecond')
    FROM finops.rate_card WHERE tenant = :tenant
    ON CONFLICT (tenant, hash) DO UPDATE SET pushed_at = excluded.pushed_at
    RETURNING accepted_at IS NOT NULL
""")
_ACCEPT = text("""
    UPDATE finops.rate_card SET accepted_at = clock_timestamp()
    WHERE tenant = :tenant AND hash = :hash AND accepted_at IS NULL
""")
# The newest of each name; one that ended its name stays the newest, and then none of them is in force.
_IN_FORCE = text("""
    SELECT hash, document, accepted FROM (
        SELECT DISTINCT ON (name) hash, document, accepted_at IS NOT NULL AS accepted, pushed_at FROM finops.rate_card
        WHERE tenant = :tenant AND effective_from <= :at AND (effective_until IS NULL OR :at < effective_until OR ends)
        ORDER BY name, pushed_at DESC
    ) AS newest ORDER BY pushed_at
""")
_CHANGES = text("""
    SELECT max(day) FILTER (WHERE day <= :at), min(day) FILTER (WHERE day > :at)
    FROM finops.rate_card, unnest(ARRAY[effective_from, effective_until]) AS day WHERE tenant = :tenant
""")
_LASTING = text("""
    SELECT hash, document, accepted_at IS NOT NULL AS accepted FROM finops.rate_card
    WHERE tenant = :tenant AND (effective_until IS NULL OR :at < effective_until OR ends) ORDER BY pushed_at
""")
_NAMED = text("""
    SELECT hash, document, accepted_at IS NOT NULL AS accepted FROM finops.rate_card
    WHERE tenant = :tenant AND name = :name
""")
_CARD = text("""
    SELECT document, accepted_at IS NOT NULL AS accepted FROM finops.rate_card WHERE tenant = :tenant AND hash = :hash
""")
_ALL = text("""
    SELECT hash, document, accepted_at IS NOT NULL AS accepted, name, effective_from, effective_until, ends
    FROM finops.rate_card
    WHERE tenant = :tenant ORDER BY pushed_at
""")
