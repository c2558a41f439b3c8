# SPDX-License-Identifier: Apache-2.0
"""Every span and every metric that the plane emits, in one table each; the documentation, the dashboard and the alert
rules are held against it by tests.

Labels are bounded: states, stable codes, routes, ids that an administrator configured. No label names a tenant, a
person or a job; those are attributes of spans and members of log lines.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["internal", "server", "client", "consumer"]
Form = Literal["histogram", "counter", "gauge"]
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
NUMBERS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Named(Struct, frozen=True):
    """A span: its kind, the histogram of its duration, the fixed labels there, and what it covers."""

    kind: Kind
    metric: str | None
    means: str
    labels: dict[str, str] = {}


class Metric(Struct, frozen=True):
    """A metric: its form, its unit (UCUM, as OTLP has it), its labels, and what it says."""

    form: Form
    unit: str
    labels: tuple[str, ...]
    means: str


SPANS: dict[str, Named] = {
    "job.admit": Named("internal", "qcos.admission.duration", "price, decide, hold, record"),
    "job.price": Named("internal", "qcos.step.duration", "read card, budgets, usage, backends", {"step": "price"}),
    "policy.decide": Named("client", "qcos.policy.decision.duration", "one decision; OPA gets this span's traceparent"),
    "job.attempt": Named("consumer", "qcos.attempt.duration", "a worker's attempt, from claim to outcome"),
    "driver.compile": Named("client", "qcos.driver.duration", "compiling, queue for a child included"),
    "driver.submit": Named("client", "qcos.driver.duration", "handing over, after the intent is durable"),
    "driver.run": Named("client", "qcos.driver.duration", "waiting for the outcome and settling it"),
    "driver.child": Named("internal", "qcos.child.duration", "a guarded child at work, timed from outside it"),
    "job.gate": Named("internal", "qcos.step.duration", "the dispatch gate", {"step": "gate"}),
    "job.intend": Named("internal", "qcos.step.duration", "the client token is made durable", {"step": "intend"}),
    "job.settle": Named("internal", "qcos.step.duration", "charges, capture, evidence, one commit", {"step": "settle"}),
    "ledger.batch": Named("consumer", "qcos.seal.duration", "one batch sealed; links to each trace in it"),
    "ledger.seal": Named("consumer", None, "the same time, as part of one job's trace"),
    "ledger.stamps": Named("client", "qcos.stamp.duration", "tokens fetched and stored; links to each trace"),
    "ledger.stamp": Named("client", None, "the same time, as part of one job's trace"),
}

_OPERATIONS = {"driver.compile": "compile", "driver.submit": "submit", "driver.run": "run"}

METRICS: dict[str, Metric] = {
    "http.server.request.duration": Metric(
        "histogram",
        "s",
        ("http.request.method", "http.route", "http.response.status_code"),
        "requests by route and status",
    ),
    "qcos.admission.duration": Metric("histogram", "s", ("outcome", "code"), "submissions: queued, denied, refused"),
    "qcos.step.duration": Metric("histogram", "s", ("step", "outcome", "code"), "price, gate, intend, settle"),
    "qcos.policy.decision.duration": Metric("histogram", "s", ("engine", "outcome", "code"), "decisions"),
    "qcos.policy.denials": Metric("counter", "{denial}", ("code",), "reasons of denials, each once a decision"),
    "qcos.attempt.duration": Metric("histogram", "s", ("outcome", "code"), "attempts at jobs"),
    "qcos.job.retries": Metric("counter", "{job}", ("cause",), "jobs put back into the queue"),
    "qcos.jobs.ended": Metric("counter", "{job}", ("state", "code"), "settled jobs by final state and failure code"),
    "qcos.job.duration": Metric("histogram", "s", ("state",), "from submission to the settled outcome"),
    "qcos.job.queued": Metric("histogram", "s", (), "from submission to a worker's first claim"),
    "qcos.driver.duration": Metric("histogram", "s", ("operation", "backend", "outcome", "code"), "backend latency"),
    "qcos.child.duration": Metric("histogram", "s", ("operation", "outcome"), "guarded children at work"),
    "qcos.seal.duration": Metric("histogram", "s", ("outcome",), "a batch from taking to commit"),
    "qcos.seal.batch": Metric("histogram", "{entry}", (), "entries a batch"),
    "qcos.seal.lag": Metric("histogram", "s", (), "from an outcome's time to its seal"),
    "qcos.seal.failures": Metric("counter", "{failure}", ("what",), "the sealer had to try again"),
    "qcos.stamp.duration": Metric("histogram", "s", ("operator", "outcome"), "rounds of time-stamp tokens"),
    "qcos.stamp.failures": Metric("counter", "{failure}", (), "rounds of time-stamps that failed"),
    "qcos.jobs": Metric("gauge", "{job}", ("state",), "jobs that haven't ended"),
    "qcos.queue.age": Metric("gauge", "s", (), "how long the oldest queued job has waited"),
    "qcos.sealed.age": Metric("gauge", "s", (), "how long the oldest entry has waited for its seal"),
    "qcos.seal.alarm": Metric("gauge", "{alarm}", ("code",), "1 while this alarm stops sealing"),
    "qcos.inbox.entries": Metric("gauge", "{entry}", (), "entries that are durable and not sealed"),
    "qcos.log.entries": Metric("gauge", "{entry}", (), "entries that the newest checkpoint covers"),
    "qcos.stamps.awaited": Metric("gauge", "{token}", ("operator",), "time-stamp tokens awaited"),
    "qcos.stamps.age": Metric("gauge", "s", ("operator",), "how long the oldest of them has been awaited"),
    "qcos.witness.entries": Metric("gauge", "{entry}", ("witness",), "entries that this witness has cosigned"),
    "qcos.outside.faults": Metric("gauge", "{party}", ("code",), "witnesses and anchors of which this code is true"),
    "qcos.holds": Metric("gauge", "{hold}", ("state",), "budget holds: held, or parked by an unknown outcome"),
    "qcos.hold.age": Metric("gauge", "s", ("state",), "age of the oldest"),
    "qcos.backends": Metric("gauge", "{backend}", ("state",), "backends that workers report"),
    "qcos.process.ready": Metric("gauge", "{process}", ("process",), "1 while the process serves"),
    "qcos.process.restarts": Metric("counter", "{restart}", ("process",), "restarts since `qcos up`"),
    "qcos.process.memory": Metric("gauge", "By", ("process",), "resident memory"),
    "qcos.telemetry.dropped": Metric("counter", "{item}", ("signal", "reason"), "what telemetry itself has lost"),
    "qcos.telemetry.queued": Metric("gauge", "{item}", ("signal",), "what waits to be exported"),
}


def labels_of(span: str) -> dict[str, str]:
    """The labels that a span's histogram always has."""
    operation = _OPERATIONS.get(span)
    return SPANS[span].labels if operation is None else {"operation": operation}


def prometheus(name: str) -> str:
    """A metric's name once OTLP has been translated for Prometheus (dots, unit and `_total` as its rules say)."""
    metric = METRICS[name]
    unit = {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
    return name.replace(".", "_") + unit + ("_total" if metric.form == "counter" else "")
