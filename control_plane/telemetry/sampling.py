# SPDX-License-Identifier: Apache-2.0
"""Which traces are recorded: what a parent decided holds; where none did, a share, and at most so many a second.

A caller's wish to be recorded counts like any other beginning, so that nobody makes the plane record without bound;
a caller that is not recorded isn't here either. Metrics count everything, recorded or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult, TraceIdRatioBased
from opentelemetry.sdk.trace.sampling import Sampler as SamplerProtocol
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class Sampler(SamplerProtocol):
    """`share` of the traces that begin here, and at most `per_s` a second (0: no limit), a second's worth at once."""

    def __init__(self, share: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a second's worth."""
        self._ratio = TraceIdRatioBased(share)
        self._per_s, self._clock = per_s, clock
        self._left, self._at = max(per_s, 1.0), clock()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """A server span begins a trace here, whoever may have begun it elsewhere; others follow their parent."""
        del links, trace_state
        parent = trace.get_current_span(parent_context).get_span_context()
        if parent.is_valid and (kind is not SpanKind.SERVER or not parent.trace_flags.sampled):
            recorded = bool(parent.trace_flags.sampled)
        else:
            share = self._ratio.should_sample(None, trace_id, name).decision
            recorded = share is Decision.RECORD_AND_SAMPLE and self._granted()
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes) if recorded else _DROPPED

    def get_description(self) -> str:
        """In words, for the SDK's logs."""
        return f"qcos({self._ratio.get_description()}, {self._per_s:g}/s)"

    def _granted(self) -> bool:
        if not self._per_s:
            return True
        now = self._clock()
        self._left = min(max(self._per_s, 1.0), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


_DROPPED = SamplingResult(Decision.DROP)
