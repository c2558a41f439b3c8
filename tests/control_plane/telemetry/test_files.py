# SPDX-License-Identifier: Apache-2.0
"""G8: the dashboard, the alert rules and the collector's sample speak of what the plane emits and of nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.telemetry import config
from control_plane.telemetry.names import METRICS, SPANS, prometheus

DEPLOY = Path(__file__).parents[3] / "deploy"
SERIES = re.compile(r"\b(?:qcos|http_server)_[a-z_]+\b")
SUFFIXES = ("_bucket", "_count", "_sum")
NAMES = {prometheus(name): name for name in METRICS}
# Resource attributes that a Prometheus has as labels, and what the rules' functions are given.
OTHER_LABELS = {"le", "deployment_environment_name"}


def metric_of(series: str) -> str:
    """The metric of the table that a series belongs to; fails where there is none."""
    if series in NAMES:
        return NAMES[series]
    base = next(series.removesuffix(suffix) for suffix in SUFFIXES if series.endswith(suffix))
    name = NAMES[base]
    assert METRICS[name].form == "histogram", series
    return name


def expressions() -> list[str]:
    """Every query of dashboard and rules."""
    board = json.loads((DEPLOY / "grafana" / "qcos.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return found + [rule["expr"] for rule in rules()]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "alerts" / "qcos.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_a_query_names_metrics_and_labels_that_the_plane_emits(expression: str) -> None:
    named = {series for series in SERIES.findall(expression) if series not in OTHER_LABELS}
    assert named
    labels = {label.replace(".", "_") for series in named for label in METRICS[metric_of(series)].labels}
    for inner in re.findall(r"\{([^}]*)\}", expression):
        assert {part.partition("=")[0].rstrip("!") for part in inner.split(",") if part} <= labels | OTHER_LABELS
    for inner in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {part.strip() for part in inner.split(",")} <= labels | OTHER_LABELS
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_shows_every_metric() -> None:
    """A metric that nobody sees is found by nobody."""
    board = (DEPLOY / "grafana" / "qcos.json").read_text()
    missing = {name for name in METRICS if prometheus(name) not in board}
    assert missing == set()


def test_panels_do_not_overlap() -> None:
    panels = json.loads((DEPLOY / "grafana" / "qcos.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_each_alert_says_what_to_do() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_the_collectors_pipelines_name_what_it_has() -> None:
    """Its parts are declared, and the settings that its comment proposes are settings."""
    text = (DEPLOY / "otel" / "collector.yaml").read_text()
    document = yaml.safe_load(text)
    for pipeline in document["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(document[kind])
    assert set(document["service"]["extensions"]) <= set(document["extensions"])
    proposed = set(re.findall(r"^#   (\w+) =", text, re.MULTILINE))
    assert proposed <= set(config.Telemetry.__struct_fields__)


def test_the_tables_agree_with_each_other() -> None:
    for name, span in SPANS.items():
        if span.metric is not None:
            assert METRICS[span.metric].form == "histogram", name
            assert set(span.labels) <= set(METRICS[span.metric].labels)
    assert set(config.MEANS) == set(config.Telemetry.__struct_fields__)
    assert len(NAMES) == len(METRICS)
