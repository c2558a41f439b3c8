# SPDX-License-Identifier: Apache-2.0
"""The outermost layer of an API process: one log line a request, and its span and measurement where telemetry is on.

The line has method, route, status and duration, and the ids that were bound while it was served; never an address, a
query, a header or a body (I10). Liveness and readiness are asked all the time: their lines are for `debug`.
"""

from __future__ import annotations

import logging
import time
from typing import Any, TypeAlias

from control_plane import telemetry

log = logging.getLogger("qcos.api")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET = frozenset({"/api/v1/health", "/api/v1/ready"})
UNROUTED = "unrouted"
GONE = 499  # the caller left before an answer began
App: TypeAlias = Any


class Seen:
    """What is known of a request while it is served, and after."""

    def __init__(self, scope: Any) -> None:
        """Begin now."""
        given = scope.get("method", "GET") if scope["type"] == "http" else "GET"
        self.method = given if given in METHODS else "_OTHER"
        self.status = 0
        self._scope = scope
        self._began = time.perf_counter()

    @property
    def route(self) -> str:
        """The template of its route, which is known once it has been routed."""
        return str(self._scope.get("path_template") or "") or UNROUTED

    @property
    def lasted_s(self) -> float:
        """Until now."""
        return time.perf_counter() - self._began

    def hear(self, message: Any) -> None:
        """Note the status on its way out."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif message["type"] == "websocket.accept":
            self.status = 101


def watched(app: App) -> App:
    """The app with its requests told of."""
    logged = _logged(app)
    recorder = telemetry.current()
    if recorder is None:
        return logged
    from control_plane.telemetry.web import traced

    return traced(logged, recorder)


def _logged(app: App) -> App:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        telemetry.unbind()  # a kept connection's next request begins in the context of the one before
        seen = scope["qcos_seen"] = Seen(scope)

        async def told(message: Any) -> None:
            seen.hear(message)
            await send(message)

        try:
            await app(scope, receive, told)
        finally:
            level = logging.DEBUG if seen.route in QUIET else logging.INFO
            if log.isEnabledFor(level):
                facts = {"method": seen.method, "route": seen.route, "status": seen.status or GONE}
                log.log(level, "request", extra=facts | {"duration_ms": round(seen.lasted_s * 1000, 1)})

    return serve
