# SPDX-License-Identifier: Apache-2.0
"""Signing in with a browser (G13, S1): pages at /auth, none of them part of the API's document.

A login begins and ends as GET, because a provider sends people back so; what changes something afterwards is a form of
the plane's own page, with the session's word in it. Errors are pages too.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.api.entering import session_for
from control_plane.auth import flow, pages, sessions
from control_plane.auth.browser import BEGUN, CSRF_FIELD, SESSION, cookie, csrf_of, demand_own_form, forgotten
from control_plane.auth.logins import Logins, base_of
from control_plane.auth.principal import Principal
from control_plane.auth.saml.logins import SamlLogins
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.settings import Settings

MOST_FIELDS = 16


def shown(text: str, *cookies: Cookie, status: int = 200) -> Response[str]:
    """A page as an answer."""
    headers = dict(pages.HEADERS)
    return Response(text, status_code=status, media_type="text/html", headers=headers, cookies=list(cookies))


def sent_to(address: str, *cookies: Cookie) -> Response[str]:
    """A way on, with cookies to keep."""
    headers = {**pages.HEADERS, "Location": address}
    return Response("", status_code=303, media_type="text/html", headers=headers, cookies=list(cookies))


async def fields_of(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The fields of a page's form; one that comes with a browser's session must have the session's word in it."""
    try:
        given = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused("request_invalid", "wanted a form of this plane's own page") from None
    fields = dict(given)
    if len(fields) != len(given):
        raise Refused("request_invalid", "a field is given twice")
    if (session := request.scope["state"].get("session")) is not None:
        demand_own_form(fields.get(CSRF_FIELD), session)
    return fields


def word_of(request: Request[Any, Any, Any]) -> str:
    """What this page's forms carry; nothing where no browser's session is there to be misused."""
    session = request.scope["state"].get("session")
    return csrf_of(session) if session else ""


def own_address(settings: Settings, request: Request[Any, Any, Any]) -> str | None:
    """Where the browser should have asked, if it asked elsewhere and no setting says which of the two is right.

    127.0.0.1 and localhost are two sites to a browser: begun at one, the login would come back to the other.
    """
    base, asked = base_of(settings), request.headers.get("host", "")
    if settings.url is not None or not asked or asked == base.partition("//")[2]:
        return None
    query = urlencode(dict(request.query_params))
    return f"{base}{request.scope['path']}{'?' if query else ''}{query}"


@get("/login", opt={"action": "public", "limited": True, "page": True, "query": ("provider", "next")})
async def login(request: Request[Any, Any, Any], logins: NamedDependency[Logins]) -> Response[str]:
    """Where to sign in, or straight on to the provider that is named."""
    given = request.query_params
    if (own := own_address(logins.settings, request)) is not None:
        return sent_to(own)
    if name := given.get("provider"):
        there = next((one for one in logins.settings.providers if one.name == name and one.kind != "oidc"), None)
        if there is not None:
            return sent_to(pages.login_at(there, flow.next_of(given.get("next"))))
        address, kept = await logins.begin(name, given.get("next"))
        return sent_to(address, kept)
    listed = [one for one in logins.settings.providers if one.listed and one.browser]
    return shown(pages.login(listed, flow.next_of(given.get("next"))))


@get("/callback/{provider:str}", opt={"action": "public", "limited": True, "page": True, "foreign_query": True})
async def callback(
    provider: FromPath[str],
    request: Request[Any, Any, Any],
    plane: NamedDependency[Plane],
    logins: NamedDependency[Logins],
) -> Response[str]:
    """Back from a provider, with a code. What it adds of its own to the address is passed over."""
    headers = request.scope["headers"]
    given = {name: request.query_params[name] for name in request.query_params}
    came = await logins.finish(provider, given, cookie(headers, BEGUN))
    opened = await session_for(request, plane, came.principal, came.provider, came.sid)
    return sent_to(came.next, opened.cookie, forgotten(BEGUN))


@get("/", opt={"action": "account:own", "page": True})
async def account(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[str]:
    """Who one is here, and what stands in one's name."""
    return shown(pages.account(request.user, await sessions.own(plane, request.user), word_of(request)))


@post("/logout", status_code=200, opt={"action": "account:own", "page": True, "form": True})
async def logout(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    logins: NamedDependency[Logins],
    saml: NamedDependency[SamlLogins],
) -> Response[str]:
    """End this session, another of one's own, or all of them."""
    fields, who = await fields_of(request), request.user
    if other := fields.get("session"):
        if not await sessions.end(plane, who, other):
            raise Refused("not_found", "you have no such session")
        return sent_to("/auth")
    if fields.get("everywhere"):
        await sessions.end_all(plane, who)
    elif who.credential is not None:
        await sessions.end(plane, who, who.credential)
    link = await (saml.goodbye(plane, who) if who.via == "saml" else logins.goodbye(who.issuer))
    on = (link, "Sign out at your provider, too") if link else ("/auth/login", "Sign in again")
    said = "You are signed out of this plane" + (", everywhere." if fields.get("everywhere") else ".")
    return shown(pages.message("Signed out", said, link=on), forgotten(SESSION))


@post("/backchannel/{provider:str}", status_code=200, opt={"action": "public", "limited": True})
async def backchannel(
    provider: FromPath[str],
    request: Request[Any, Any, Any],
    plane: NamedDependency[Plane],
    logins: NamedDependency[Logins],
) -> Response[str]:
    """A provider says that somebody signed out there (OpenID Connect Back-Channel Logout 1.0)."""
    token = (await fields_of(request)).get("logout_token", "")
    who, sid = await logins.signed_out(provider, token)
    await sessions.end_all(plane, who, sid=sid, reason="signed out at the provider")
    return Response("", status_code=200, media_type="text/plain", headers={"Cache-Control": "no-store"})


HANDLERS = (login, callback, account, logout, backchannel)
