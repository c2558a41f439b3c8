# SPDX-License-Identifier: Apache-2.0
"""The development issuer over HTTP; mounted in profile `dev` alone (G13)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from litestar import Request, Response, get, post

from control_plane.auth.issuer import LocalIssuer
from control_plane.auth.keys import dev_login_is
from control_plane.errors import Refused


def handlers(issuer: LocalIssuer, home: Path) -> list[Any]:
    """Discovery, keys, and tokens against the secret that lies in the home folder."""

    @get(
        "/issuer/.well-known/openid-configuration",
        opt={"action": "public"},
        include_in_schema=False,
    )
    async def discovery() -> dict[str, Any]:
        return issuer.discovery()

    @get("/issuer/jwks.json", opt={"action": "public"}, include_in_schema=False)
    async def jwks() -> dict[str, Any]:
        return issuer.jwks()

    @post(
        "/issuer/token",
        status_code=200,
        opt={"action": "public"},
        include_in_schema=False,
    )
    async def token(request: Request[Any, Any, Any]) -> Response[Any]:
        try:
            form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        except ValueError:
            raise Refused("request_invalid", "wanted a form of user and client_secret") from None
        given = form.get("client_secret", [""])[0]
        if not dev_login_is(home, given):
            raise Refused("forbidden", "the development secret of this home is needed")
        issued = issuer.issue(form.get("user", [""])[0], now=dt.datetime.now(dt.UTC))
        return Response(
            {
                "access_token": issued.access_token,
                "token_type": "Bearer",
                "subject": issued.subject,
                "expires_at": issued.expires_at.isoformat().replace("+00:00", "Z"),
            },
            headers={"Cache-Control": "no-store"},
        )

    return [discovery, jwks, token]
