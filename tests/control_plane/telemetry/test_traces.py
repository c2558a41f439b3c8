# SPDX-License-Identifier: Apache-2.0
"""G8, I10: a running plane that exports to a real receiver, over both protocols, and everything that it lets out."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.telemetry.names import METRICS, SPANS
from tests.e2e.plane import Answer, Plane, bell, encoded
from tests.otlp import Receiver, receiving, values

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
HEADER = "Bearer receivers-own-secret-4711"
CIRCUIT_MARK = "zzcircuitsecretzz"
WORDS_MARK = "zzjustificationzz"
KEY_MARK = "zz-idempotency-key-zz"
OPA = shutil.which("opa") or str(Path(__file__).parents[3] / ".tools" / "bin" / "opa")


class Told:
    """A plane and what its receiver got."""

    def __init__(self, plane: Plane, receiver: Receiver, protocol: str) -> None:
        self.plane, self.receiver, self.protocol = plane, receiver, protocol
        self.job_id = ""
        self.refused: list[Answer] = []

    def trace(self, trace_id: str = TRACE) -> list[dict[str, Any]]:
        return [span for span in self.receiver.spans() if span["trace"] == trace_id]

    def logs(self) -> list[dict[str, Any]]:
        lines = []
        for file in sorted((self.plane.home / "log").glob("*.log")):
            if not file.name.startswith(("postgres", "opa")):
                lines += [json.loads(line) for line in file.read_text().splitlines()]
        return lines


def soon(true: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + 30
    while not (found := true()):
        assert time.monotonic() < until, what
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module", params=["http", "grpc"])
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    """A plane whose receiver speaks this protocol, after a job that passed, one that failed and one denied."""
    with receiving() as receiver:
        over_http = request.param == "http"
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http if over_http else receiver.grpc,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf" if over_http else "grpc",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={HEADER.replace(' ', '%20')},x-lab=seven",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "QCOS_WORKERS": "1",
        }
        lines = ["[telemetry]", "traces_per_s = 0"]
        if os.access(OPA, os.X_OK) and not over_http:
            settings |= {"QCOS_POLICY_ENGINE": "opa", "QCOS_OPA_BIN": OPA}
            lines.append(f'opa_address = "{receiver.grpc.removeprefix("http://")}"')
        config = Path(request.getfixturevalue("tmp_path_factory").mktemp("plane")) / "qcos.toml"
        config.write_text("\n".join(lines))
        settings["QCOS_CONFIG"] = str(config)
        plane = Plane(**settings)
        plane.start()
        try:
            found = Told(plane, receiver, request.param)
            _work(found)
            yield found
        finally:
            plane.stop()


# What each process does last: it exports in order, so what went before is there too.
_LAST = {"ledger.stamp", "ledger.batch", "job.settle", "driver.run", "job.attempt", "GET /api/v1/jobs/{job_id}"}


def _work(told: Told) -> None:
    plane = told.plane
    passed = _marked("qubit[1] q;\nbit[1] c;\nc[0] = measure q[0];\n")
    done = plane.submit(passed, query="?wait=30", traceparent=CALLER, **{"Idempotency-Key": KEY_MARK})
    assert done.status == 200, done
    told.job_id = done.json["job_id"]
    plane.http("GET", f"/api/v1/jobs/{told.job_id}/result")
    plane.http("GET", f"/api/v1/jobs/{told.job_id}/evidence")
    plane.http("GET", "/api/v1/no/such/address")
    told.refused = [
        plane.submit(_marked("qubit[1] q;\nzzcircuitsecretzz(q[0]) -> ;\n"), query="?wait=30"),  # can't be compiled
        plane.submit(_marked("qubit[99999999] q;\n"), query="?wait=30"),
        plane.submit(passed, user="auditor", query="?wait=30"),  # denied
        plane.submit(json.dumps(passed).encode()[:-9]),
        plane.submit({**passed, "unknown": CIRCUIT_MARK}),
        plane.http("GET", "/api/v1/jobs", user=None),
        plane.http("GET", "/api/v1/jobs", token=plane.tokens["engineer"][:-4] + "AAAA"),
        plane.http("GET", f"/api/v1/jobs?unknown={KEY_MARK}"),
        plane.http("GET", "/api/v1/jobs/nobody-has-this"),
    ]
    soon(lambda: {span["name"] for span in told.receiver.spans()} >= _LAST, "the last spans of each process")
    soon(lambda: {"qcos.seal.lag", "qcos.policy.denials"} <= set(told.receiver.metrics()), "no metrics")


def _marked(body: str) -> dict[str, Any]:
    source = f'OPENQASM 3.0;\n// {CIRCUIT_MARK}\ninclude "stdgates.inc";\n{body}'
    return bell(circuit__source=encoded(source), governance__justification=WORDS_MARK)


def _by_name(spans: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        found.setdefault(span["name"], []).append(span)
    return found


def test_one_trace_leads_from_the_caller_to_the_stamp(told: Told) -> None:
    """G8: api, policy, worker, driver, child, settlement, seal and stamp, each under what caused it."""
    expected = {
        ("POST /api/v1/jobs", CALLER.split("-")[2]),
        ("job.admit", "POST /api/v1/jobs"),
        ("job.price", "job.admit"),
        ("policy.decide", "job.admit"),
        ("job.attempt", "job.admit"),
        ("driver.compile", "job.attempt"),
        ("driver.child", "driver.compile"),
        ("job.gate", "job.attempt"),
        ("job.intend", "job.attempt"),
        ("driver.submit", "job.attempt"),
        ("driver.child", "driver.submit"),
        ("driver.run", "job.attempt"),
        ("job.settle", "driver.run"),
        ("ledger.seal", "job.admit"),
        ("ledger.seal", "job.settle"),
        ("ledger.stamp", "ledger.seal"),
    }

    def parents() -> set[tuple[str, str]]:
        names = {span["id"]: span["name"] for span in told.trace()}
        return {(span["name"], names.get(span["parent"], span["parent"])) for span in told.trace()}

    soon(lambda: expected <= parents(), "a span is missing in the trace, or under another")
    spans = told.trace()
    by_name = _by_name(spans)
    services = {name: {span["service"] for span in found} for name, found in by_name.items()}
    assert services["job.admit"] == {"qcos-api"}
    assert services["job.attempt"] == {"qcos-worker"}
    assert services["ledger.seal"] == {"qcos-sealer"}
    assert by_name["job.attempt"][0]["attributes"]["qcos.job_id"] == told.job_id
    assert len(by_name["driver.child"]) == 2
    workers = {span["process"] for span in by_name["job.attempt"]}
    assert workers == {"dev/worker-1"}


def test_opa_goes_on_with_the_trace(told: Told) -> None:
    """G8: the header reaches OPA, which tells of its part to a receiver of its own where that is configured."""
    if told.protocol != "grpc":  # this plane decides by the embedded engine
        assert not [span for span in told.trace() if span["service"] == "qcos-opa"]
        return
    if not os.access(OPA, os.X_OK):
        pytest.skip("opa is not installed")
    found = soon(lambda: [s for s in told.trace() if s["service"] == "qcos-opa"], "OPA told nothing")
    (decide,) = _by_name(told.trace())["policy.decide"]
    assert decide["id"] in {span["parent"] for span in found}


def test_a_batch_links_to_every_trace_in_it(told: Told) -> None:
    def batches() -> list[dict[str, Any]]:
        return [span for span in told.receiver.spans() if span["name"] == "ledger.batch"]

    soon(lambda: any(TRACE in span["links"] for span in batches()), "no batch links to the trace")
    assert all(span["trace"] != TRACE for span in batches())


def test_a_later_request_links_to_the_jobs_trace(told: Told) -> None:
    found = [s for s in told.receiver.spans() if s["name"] == "GET /api/v1/jobs/{job_id}/result"]
    assert found
    assert found[0]["links"] == [TRACE]


def test_span_names_are_bounded(told: Told) -> None:
    """G8: the table's names and route templates; what no route has is one name."""
    names = {span["name"] for span in told.receiver.spans() if span["service"] != "qcos-opa"}
    served = {name for name in names if name not in SPANS}
    assert "GET unrouted" in served
    assert "GET /api/v1/jobs/{job_id}" in served
    assert not {"GET /api/v1/health", "GET /api/v1/ready"} & served  # probes are counted and not recorded
    assert not [name for name in served if "qcos-job" in name or "nobody" in name]


