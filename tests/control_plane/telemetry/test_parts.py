# SPDX-License-Identifier: Apache-2.0
"""G8, N11: settings, sampling, batches and the trace's text, each alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from control_plane import telemetry
from control_plane.errors import Refused, SettingInvalid
from control_plane.settings import located, to_json
from control_plane.telemetry import config
from control_plane.telemetry.batch import Batcher
from control_plane.telemetry.recorder import LONGEST, MOST_VALUES, Recorder
from control_plane.telemetry.sampling import Sampler
from control_plane.telemetry.w3c import from_text, to_text

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_an_endpoint_nothing_is_on_and_nothing_is_imported() -> None:
    """Off costs a comparison: no SDK, no grpc, no thread."""
    assert not config.read({}, {}).on
    code = (
        "import sys, control_plane.app, control_plane.worker, control_plane.process; "
        "print(sorted(m for m in sys.modules if m.startswith(('opentelemetry', 'grpc', 'google.protobuf'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environment_wins_over_the_file() -> None:
    table = {"endpoint": "http://127.0.0.1:1", "sample": 0.5, "headers": {"a": "file"}, "batch": 7}
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x%3D,b=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_LOGS_EXPORTER": "none",
    }
    found = config.read(table, env)
    assert (found.endpoint, found.protocol, found.sample) == ("https://collector.example:4317", "grpc", 0.25)
    assert (found.headers, found.timeout_s, found.batch) == ({"authorization": "Bearer x=", "b": "2"}, 2.5, 7)
    assert (found.traces, found.metrics, found.logs) == (True, True, False)
    assert not config.read(table, {**env, "OTEL_SDK_DISABLED": "true"}).on


@pytest.mark.parametrize(
    ("table", "env", "named"),
    [
        ({"endpoint": "collector:4318"}, {}, "telemetry.endpoint"),
        ({"endpoint": "http://user:secret@127.0.0.1:1"}, {}, "telemetry.endpoint"),
        ({"endpoint": "http://collector.example", "headers": {"a": "b"}}, {}, "telemetry.endpoint"),
        ({"endpoint": "http://127.0.0.1:1", "token_file": "/no/such/file"}, {}, "telemetry.token_file"),
        ({"endpoint": "https://h", "client_key_file": os.devnull}, {}, "telemetry.client_key_file"),
        ({"endpont": "http://127.0.0.1:1"}, {}, "endpont"),
        ({"sample": 2}, {}, "telemetry"),
        ([], {}, "telemetry"),
        ({}, {"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER"),
        ({}, {"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_"),
    ],
)
def test_a_setting_that_is_not_wanted_is_named(table: object, env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        config.read(table, env)
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


def test_headers_reach_children_by_a_file_of_their_own(tmp_path: Path) -> None:
    """I10: neither QCOS_SETTINGS nor the environment of a child has them; the file goes when they go."""
    (tmp_path / "keys").mkdir()
    token = tmp_path / "token"
    token.write_text("of-the-file\n")
    flags = {"home": str(tmp_path)}
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=s3cret"}
    settings = located(flags, env)
    config.keep_headers(settings.telemetry, tmp_path)
    kept = tmp_path / "keys" / "telemetry-headers"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"s3cret" not in to_json(settings)
    assert config.is_secret("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
    bare = config.Telemetry(endpoint="http://127.0.0.1:1", token_file=str(token))
    assert config.headers(config.with_headers(bare, tmp_path)) == {
        "x-key": "s3cret",
        "authorization": "Bearer of-the-file",
    }
    config.keep_headers(bare, tmp_path)
    assert not kept.exists()


def test_what_a_slow_receiver_does_not_take_is_lost_and_counted() -> None:
    gate, sent = threading.Event(), []

    def send(items: object) -> bool:
        sent.append(items)
        gate.wait(10)
        return len(sent) != 1

    batcher: Batcher[int] = Batcher(send, queue=10, batch=2, interval_s=0.01, name="test")
    for number in range(100):
        batcher.put(number)
    assert len(batcher) <= 10
    gate.set()
    batcher.close(10)
    assert batcher.refused in {1, 2}
    assert batcher.sent + batcher.refused + batcher.overflowed == 100
    assert batcher.overflowed >= 80


def test_an_exporter_that_raises_does_not_end_the_batches() -> None:
    def send(items: object) -> bool:
        raise RuntimeError(str(items))

    batcher: Batcher[int] = Batcher(send, queue=10, batch=2, interval_s=0.01, name="test")
    for number in range(5):
        batcher.put(number)
    batcher.close(10)
    assert (batcher.sent, batcher.refused) == (0, 5)


def _context(*, sampled: bool, remote: bool = True) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 8, is_remote=remote, trace_flags=flags)))


def test_a_burst_of_traces_is_recorded_up_to_its_rate() -> None:
    """A flood costs no more recording than `traces_per_s`, also where each caller asks to be recorded."""
    now = 0.0
    sampler = Sampler(1.0, 5.0, lambda: now)

    def recorded(context: Context | None = None, kind: SpanKind = SpanKind.SERVER) -> bool:
        return sampler.should_sample(context, 7, "n", kind).decision is Decision.RECORD_AND_SAMPLE

    assert sum(recorded() for _ in range(100)) == 5
    assert not recorded(_context(sampled=True))
    assert recorded(_context(sampled=True, remote=False), SpanKind.INTERNAL)  # what has begun goes on
    now = 1.0
    assert sum(recorded(_context(sampled=True)) for _ in range(100)) == 5
    now = 2.0
    assert not recorded(_context(sampled=False))
    assert Sampler(0.0, 0.0).should_sample(None, 2**127 - 1, "n").decision is Decision.DROP


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        (GOOD, True),
        (GOOD[:-2] + "00", True),
        ("cc-" + GOOD[3:] + "-what-the-future-will-be-like", True),
        ("00-" + "0" * 32 + GOOD[35:], False),
        (GOOD[:36] + "0" * 16 + "-01", False),
        (GOOD + "-x", False),
        ("ff" + GOOD[2:], False),
        (GOOD.upper(), False),
        (GOOD + "\n", False),
        ("", False),
    ],
)
def test_a_traceparent_is_read_strictly(text: str, sound: bool) -> None:
    assert (from_text(text) is not None) == sound


@given(st.text(max_size=80))
def test_no_text_breaks_the_reading_and_what_is_read_is_written_alike(text: str) -> None:
    found = from_text(text)
    if found is not None:
        assert from_text(to_text(found) or "") == found


def test_values_are_bounded_and_errors_are_codes() -> None:
    """I10: a span carries an error's code and never its text; endless label values end in `other`."""
    reader = InMemoryMetricReader()
    recorder = Recorder(TracerProvider().get_tracer("t"), MeterProvider([reader]).get_meter("t"))
    for number in range(MOST_VALUES + 50):
        recorder.count("qcos.policy.denials", 1, {"code": f"made_up_{number}", "person": "eve"})
    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert len(points) == MOST_VALUES + 1
    assert all(set(point.attributes or {}) == {"code"} for point in points)
    opened = recorder.span("job.gate", GOOD, {"backend": "x" * 1000})
    with pytest.raises(Refused), opened:
        raise Refused("no_result", "the secret text")
    span = opened._span
    assert span.attributes["qcos.code"] == "no_result"  # type: ignore[attr-defined]
    assert len(span.attributes["qcos.backend"]) == LONGEST  # type: ignore[attr-defined]
    assert "secret" not in span.to_json()  # type: ignore[attr-defined]
    assert to_text(span.parent) == GOOD  # type: ignore[attr-defined]


def test_no_module_hides_a_call() -> None:
    """An imported submodule takes its name in the package, and with it a function's."""
    folder = Path(telemetry.__file__).parent
    assert not {path.stem for path in folder.glob("*.py")} & set(telemetry.__all__)
