# SPDX-License-Identifier: Apache-2.0
"""Rate cards of a tenant: pushed, accepted, listed (G6). A change is a ledger entry in its own transaction (G5)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane import administrative
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from finops import card_store
from finops.card import RateCard
from finops.errors import RateCardInvalid, UnknownPrice
from finops.reading import faults
from finops.tariff import tariff
from ledger.canonical import timestamp

MOST_FAULTS = 50


async def push(plane: Plane, who: Principal, document: bytes) -> dict[str, Any]:
    """Make a card the newest of its name; raises Refused `rate_card_invalid` with each fault's line and field."""
    if found := faults(document):
        told = tuple({"field": one.field, "message": f"line {one.line}: {one.detail}"} for one in found[:MOST_FAULTS])
        said = "; ".join(f"line {one.line}, {one.field}: {one.detail}" for one in found[:3])
        raise Refused("rate_card_invalid", said, errors=told)
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        try:
            card = await card_store.push(conn, who.tenant, document, now)
        except RateCardInvalid as error:
            fault = {"field": error.field or "$", "message": error.detail}
            raise Refused("rate_card_invalid", error.detail, errors=(fault,)) from error
        body = {"rate_card": card.hash, "name": card.name, "revision": card.card.revision, "currency": card.currency}
        entry = administrative.entry(who, "rates:pushed", body, None, now)
        await ledger.store.append(conn, [(entry, None)])
    plane.known.forget()
    return shown(card, in_force=card.in_force(now))


async def accept(plane: Plane, who: Principal, card_hash: str, reason: str) -> dict[str, Any]:
    """Take a card's disputed readings as they are chosen: from here on they price. Said again, nothing happens."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        card = await _found(conn, who, card_hash)
        if not card.disputes:
            raise Refused("conflict", f"nothing of card {card.name} is disputed")
        changed = await card_store.accept(conn, who.tenant, card_hash)
        if changed is not None:
            readings = [
                {"about": one.about, "says": one.readings[one.chosen].says, "source": one.readings[one.chosen].source}
                for one in card.disputes
            ]
            body = {"rate_card": card_hash, "name": card.name, "readings": readings}
            entry = administrative.entry(who, "rates:accepted", body, reason, now)
            await ledger.store.append(conn, [(entry, None)])
        cards = await card_store.every(conn, who.tenant)
    plane.known.forget()
    return shown(changed or card, in_force=_prices(card_hash, cards, now))


async def listed(plane: Plane, who: Principal) -> list[dict[str, Any]]:
    """Every card that the tenant ever had, the newest pushed first."""
    async with plane.transaction(who.tenant) as conn:
        cards = await card_store.every(conn, who.tenant)
    in_force = {card.hash for card in tariff(cards, plane.now()).cards}
    return [shown(card, in_force=card.hash in in_force) for card in reversed(cards)]


async def one(plane: Plane, who: Principal, card_hash: str) -> dict[str, Any]:
    """One card, and the document that its hash is of."""
    async with plane.transaction(who.tenant) as conn:
        card = await _found(conn, who, card_hash)
        cards = await card_store.every(conn, who.tenant)
    in_force = _prices(card_hash, cards, plane.now())
    return shown(card, in_force=in_force) | {"card": msgspec.json.decode(card.document)}


def _prices(card_hash: str, cards: Sequence[RateCard], now: dt.datetime) -> bool:
    return any(card.hash == card_hash for card in tariff(cards, now).cards)


async def _found(conn: AsyncConnection, who: Principal, card_hash: str) -> RateCard:
    try:
        return await card_store.card(conn, who.tenant, card_hash)
    except UnknownPrice as error:
        if "was changed" in error.detail:
            raise
        raise Refused("not_found", "no such rate card") from error


def shown(card: RateCard, *, in_force: bool) -> dict[str, Any]:
    """What a list says of a card."""
    return {
        "rate_card": card.hash,
        "name": card.name,
        "revision": card.card.revision,
        "version": card.card.version,
        "currency": card.currency,
        "source": card.card.source,
        "source_date": card.card.source_date,
        "from": timestamp(card.effective_from),
        "until": None if card.effective_until is None else timestamp(card.effective_until),
        "in_force": in_force,
        "disputed": bool(card.disputes),
        "accepted": card.accepted,
        "prices": [{"provider": price.provider, "device": price.device} for price in card.priced],
    }
