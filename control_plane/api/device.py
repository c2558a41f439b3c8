# SPDX-License-Identifier: Apache-2.0
"""The plane's own device flow (RFC 8628) over HTTP: two addresses for commands, one page for the person (G13)."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from msgspec import Meta, Struct

from control_plane.api.bodies import asked_by
from control_plane.api.login import fields_of, shown, word_of
from control_plane.api.shapes import Answers, Instant
from control_plane.auth import devices, pages, sessions
from control_plane.auth.logins import Logins, base_of
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from ledger.canonical import timestamp


class Begun(Struct, frozen=True):
    """What a command shows, and what it keeps to itself."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceCode(Struct, frozen=True, forbid_unknown_fields=True):
    """The code that the command kept."""

    device_code: Annotated[str, Meta(min_length=1, max_length=128)]


_asking = msgspec.json.Decoder(DeviceCode)


class Signed(Struct, frozen=True):
    """A secret of the plane's own for a command, shown once."""

    subject: str
    access_token: str
    token_type: Literal["Bearer"]
    expires_at: Instant


@post(
    "/auth/device",
    status_code=200,
    opt={"action": "public", "limited": True, "answers": Answers({200: Begun}, ("rate_limited",))},
    summary="Begin to sign a command in",
)
async def begin(
    request: Request[Any, Any, Any], plane: NamedDependency[Plane], logins: NamedDependency[Logins]
) -> Begun:
    """A person opens `verification_uri` in a browser, signs in there, and confirms `user_code`."""
    source = str(request.scope["state"].get("source", "an unknown address"))
    async with plane.transaction(None) as conn:
        asked = await devices.begin(conn, source)
    if asked is None:
        raise Refused("rate_limited", "too many commands wait to be signed in; try again in a few minutes")
    page = f"{base_of(logins.settings)}/auth/device"
    return Begun(
        device_code=asked.device_code,
        user_code=asked.user_code,
        verification_uri=page,
        verification_uri_complete=f"{page}?user_code={asked.user_code}",
        expires_in=devices.LASTS_S,
        interval=devices.INTERVAL_S,
    )


@post(
    "/auth/device/token",
    status_code=200,
    opt={
        "action": "public",
        "limited": True,
        "answers": Answers(
            {200: Signed},
            ("authorization_pending", "slow_down", "access_denied", "expired_token", "rate_limited"),
            body=DeviceCode,
        ),
    },
    summary="Ask whether the command is signed in",
)
async def fetch(request: Request[Any, Any, Any], plane: NamedDependency[Plane]) -> Response[Signed]:
    """The secret, once, after a person said yes. `code` of a refusal is as RFC 8628 section 3.5 names it."""
    ask = await asked_by(request, _asking)
    async with plane.transaction(None) as conn:
        found = await devices.fetch(conn, ask.device_code)
    match found.state:
        case "waiting":
            raise Refused("authorization_pending", "nobody has confirmed the code yet")
        case "too_fast":
            raise Refused("slow_down", f"ask every {devices.INTERVAL_S} s, and 5 s longer after this answer")
        case "refused":
            raise Refused("access_denied", "whoever was asked said no")
        case "expired":
            raise Refused("expired_token", "no sign-in waits with this code; begin again")
    signed = await sessions.hand_over(plane, found.tenant, found.session)
    if signed is None:
        raise Refused("access_denied", "the session that allowed it was ended since")
    issued, subject = signed
    body = Signed(subject, issued.text, "Bearer", timestamp(issued.expires_at.astimezone(dt.UTC)))
    return Response(body, status_code=200, headers={"Cache-Control": "no-store"})


@get("/device", opt={"action": "account:own", "page": True, "query": ("user_code",)})
async def confirm(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[str]:
    """Which command asks, to the person who is to say."""
    given = request.query_params.get("user_code", "")
    code, told = devices.normal(given) if given else "", None
    if code:
        async with plane.transaction(None) as conn:
            told = await devices.waiting(conn, code)
        if told is None:
            raise Refused("not_found", "no command waits with this code; they are kept for ten minutes")
    return shown(pages.device(request.user, word_of(request), code, told))


@post("/device", status_code=200, opt={"action": "account:own", "page": True, "form": True})
async def answer(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[str]:
    """Yes or no."""
    fields, who = await fields_of(request), request.user
    if who.credential is None or request.scope["state"].get("session") is None:
        raise Refused("forbidden", "only a browser that is signed in here hands on a sign-in")
    what: devices.Confirmation = "allowed" if fields.get("answer") == "allow" else "refused"
    code = devices.normal(fields.get("user_code", ""))
    async with plane.transaction(None) as conn:
        done = await devices.answer(conn, code, what, tenant=who.tenant, session=who.credential)
    if not done:
        raise Refused("not_found", "no command waits with this code any more")
    said = "The command is signed in." if what == "allowed" else "The command was refused."
    return shown(pages.message("Done", said, "You can close this page.", link=("/auth", "Your account")))


HANDLERS = (begin, fetch)
PAGES = (confirm, answer)
