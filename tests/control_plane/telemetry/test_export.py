# SPDX-License-Identifier: Apache-2.0
"""G8: one process's exporters against a real receiver: there, refusing, away, behind TLS."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import telemetry
from control_plane.settings import Settings
from control_plane.telemetry import export
from control_plane.telemetry.config import Protocol, Telemetry
from tests.otlp import receiving

PROTOCOLS: tuple[Protocol, ...] = ("http/protobuf", "grpc")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Exporters' own warnings are not this test's matter; the recorder goes with the test."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    yield
    telemetry.begin(None)
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def started(home: Path, **settings: Any) -> export.Running:
    given = {"timeout_s": 1.0, "batch_interval_s": 0.05, "metric_interval_s": 0.2, "traces_per_s": 0.0}
    running = export.start(Settings(home=home, telemetry=Telemetry(**{**given, **settings})), "worker-1")
    assert running is not None
    return running


def work(times: int) -> None:
    for _ in range(times):
        with telemetry.span("job.attempt", attempt=1):
            telemetry.count("qcos.job.retries", cause="lost_worker")
    logging.getLogger("qcos.test").warning("said in passing")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_all_three_signals_arrive_behind_tls(tmp_path: Path, protocol: Protocol, compression: str) -> None:
    certificate = tmp_path / "receiver.pem"
    with receiving(tls=certificate) as receiver:
        endpoint = receiver.grpc if protocol == "grpc" else receiver.http
        running = started(
            tmp_path,
            endpoint=endpoint,
            protocol=protocol,
            ca_file=str(certificate),
            compression=compression,
            headers={"Authorization": "Bearer t"},
        )
        work(20)
        running.close()
        assert len(receiver.spans()) == 20
        assert "qcos.attempt.duration" in receiver.metrics()
        assert "said in passing" in {line["body"] for line in receiver.logs()}
        assert {headers.get("authorization") for headers in receiver.headers()} == {"Bearer t"}
        assert running.lost() == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_of_another_authority_gets_nothing(tmp_path: Path, protocol: Protocol) -> None:
    with receiving(tls=tmp_path / "receiver.pem") as receiver:
        endpoint = receiver.grpc if protocol == "grpc" else receiver.http
        running = started(tmp_path, endpoint=endpoint, protocol=protocol)
        work(3)
        running.close()
        assert receiver.requests == []
        assert running.lost()[("traces", "refused")] == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_is_away_costs_the_plane_nothing(tmp_path: Path, protocol: Protocol) -> None:
    """What waits is bounded, what is lost is counted, and neither work nor the end waits for anybody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    threads = threading.active_count()
    running = started(tmp_path, endpoint=f"http://127.0.0.1:{port}", protocol=protocol, queue=64, batch=16)
    began = time.thread_time()
    work(500)
    assert time.thread_time() - began < 5  # its own time: nobody was waited for
    running.close()
    lost = running.lost()
    assert lost[("traces", "queue_full")] >= 300
    assert lost[("traces", "queue_full")] + lost[("traces", "refused")] == 500
    assert threading.active_count() <= threads + 8


def test_what_was_lost_is_told_once_the_receiver_takes_again(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.refusing = True
        running = started(tmp_path, endpoint=receiver.grpc, protocol="grpc")
        work(10)
        until = time.monotonic() + 20
        while not running.lost().get(("traces", "refused")):
            assert time.monotonic() < until
            time.sleep(0.02)
        receiver.refusing = False
        work(5)
        running.close()
        told = receiver.metrics()["qcos.telemetry.dropped"][-1][1].sum.data_points
        assert {(p.attributes[0].value.string_value, p.attributes[1].value.string_value) for p in told} >= {
            ("traces", "refused")
        }
