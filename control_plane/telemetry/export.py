# SPDX-License-Identifier: Apache-2.0
"""OTLP over HTTP or gRPC for one process: `start` puts a recorder behind `telemetry`, `Running.close` sends what waits.

The receiver is no dependency of the plane: each signal has a bounded queue, a request has `timeout_s`, and what is lost
is counted and told by the next metrics that arrive. Heavy imports (grpc, protobuf) happen here, once telemetry is on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from control_plane import telemetry
from control_plane.environment import qcos_version
from control_plane.settings import Settings
from control_plane.telemetry import config
from control_plane.telemetry.batch import Batcher
from control_plane.telemetry.names import METRICS, NUMBERS, SECONDS
from control_plane.telemetry.protocols import exporters_of
from control_plane.telemetry.recorder import Recorder
from control_plane.telemetry.sampling import Sampler

CLOSE_S = 3.0
_SCOPE = "qcos"


class Spans(SpanProcessor):
    """Ended spans into a batcher."""

    def __init__(self, batcher: Batcher[ReadableSpan]) -> None:
        """Feed this one."""
        self.batcher = batcher

    def on_end(self, span: ReadableSpan) -> None:
        """Queue it if it is sampled."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self.batcher.put(span)


class Logs(LogRecordProcessor):
    """Log records into a batcher."""

    def __init__(self, batcher: Batcher[ReadableLogRecord]) -> None:
        """Feed this one."""
        self.batcher = batcher

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue it."""
        readable = ReadableLogRecord(
            log_record=log_record.log_record,
            resource=log_record.resource or Resource.get_empty(),
            instrumentation_scope=log_record.instrumentation_scope,
            limits=log_record.limits,
        )
        self.batcher.put(readable)

    def shutdown(self) -> None:
        """The batcher is closed apart."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is kept here."""
        del timeout_millis
        return True


class Running:
    """The exporters of this process."""

    def __init__(self, settings: Settings, process: str) -> None:
        """Make them; nothing is sent yet."""
        found = config.with_headers(settings.telemetry, settings.home)
        self._limit_s = min(CLOSE_S, found.timeout_s)
        self._batchers: dict[str, Batcher[Any]] = {}
        self._metrics_lost = 0
        self._meters: MeterProvider | None = None
        resource = Resource.create(_resource(found, settings, process))
        exporters = exporters_of(found)
        traces = TracerProvider(
            sampler=Sampler(found.sample, found.traces_per_s),
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attributes=32, max_links=256, max_events=8, max_span_attribute_length=256),
        )
        if found.traces:
            spans = exporters.spans()
            batcher = self._batcher("traces", found, lambda b: spans.export(b) is SpanExportResult.SUCCESS)
            traces.add_span_processor(Spans(batcher))
        if found.metrics:
            self._meters = _meters(found, resource, _counting(exporters.metrics(), self._lose))
        meters = self._meters or MeterProvider(shutdown_on_exit=False)
        self.meter = meters.get_meter(_SCOPE, qcos_version())
        if found.logs:
            records = exporters.logs()
            lines = self._batcher("logs", found, lambda b: records.export(b) is LogRecordExportResult.SUCCESS)
            provider = LoggerProvider(resource, shutdown_on_exit=False)
            provider.add_log_record_processor(Logs(lines))
            from control_plane.telemetry.lines import Exported

            self._handler: logging.Handler | None = Exported(provider.get_logger(_SCOPE))
            logging.getLogger().addHandler(self._handler)
        else:
            self._handler = None
        self._tell_of_itself()
        self.recorder = Recorder(traces.get_tracer(_SCOPE, qcos_version()), self.meter)
        telemetry.begin(self.recorder)

    def close(self) -> None:
        """Send what waits, for a few seconds at most; the plane's end waits no longer for a receiver."""
        telemetry.begin(None)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        for batcher in self._batchers.values():
            batcher.close(self._limit_s)
        if self._meters is not None:
            self._meters.shutdown(timeout_millis=self._limit_s * 1000)

    def lost(self) -> dict[tuple[str, str], int]:
        """(signal, reason) → how much never arrived."""
        found = {("metrics", "refused"): self._metrics_lost}
        for signal, batcher in self._batchers.items():
            found |= {(signal, "queue_full"): batcher.overflowed, (signal, "refused"): batcher.refused}
        return {key: number for key, number in found.items() if number}

    def _lose(self) -> None:
        self._metrics_lost += 1

    def _batcher(self, signal: str, found: config.Telemetry, send: Callable[[Sequence[Any]], bool]) -> Batcher[Any]:
        made: Batcher[Any] = Batcher(
            send, queue=found.queue, batch=found.batch, interval_s=found.batch_interval_s, name=signal
        )
        self._batchers[signal] = made
        return made

    def _tell_of_itself(self) -> None:
        def dropped(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(n, {"signal": signal, "reason": why}) for (signal, why), n in self.lost().items()]

        def queued(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(len(batcher), {"signal": signal}) for signal, batcher in self._batchers.items()]

        for name, look in (("qcos.telemetry.dropped", dropped), ("qcos.telemetry.queued", queued)):
            metric = METRICS[name]
            make = (
                self.meter.create_observable_counter if metric.form == "counter" else self.meter.create_observable_gauge
            )
            make(name, [look], metric.unit, metric.means)


def start(settings: Settings, process: str) -> Running | None:
    """Telemetry of this process, or None where it is off."""
    return Running(settings, process) if settings.telemetry.on else None


def _resource(found: config.Telemetry, settings: Settings, process: str) -> dict[str, str | int]:
    kind = process.rpartition("-")[0] or process
    return {
        "service.name": f"{found.service}-{kind}",
        "service.namespace": found.service,
        "service.instance.id": f"{settings.plane}/{process}",
        "service.version": qcos_version(),
        "deployment.environment.name": settings.profile,
        "qcos.plane": settings.plane,
        "process.pid": os.getpid(),
    }


def _counting(exporter: Any, lose: Callable[[], None]) -> MetricExporter:
    export = exporter.export

    def counted(*args: Any, **kwargs: Any) -> MetricExportResult:
        result: MetricExportResult = export(*args, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            lose()
        return result

    exporter.export = counted
    return cast("MetricExporter", exporter)


def _meters(found: config.Telemetry, resource: Resource, exporter: MetricExporter) -> MeterProvider:
    reader = PeriodicExportingMetricReader(
        exporter,
        export_interval_millis=found.metric_interval_s * 1000,
        export_timeout_millis=found.timeout_s * 1000,
    )
    views = [
        View(
            instrument_name=name,
            aggregation=ExplicitBucketHistogramAggregation(SECONDS if metric.unit == "s" else NUMBERS),
        )
        for name, metric in METRICS.items()
        if metric.form == "histogram"
    ]
    return MeterProvider([reader], resource, shutdown_on_exit=False, views=views)
