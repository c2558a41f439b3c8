# SPDX-License-Identifier: Apache-2.0
"""The outermost layer of an API process: one server span, one measurement and one log line a request (G8).

A caller's traceparent is gone on with where it is well-formed; nothing else of a request's headers is read. The span is
named by the route's template, which is known once the request has been routed; an address that no route has is
`unrouted`. Query, body, addresses and identities are no attributes (I10).
"""

from __future__ import annotations

import logging
import time
from typing import Any, TypeAlias

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode

from control_plane.telemetry.recorder import Recorder
from control_plane.telemetry.traceparent import from_text

log = logging.getLogger("qcos.api")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
DURATION = "http.server.request.duration"
App: TypeAlias = Any


def route_of(scope: Any) -> str:
    """The template of the route that served a request."""
    return str(scope.get("path_template") or "") or "unrouted"


def traced(app: App, recorder: Recorder) -> App:
    """The app with a server span around each request and each WebSocket."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        method = scope.get("method", "GET") if scope["type"] == "http" else "GET"
        method = method if method in METHODS else "_OTHER"
        span = recorder.tracer.start_span(
            method, _parent(scope), SpanKind.SERVER, {"http.request.method": method}, record_exception=False
        )
        token = contexts.attach(trace.set_span_in_context(span, contexts.Context()))
        began, status = time.perf_counter(), [0]

        async def told(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status[0] = message["status"]
            elif message["type"] == "websocket.accept":
                status[0] = 101
            await send(message)

        try:
            await app(scope, receive, told)
        finally:
            route, code = route_of(scope), status[0] or 499
            labels = {"http.request.method": method, "http.route": route, "http.response.status_code": code}
            recorder.measure(DURATION, time.perf_counter() - began, labels)
            if span.is_recording():
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": code})
                if request_id := scope.get("state", {}).get("request_id"):
                    span.set_attribute("qcos.request_id", request_id)
                if code >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            contexts.detach(token)
            span.end()

    return serve


def _parent(scope: Any) -> contexts.Context:
    given = [value for name, value in scope["headers"] if name == b"traceparent"]
    if len(given) == 1 and (remote := from_text(given[0].decode("latin-1"))) is not None:
        return trace.set_span_in_context(NonRecordingSpan(remote), contexts.Context())
    return contexts.Context()
