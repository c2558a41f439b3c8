# SPDX-License-Identifier: Apache-2.0
"""What the sealer did, as spans and metrics: one span a batch with links, and a span in each recorded job's own trace.

The traceparent of an entry came with its inbox row. Which token belongs to which trace is kept here, bounded, between
the seal and the stamp; after a restart of the sealer a stamp is measured but belongs to no job's trace.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanContext

from control_plane import telemetry
from control_plane.telemetry import Value
from control_plane.telemetry.recorder import Recorder
from control_plane.telemetry.w3c import from_text
from ledger.canonical import parse_time

if TYPE_CHECKING:
    from ledger.batch import Laid, Row

log = logging.getLogger("qcos.sealer")
KEPT = 4096


class Seals:
    """Hears the sealer (`ledger.sealer_config.Watching`)."""

    def __init__(self) -> None:
        """Tell this process's recorder, which is there."""
        recorder = telemetry.current()
        assert isinstance(recorder, Recorder)
        self._recorder = recorder
        self._awaited: OrderedDict[bytes, SpanContext] = OrderedDict()

    def sealed(self, rows: Sequence[Row], laid: Laid, began_ns: int) -> None:
        """A batch is committed: its own span, and one in each recorded trace, under the work that wrote the entry."""
        try:
            self._sealed(rows, laid, began_ns)
        except Exception as error:
            log.warning("a seal wasn't told of", exc_info=error)

    def stamped(self, operator: str, imprints: Sequence[bytes], began_ns: int) -> None:
        """Tokens are stored: they end the traces whose evidence waited for them."""
        try:
            self._stamped(operator, imprints, began_ns)
        except Exception as error:
            log.warning("a stamp wasn't told of", exc_info=error)

    def failed(self, what: str, error: Exception) -> None:
        """Something is tried again."""
        del error  # the sealer has logged it
        self._recorder.count("qcos.seal.failures", 1, {"what": what})
        if what == "timestamps":
            self._recorder.count("qcos.stamp.failures", 1, {})

    def _sealed(self, rows: Sequence[Row], laid: Laid, began_ns: int) -> None:
        ended_ns = time.time_ns()
        parents = _recorded(rows)
        attributes: dict[str, Value] = {"entries": len(laid.placed), "size": laid.size}
        self._recorder.past("ledger.batch", began_ns, ended_ns, attributes, links=list(parents.values()))
        self._recorder.measure("qcos.seal.batch", len(laid.placed), {})
        spans = {
            text: self._recorder.past("ledger.seal", began_ns, ended_ns, attributes, parent=parent)
            for text, parent in parents.items()
        }
        by_bundle = {row.bundle_id: spans.get(row.traceparent or "") for row in rows if row.bundle_id is not None}
        for item in (one.item for one in laid.placed):
            made, evidence = item.signed, item.evidence
            if made is None or evidence is None:
                continue
            at = parse_time(item.draft.time)
            self._recorder.measure("qcos.seal.lag", max(0.0, ended_ns / 1e9 - at.timestamp()), {})
            span = by_bundle.get(evidence.bundle_id)
            if span is not None and made.p256 is not None and made.mldsa65 is not None:
                for signature in (made.mldsa65, made.p256):
                    self._awaited[hashlib.sha256(signature).digest()] = span
        while len(self._awaited) > KEPT:
            self._awaited.popitem(last=False)

    def _stamped(self, operator: str, imprints: Sequence[bytes], began_ns: int) -> None:
        ended_ns = time.time_ns()
        # Two authorities may stamp one signature: what is known of it stays until newer ones push it out.
        parents = {parent.span_id: parent for one in imprints if (parent := self._awaited.get(one)) is not None}
        attributes: dict[str, Value] = {"operator": operator, "tokens": len(imprints)}
        self._recorder.past("ledger.stamps", began_ns, ended_ns, attributes, links=list(parents.values()))
        for parent in parents.values():
            self._recorder.past("ledger.stamp", began_ns, ended_ns, {"operator": operator}, parent=parent)


def _recorded(rows: Sequence[Row]) -> dict[str, SpanContext]:
    """The recorded spans under which a batch's entries were written, each once."""
    texts = {row.traceparent for row in rows if row.traceparent is not None}
    found = {text: from_text(text) for text in sorted(texts)}
    return {text: context for text, context in found.items() if context is not None and context.trace_flags.sampled}
