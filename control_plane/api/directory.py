# SPDX-License-Identifier: Apache-2.0
"""Signing in with the password of a directory (G13, S1): an address for commands, a form for browsers.

The password is in the body of one request, goes on to the directory, and is in nothing that this answers, logs or
keeps. The form is taken from a page of this plane alone: else another page could sign somebody in as its own author.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Meta, Struct

from control_plane.api.bodies import asked_by
from control_plane.api.device import Signed
from control_plane.api.entering import session_for
from control_plane.api.login import fields_of, sent_to, shown
from control_plane.api.shapes import Answers
from control_plane.auth import browser, flow, pages, sessions
from control_plane.auth.errors import PasswordRefused
from control_plane.auth.ldap.logins import LdapLogins
from control_plane.context import Plane
from ledger.canonical import timestamp


class Password(Struct, frozen=True, forbid_unknown_fields=True):
    """Who somebody is at which directory, and what proves it."""

    provider: Annotated[str, Meta(min_length=1, max_length=63)]
    user: Annotated[str, Meta(min_length=1, max_length=256)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


_asking = msgspec.json.Decoder(Password)


@post(
    "/auth/ldap",
    status_code=200,
    opt={
        "action": "public",
        "limited": True,
        "answers": Answers(
            {200: Signed},
            (
                "not_found",
                "password_refused",
                "login_failed",
                "tenant_unknown",
                "tenant_closed",
                "person_removed",
                "rate_limited",
                "identity_unavailable",
            ),
            body=Password,
        ),
    },
    summary="Sign in with the password of a directory",
)
async def sign_in(
    request: Request[Any, Any, Any], plane: NamedDependency[Plane], directories: NamedDependency[LdapLogins]
) -> Response[Signed]:
    """A token of the plane's own, shown once. Tries of one name are bounded, whoever makes them."""
    asked = await asked_by(request, _asking)
    who = await directories.sign_in(asked.provider, asked.user, asked.password)
    issued = await sessions.command(plane, who, provider=asked.provider)
    body = Signed(who.subject, issued.text, "Bearer", timestamp(issued.expires_at.astimezone(dt.UTC)))
    return Response(body, status_code=200, headers={"Cache-Control": "no-store"})


@get("/ldap/{provider:str}", opt={"action": "public", "limited": True, "page": True, "query": ("next",)})
async def form(
    provider: FromPath[str], request: Request[Any, Any, Any], directories: NamedDependency[LdapLogins]
) -> Response[str]:
    """Where a browser asks for name and password."""
    found, _ = directories.table(provider)
    return _asked(pages.password(found.name, flow.next_of(request.query_params.get("next")), ""))


@post("/ldap/{provider:str}", status_code=200, opt={"action": "public", "limited": True, "page": True})
async def entered(
    provider: FromPath[str],
    request: Request[Any, Any, Any],
    plane: NamedDependency[Plane],
    directories: NamedDependency[LdapLogins],
) -> Response[str]:
    """A session, or the form again."""
    headers = {name.lower(): value for name, value in request.scope["headers"]}
    browser.demand_own_origin(headers, browser.origins(plane.settings.url, headers.get(b"host")))
    found, _ = directories.table(provider)
    fields = await fields_of(request)
    user, following = fields.get("user", ""), flow.next_of(fields.get("next"))
    try:
        who = await directories.sign_in(provider, user, fields.get("password", ""))
    except PasswordRefused:
        return _asked(pages.password(found.name, following, user[:256], wrong=True), status=401)
    opened = await session_for(request, plane, who, provider)
    return sent_to(following, opened.cookie)


def _asked(text: str, *, status: int = 200) -> Response[str]:
    """The form's page: without a referrer a browser would keep its origin to itself, which `entered` wants to see."""
    answer = shown(text, status=status)
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


HANDLERS = (sign_in,)
PAGES = (form, entered)
