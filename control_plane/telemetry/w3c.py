# SPDX-License-Identifier: Apache-2.0
"""W3C traceparent: version 00 and, as its rule for later ones says, their first four fields.

`tracestate` and `baggage` are neither read nor sent.
"""

from __future__ import annotations

import re

from opentelemetry.trace import SpanContext, TraceFlags

_FIELDS = r"-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
_FORM = re.compile(f"00{_FIELDS}")
_LATER = re.compile(rf"(?!00|ff)[0-9a-f]{{2}}{_FIELDS}(?:-[!-~]{{0,200}})?")


def from_text(text: str) -> SpanContext | None:
    """The remote span that is named, or None where the text is not one."""
    found = _FORM.fullmatch(text) or _LATER.fullmatch(text)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED))
    return context if context.is_valid else None


def to_text(context: SpanContext) -> str | None:
    """The text that names a span, or None for the invalid one."""
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & TraceFlags.SAMPLED:02x}"