def test_what_is_sent_carries_the_header_and_comes_in_batches(told: Told) -> None:
    assert {protocol for protocol, *_ in told.receiver.requests if protocol == told.protocol} == {told.protocol}
    mine = [headers for protocol, _, headers, _ in told.receiver.requests if protocol == told.protocol]
    with_header = [headers for headers in mine if headers.get("authorization") == HEADER]
    assert with_header
    assert all(headers.get("x-lab") == "seven" for headers in with_header)
    # OPA's exporter sends none; nobody else does without.
    without = len(mine) - len(with_header)
    assert without == 0 or told.protocol == "grpc"
    largest = max(
        sum(len(scope.spans) for one in message.resource_spans for scope in one.scope_spans)
        for message in told.receiver.of("traces")
    )
    assert largest > 1


def test_every_metric_is_of_the_table(told: Told) -> None:
    expected = {
        "http.server.request.duration",
        "qcos.admission.duration",
        "qcos.policy.decision.duration",
        "qcos.driver.duration",
        "qcos.child.duration",
        "qcos.jobs.ended",
        "qcos.job.duration",
        "qcos.job.queued",
        "qcos.seal.duration",
        "qcos.seal.lag",
        "qcos.stamp.duration",
        "qcos.queue.age",
        "qcos.sealed.age",
        "qcos.inbox.entries",
        "qcos.holds",
        "qcos.hold.age",
        "qcos.process.restarts",
        "qcos.telemetry.queued",
    }
    soon(lambda: expected <= set(told.receiver.metrics()), "each process has exported")
    found = told.receiver.metrics()
    assert set(found) <= set(METRICS)
    units = {name: metric.unit for name, exports in found.items() for _, metric in exports}
    assert units == {name: METRICS[name].unit for name in units}


def test_histograms_carry_exemplars_that_name_the_trace(told: Told) -> None:
    def exemplars(name: str) -> set[str]:
        exports = told.receiver.metrics().get(name, [])
        points = [point for _, metric in exports for point in metric.histogram.data_points]
        return {exemplar.trace_id.hex() for point in points for exemplar in point.exemplars}

    def named(metric: str) -> bool:  # a bucket keeps its last exemplar, whoever's request that was
        found = exemplars(metric)
        return bool(found) and found <= {span["trace"] for span in told.receiver.spans()}

    for name in ("http.server.request.duration", "qcos.admission.duration", "qcos.attempt.duration"):
        soon(functools.partial(named, name), f"{name} has no exemplar, or of no trace that was told")


def test_labels_are_bounded(told: Told) -> None:
    for name, exports in told.receiver.metrics().items():
        for _, metric in exports:
            data = getattr(metric, metric.WhichOneof("data"))
            for point in data.data_points:
                assert set(values(point.attributes)) <= set(METRICS[name].labels), name


def test_log_lines_have_their_ids(told: Told) -> None:
    """G8: one JSON object a line; request, job and decision ids; the trace; in the file and over OTLP."""
    job_id = told.job_id
    lines = soon(lambda: [line for line in told.logs() if line.get("job_id") == job_id], "no line of the job")
    submitted = next(line for line in lines if line["message"] == "request" and line["method"] == "POST")
    assert submitted["trace_id"] == TRACE
    assert submitted["process"] == "api-1"
    assert submitted["route"] == "/api/v1/jobs"
    assert {"time", "level", "request_id", "decision_id", "span_id", "duration_ms"} <= set(submitted)
    attempt = next(line for line in lines if line["message"] == "attempt")
    assert (attempt["process"], attempt["decision_id"]) == ("worker-1", submitted["decision_id"])
    told_by_otlp = soon(
        lambda: [line for line in told.receiver.logs() if line.get("qcos.job_id") == job_id], "no line by OTLP"
    )
    assert TRACE in {line["trace_id"] for line in told_by_otlp}


def test_no_secret_leaves_the_plane(told: Told) -> None:
    """I10: tokens, keys, passwords, source and a person's words: in no log, span, metric, error, argv or environ."""
    secrets = _secrets(told.plane)
    assert len(secrets) > 8
    said = {file.name: file.read_bytes() for file in (told.plane.home / "log").iterdir()}
    said |= {f"export {number}": data for number, data in enumerate(told.receiver.bytes())}
    said |= {f"answer {number}": answer.body for number, answer in enumerate(told.refused)}
    for process in told.plane.cli("status", "--json").json["processes"]:
        for part in ("cmdline", "environ"):
            said[f"{process['name']} {part}"] = Path(f"/proc/{process['pid']}/{part}").read_bytes()
        for child in _children(process["pid"]):
            said[f"child of {process['name']}"] = child
    for where, text in said.items():
        for what, secret in secrets.items():
            assert secret not in text, f"{what} in {where}"


def _secrets(plane: Plane) -> dict[str, bytes]:
    found = {f"token of {user}": token.encode() for user, token in plane.tokens.items()}
    found |= {f"signature of {user}'s token": t.rpartition(".")[2].encode() for user, t in plane.tokens.items()}
    for file in (plane.home / "db").glob("*.password"):
        found[file.name] = file.read_bytes().strip()
    for file in [plane.home / "dev-login", *(plane.home / "keys").rglob("*")]:
        if file.is_file() and file.suffix not in {".pem", ".crt", ".der"} and "telemetry" not in file.name:
            found[str(file.relative_to(plane.home))] = file.read_bytes().strip()[-48:]
    found |= {"circuit": CIRCUIT_MARK.encode(), "words": WORDS_MARK.encode(), "key": KEY_MARK.encode()}
    found |= {
        "encoded circuit": encoded("// " + CIRCUIT_MARK).encode()[8:20],
        "header": HEADER.partition(" ")[2].encode(),
    }
    return {what: secret for what, secret in found.items() if len(secret) >= 8}


def _children(pid: int) -> list[bytes]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found.append(Path(f"/proc/{child}/environ").read_bytes() + Path(f"/proc/{child}/cmdline").read_bytes())
            found += _children(int(child))
    return found
