# SPDX-License-Identifier: Apache-2.0
"""The recorder on OpenTelemetry's SDK: spans, their histograms with exemplars, counters (G8).

A histogram is recorded inside its span, so that an exemplar names the trace. Attribute values are cut at 256
characters; a label that takes more than 200 values is `other` from then on, whoever makes them up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from control_plane import telemetry
from control_plane.errors import code_of
from control_plane.telemetry.names import METRICS, SPANS, labels_of
from control_plane.telemetry.w3c import from_text, to_text

LONGEST = 256
MOST_VALUES = 200
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
# Histograms of every span have this label; what went well says so.
_OUTCOME = "outcome"
_innermost: ContextVar[Open | None] = ContextVar("qcos_span", default=None)
_NOWHERE = contexts.Context()


class Recorder:
    """Spans by `tracer`, metrics by `meter`; made once a process."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        """Make every instrument of the table that isn't a gauge; those have a home of their own."""
        self.tracer = tracer
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._seen: dict[str, set[str]] = {}
        for name, metric in METRICS.items():
            if metric.form == "counter":
                self._counters[name] = meter.create_counter(name, metric.unit, metric.means)
            elif metric.form == "histogram":
                self._histograms[name] = meter.create_histogram(name, metric.unit, metric.means)

    def span(self, name: str, parent: str | None, attributes: Mapping[str, telemetry.Value]) -> Open:
        """An open span; entered and left by `with`."""
        return Open(self, name, parent, attributes)

    def note(self, attributes: Mapping[str, telemetry.Value]) -> None:
        """Say more of the innermost span."""
        current = _innermost.get()
        if current is not None:
            current.note(attributes)

    def count(self, metric: str, number: int, attributes: Mapping[str, telemetry.Value]) -> None:
        """Add to a counter of the table."""
        self._counters[metric].add(number, self.labels(metric, attributes))

    def measure(self, metric: str, value: float, attributes: Mapping[str, telemetry.Value]) -> None:
        """Record in a histogram of the table."""
        self._histograms[metric].record(value, self.labels(metric, attributes))

    def link(self, traceparent: str) -> None:
        """The innermost span belongs to another trace too; one of that trace itself needs no link."""
        span, other = trace.get_current_span(), from_text(traceparent)
        if span.is_recording() and other is not None and other.trace_id != span.get_span_context().trace_id:
            span.add_link(other)

    def traceparent(self) -> str | None:
        """The current span, for another process; an unsampled one too, so that all decide alike."""
        return to_text(trace.get_current_span().get_span_context())

    def past(
        self,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: Mapping[str, telemetry.Value],
        *,
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] = (),
        outcome: str = "ok",
    ) -> SpanContext:
        """A span of what has already happened; without `parent` it is a trace of its own, or the current one's."""
        named = SPANS[name]
        context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), _NOWHERE)
        span = self.tracer.start_span(
            name,
            context,
            _KINDS[named.kind],
            shown(attributes),
            [Link(one) for one in links],
            start_time=began_ns,
        )
        if outcome != "ok":
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended_ns)
        if named.metric is not None:
            labels = {**attributes, **labels_of(name), _OUTCOME: outcome}
            here = trace.set_span_in_context(span, _NOWHERE)
            taken = self.labels(named.metric, labels)
            self._histograms[named.metric].record((ended_ns - began_ns) / 1e9, taken, here)
        return span.get_span_context()

    def labels(self, metric: str, given: Mapping[str, telemetry.Value]) -> dict[str, str | int]:
        """Those of the given attributes that the metric has as labels, bounded."""
        labels: dict[str, str | int] = {}
        for name in METRICS[metric].labels:
            value = given.get(name)
            if value is None:
                continue
            labels[name] = value if isinstance(value, int) else self._bounded(name, str(value))
        return labels

    def _bounded(self, name: str, value: str) -> str:
        seen = self._seen.setdefault(name, set())
        if value not in seen:
            if len(seen) >= MOST_VALUES:
                return "other"
            seen.add(value[:LONGEST])
        return value


class Open:
    """A span that is open in this task."""

    def __init__(
        self, recorder: Recorder, name: str, parent: str | None, attributes: Mapping[str, telemetry.Value]
    ) -> None:
        """Nothing begins before `with`."""
        self._recorder, self._name = recorder, name
        self._parent, self._attributes = parent, dict(attributes)
        self._span: Span = trace.INVALID_SPAN

    def __enter__(self) -> Self:
        """Begin."""
        context = None
        if self._parent is not None and (remote := from_text(self._parent)) is not None:
            context = trace.set_span_in_context(NonRecordingSpan(remote), _NOWHERE)
        self._began = time.perf_counter()
        self._span = self._recorder.tracer.start_span(
            self._name, context, _KINDS[SPANS[self._name].kind], shown(self._attributes)
        )
        self._context = contexts.attach(trace.set_span_in_context(self._span))
        self._before = _innermost.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        """End; an error is told by its stable code, never by its text (I10)."""
        lasted = time.perf_counter() - self._began
        if isinstance(error, Exception):
            self.note({_OUTCOME: "error", "code": code_of(error)})
            self._span.set_status(Status(StatusCode.ERROR, code_of(error)))
        elif error is not None:
            self.note({_OUTCOME: "canceled"})
        named = SPANS[self._name]
        if named.metric is not None:
            self._recorder.measure(named.metric, lasted, {_OUTCOME: "ok", **self._attributes, **labels_of(self._name)})
        _innermost.reset(self._before)
        contexts.detach(self._context)
        self._span.end()

    def note(self, attributes: Mapping[str, telemetry.Value]) -> None:
        """Say more of it."""
        self._attributes.update(attributes)
        if self._span.is_recording():
            self._span.set_attributes(shown(attributes))


def shown(attributes: Mapping[str, telemetry.Value]) -> dict[str, str | int | float | bool]:
    """Attributes as a span carries them: a namespace of our own, nothing unbounded, nothing empty."""
    return {
        name if "." in name else f"qcos.{name}": value[:LONGEST] if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }
