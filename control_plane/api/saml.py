# SPDX-License-Identifier: Apache-2.0
"""Signing in and out with a SAML provider (G13): pages at /auth/saml, none of them part of the API's document.

A refusal is a page with status 401 that names its reason: whoever set the provider up needs it, and it says nothing
that the message's sender doesn't know.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.api.entering import session_for
from control_plane.api.login import own_address, sent_to, shown
from control_plane.auth import flow, pages
from control_plane.auth.browser import cookie
from control_plane.auth.saml.logins import BEGUN, SamlLogins, done
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.context import Plane
from control_plane.errors import Refused

MOST_FIELDS = 8


def _refused(name: str, error: SamlRefused) -> Response[str]:
    link = (f"/auth/saml/{quote(name)}/login", "Begin anew")
    text = pages.message("The login is refused", f"What {name} said is refused. {error.detail}", link=link)
    return shown(text, status=401)


@get("/{provider:str}/login", opt={"action": "public", "limited": True, "page": True, "query": ("next",)})
async def login(
    provider: FromPath[str], request: Request[Any, Any, Any], saml: NamedDependency[SamlLogins]
) -> Response[str]:
    """On to the provider."""
    if (own := own_address(saml.settings, request)) is not None:
        return sent_to(own)
    try:
        address, kept = await saml.begin(provider, flow.next_of(request.query_params.get("next")))
    except SamlRefused as error:
        return _refused(provider, error)
    return sent_to(address, kept)


@post("/{provider:str}/acs", status_code=200, opt={"action": "public", "limited": True, "page": True, "form": True})
async def acs(
    provider: FromPath[str],
    request: Request[Any, Any, Any],
    plane: NamedDependency[Plane],
    saml: NamedDependency[SamlLogins],
) -> Response[str]:
    """Back from the provider, with its answer in a form."""
    headers = request.scope["headers"]
    saml.table(provider)
    try:
        came, said = await saml.finish(plane, provider, await _field(request, "SAMLResponse"), cookie(headers, BEGUN))
        opened = await session_for(request, plane, came.principal, came.provider, came.sid)
        await saml.began(plane, came, said)
    except SamlRefused as error:
        return _refused(provider, error)
    return sent_to(came.next, opened.cookie, done())


@get("/{provider:str}/logout", opt={"action": "public", "limited": True, "page": True, "foreign_query": True})
async def logout(
    provider: FromPath[str],
    request: Request[Any, Any, Any],
    plane: NamedDependency[Plane],
    saml: NamedDependency[SamlLogins],
) -> Response[str]:
    """The provider ends its person's sessions here, or says that its own has ended."""
    query = (request.scope.get("query_string") or b"").decode("latin-1")
    try:
        answer = await saml.logged_out(plane, provider, query)
    except SamlRefused as error:
        return _refused(provider, error)
    if isinstance(answer, str):
        return sent_to(answer)
    said = "You are signed out of this plane" + (" and at your provider." if answer else "; your provider isn't sure.")
    return shown(pages.message("Signed out", said, link=("/auth/login", "Sign in again")))


@get("/{provider:str}/metadata", opt={"action": "public", "limited": True})
async def metadata(provider: FromPath[str], saml: NamedDependency[SamlLogins]) -> Response[bytes]:
    """What the provider's administrator reads in; needs nothing of the provider's."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(await saml.metadata(provider), media_type="application/samlmetadata+xml", headers=headers)


async def _field(request: Request[Any, Any, Any], name: str) -> str:
    try:
        given = parse_qsl((await request.body()).decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused("request_invalid", "wanted the form that an identity provider sends") from None
    found = [value for key, value in given if key == name]
    if len(found) != 1:
        raise Refused("request_invalid", f"wanted one {name} in the form of an identity provider")
    return found[0]


HANDLERS = (login, acs, logout, metadata)
