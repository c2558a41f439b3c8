# SPDX-License-Identifier: Apache-2.0
"""The server span and the measurement of each request (G8).

A caller's traceparent is gone on with where it is well-formed; nothing else of a request's headers is read. The span is
named by the route's template, which is known once the request has been routed; an address that no route has is
`unrouted`. Query, body, addresses and identities are no attributes (I10).
"""

from __future__ import annotations

from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode

from control_plane import telemetry
from control_plane.requests import GONE, QUIET, App, Seen
from control_plane.telemetry.recorder import shown
from control_plane.telemetry.w3c import from_text

DURATION = "http.server.request.duration"


def traced(app: App, recorder: Any) -> App:
    """The app, which leaves a `Seen` in its scope, with a server span around each request and each WebSocket."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        # Probes come all the time and lead nowhere: counted, never recorded, or they would use up `traces_per_s`.
        quiet = scope["path"] in QUIET
        span = trace.INVALID_SPAN if quiet else recorder.tracer.start_span("request", _parent(scope), SpanKind.SERVER)
        token = contexts.attach(trace.set_span_in_context(span, contexts.Context()))
        try:
            await app(scope, receive, send)
        finally:
            _tell(span, scope["qcos_seen"], recorder)
            contexts.detach(token)
            span.end()

    return serve


def _tell(span: trace.Span, seen: Seen, recorder: Any) -> None:
    status = seen.status or GONE
    labels = {"http.request.method": seen.method, "http.route": seen.route, "http.response.status_code": status}
    recorder.measure(DURATION, seen.lasted_s, labels)
    if span.is_recording():
        span.update_name(f"{seen.method} {seen.route}")
        span.set_attributes({**labels, **shown(telemetry.ids())})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))


def _parent(scope: Any) -> contexts.Context:
    given = [value for name, value in scope["headers"] if name == b"traceparent"]
    if len(given) == 1 and (remote := from_text(given[0].decode("latin-1"))) is not None:
        return trace.set_span_in_context(NonRecordingSpan(remote), contexts.Context())
    return contexts.Context()
