# SPDX-License-Identifier: Apache-2.0
"""Token exchange over HTTP: RFC 8693's form in, RFC 6749's words out, beside this plane's own (G13)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from msgspec import Meta, Struct

from control_plane.api.shapes import Answers, Problem
from control_plane.auth.errors import IdentityUnavailable, RateLimited
from control_plane.errors import Refused, problem
from control_plane.services.exchange import Desk
from control_plane.services.grant import ACCESS_TOKEN, EXCHANGE, FORM, GrantRefused, read, written

_SECRET = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_Type = Literal[
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:access_token",
]


class TokenExchange(Struct, frozen=True):
    """The form. `scope` is actions and project=NAME with blanks between; `service_account` says which of several."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:token-exchange"]
    subject_token: Annotated[str, Meta(min_length=1)]
    subject_token_type: _Type
    requested_token_type: Literal["urn:ietf:params:oauth:token-type:access_token"] | None = None
    scope: str | None = None
    service_account: str | None = None
    expires_in: Annotated[int, Meta(ge=1, le=999_999_999)] | None = None


class TokenIssued(Struct, frozen=True):
    """The token. `scope` is there where it is narrower than its holder's roles."""

    access_token: str
    issued_token_type: Literal["urn:ietf:params:oauth:token-type:access_token"]
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str | None = None


class TokenRefused(Problem, frozen=True):
    """A problem document with the members of RFC 6749 section 5.2."""

    error: str | None = None
    error_description: str | None = None


@post(
    "/auth/token",
    status_code=200,
    opt={
        "action": "public",
        "limited": True,
        "answers": Answers(
            {200: TokenIssued, **dict.fromkeys((400, 429, 503), TokenRefused)},
            refusals=("exchange_refused", "grant_unsupported", "token_used", "rate_limited", "identity_unavailable"),
            body=TokenExchange,
            body_as=FORM,
        ),
    },
    summary="Exchange a token",
)
async def token(request: Request[Any, Any, Any], desk: NamedDependency[Desk]) -> Response[Any]:
    """A CI system's token for its service account's, or one's own for a narrower one (RFC 8693)."""
    try:
        grant = read(await request.body(), request.headers.get("content-type", ""))
        address, let_in = request.scope["state"]["address"], request.scope["state"]["let_in"]
        given = await desk.exchange(grant, address, let_in)
    except GrantRefused as refused:
        return _refused(request, refused, refused.error)
    except (IdentityUnavailable, RateLimited) as refused:
        return _refused(request, refused, "temporarily_unavailable")
    body: dict[str, Any] = {
        "access_token": given.issued.text,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": given.lasts_s,
    }
    if (scope := written(given.scope)) is not None:
        body["scope"] = scope
    return Response(body, headers=_SECRET)


def _refused(request: Request[Any, Any, Any], refused: Refused, error: str) -> Response[Any]:
    status, document = problem(refused)
    document["request_id"] = request.scope.get("state", {}).get("request_id") or str(uuid.uuid4())
    document |= {"error": error, "error_description": refused.detail}
    headers = _SECRET | dict(getattr(refused, "headers", {}))
    return Response(msgspec.json.encode(document), status_code=status, media_type="application/json", headers=headers)


HANDLERS = (token,)
__all__ = ["EXCHANGE", "HANDLERS"]
