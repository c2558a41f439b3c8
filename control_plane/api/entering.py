# SPDX-License-Identifier: Apache-2.0
"""A browser's session for somebody whom a provider has just described, whatever kind of provider that is (G13)."""

from __future__ import annotations

from typing import Any

from litestar import Request

from control_plane.auth import sessions
from control_plane.auth.browser import SESSION, cookie
from control_plane.auth.principal import Principal
from control_plane.context import Plane


async def session_for(
    request: Request[Any, Any, Any], plane: Plane, who: Principal, provider: str, sid: str | None = None
) -> sessions.Opened:
    """The session that begins with this request's answer; the one that the browser came with ends."""
    return await sessions.login(
        plane,
        who,
        provider=provider,
        agent=request.headers.get("user-agent"),
        sid=sid,
        before=cookie(request.scope["headers"], SESSION),
    )
