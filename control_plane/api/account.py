# SPDX-License-Identifier: Apache-2.0
"""Who may sign people in, and what stands in one's own name: sessions and sign-ins of commands (G13, S1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane.api.shapes import Answers, Instant
from control_plane.auth import sessions
from control_plane.auth.browser import SESSION, forgotten
from control_plane.auth.credentials import Credential
from control_plane.auth.logins import Logins
from control_plane.auth.principal import Principal
from control_plane.auth.providers import Provider
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.settings import Settings
from ledger.canonical import timestamp


class DeviceClient(Struct, frozen=True):
    """What a command needs to sign in at an issuer by itself (RFC 8628, RFC 8707)."""

    issuer: str
    client_id: str
    scope: str
    resource: str | None


class Offered(Struct, frozen=True):
    """A way to sign in. `device` where a command may try the provider's own device flow; else this plane has one."""

    name: str
    kind: Literal["oidc", "saml", "ldap"]
    device: DeviceClient | None


class OwnSession(Struct, frozen=True):
    """A session of a browser, or the sign-in of a command; `current` is what this request came with."""

    id: str
    kind: Literal["session", "token"]
    provider: str
    agent: str
    created_at: Instant
    used_at: Instant | None
    expires_at: Instant
    current: bool


@get(
    "/auth/providers",
    opt={
        "action": "public",
        "limited": True,
        "query": ("name",),
        "answers": Answers({200: list[Offered]}, ("rate_limited",)),
    },
    summary="Ways to sign in",
)
async def providers(
    logins: NamedDependency[Logins],
    name: Annotated[str | None, QueryParameter(max_length=64, pattern=r"^[^\x00]*$")] = None,
) -> list[Offered]:
    """The providers that this plane lists; or the one of this name, listed or not."""
    settings = logins.settings
    return [_offered(settings, one) for one in settings.providers if (one.listed if name is None else one.name == name)]


def _offered(settings: Settings, one: Provider) -> Offered:
    table = settings.oidc[one.number] if one.kind == "oidc" else None
    client = table.commands_client if table is not None else None
    device = None
    if table is not None and client is not None:
        device = DeviceClient(issuer=table.issuer, client_id=client, scope=table.scopes, resource=table.resource)
    return Offered(name=one.name, kind=one.kind, device=device)


@get(
    "/account/sessions",
    opt={"action": "account:own", "answers": Answers({200: list[OwnSession]})},
    summary="The caller's own sessions",
)
async def own(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> list[OwnSession]:
    """Browsers and commands that are signed in in the caller's name, the newest first."""
    return [_shown(one, request.user) for one in await sessions.own(plane, request.user)]


def _shown(one: Credential, principal: Principal) -> OwnSession:
    return OwnSession(
        id=one.id,
        kind="session" if one.kind == "session" else "token",
        provider=str(one.about.get("provider", "")),
        agent=str(one.about.get("agent", "")),
        created_at=timestamp(one.created_at),
        used_at=None if one.used_at is None else timestamp(one.used_at),
        expires_at=timestamp(one.expires_at),
        current=one.id == principal.credential,
    )


@delete(
    "/account/sessions",
    status_code=204,
    opt={"action": "account:own", "answers": Answers({204: None})},
    summary="Sign out everywhere",
)
async def everywhere(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[None]:
    """End every session of the caller, this one too. A provider's own tokens last until they expire."""
    await sessions.end_all(plane, request.user)
    return Response(None, status_code=204, cookies=[forgotten(SESSION)])


@delete(
    "/account/sessions/{session_id:str}",
    status_code=204,
    opt={"action": "account:own", "owner": "self", "answers": Answers({204: None}, ("not_found",))},
    summary="End one of the caller's sessions",
)
async def one(
    session_id: FromPath[str], request: Request[Principal, Any, Any], plane: NamedDependency[Plane]
) -> Response[None]:
    """At once, in every process. One that has ended already stays so."""
    if not await sessions.end(plane, request.user, session_id):
        raise Refused("not_found", "you have no such session")
    return Response(None, status_code=204)


HANDLERS = (providers, own, everywhere, one)
