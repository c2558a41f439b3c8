# SPDX-License-Identifier: Apache-2.0
"""Rate cards: list, push, accept what is disputed (G6)."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct, field

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Currency, Hash, Instant
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import rates
from control_plane.strict import Reason, want_json
from finops.card import Card2


class SoldDevice(Struct, frozen=True):
    """What a card prices: a provider's device, or all of them ("*")."""

    provider: str
    device: str


class RateCardListed(Struct, frozen=True, kw_only=True):
    """A card; with `disputed` and not `accepted` it bills nothing. `in_force`: it prices now."""

    rate_card: Hash
    name: str
    revision: int
    version: int
    currency: Currency
    source: str
    source_date: str
    from_: Instant = field(name="from")
    until: Instant | None
    in_force: bool
    disputed: bool
    accepted: bool
    prices: tuple[SoldDevice, ...]


class RateCardShown(RateCardListed, frozen=True, kw_only=True):
    """A card with its document, which `rate_card` is the hash of."""

    card: dict[str, Any]


class Accepting(Struct, frozen=True, forbid_unknown_fields=True):
    """Why what is disputed is taken as it is chosen."""

    reason: Reason


_accepting = msgspec.json.Decoder(Accepting)


@get(
    "/rates",
    opt={"action": "rates:read", "answers": Answers({200: tuple[RateCardListed, ...]})},
    summary="Rate cards, the newest first",
)
async def listed(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> list[dict[str, Any]]:
    """Every card that the tenant ever had, and which of them price now."""
    return await rates.listed(plane, request.user)


@get(
    "/rates/{card_hash:str}",
    opt={"action": "rates:read", "owner": "tenant", "answers": Answers({200: RateCardShown})},
    summary="One rate card with its document",
)
async def shown(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], card_hash: FromPath[str]
) -> dict[str, Any]:
    """By its hash, in force or not."""
    return await rates.one(plane, request.user, _known(card_hash))


@post(
    "/rates",
    status_code=201,
    opt={
        "action": "rates:push",
        "answers": Answers({201: RateCardListed}, refusals=("rate_card_invalid",), body=Card2),
    },
    summary="Push a rate card",
)
async def pushed(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """The body is the card's file. Every fault of a bad one is named with its line and field."""
    want_json(request.headers.get("content-type", ""))
    return Response(await rates.push(plane, request.user, await request.body()), status_code=201)


@post(
    "/rates/{card_hash:str}/accept",
    status_code=200,
    opt={
        "action": "rates:accept",
        "owner": "tenant",
        "answers": Answers({200: RateCardListed}, refusals=("conflict",), body=Accepting),
    },
    summary="Accept what is disputed on a rate card",
)
async def accepted(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], card_hash: FromPath[str]
) -> Response[Any]:
    """From here on it prices as it was chosen."""
    asked = await asked_by(request, _accepting)
    return Response(await rates.accept(plane, request.user, _known(card_hash), asked.reason))


def _known(card_hash: str) -> str:
    """What the database can be asked for; a hash with NUL in it is nobody's."""
    return card_hash.replace("\x00", "")


HANDLERS: tuple[Any, ...] = (listed, shown, pushed, accepted)
