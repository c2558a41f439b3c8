# SPDX-License-Identifier: Apache-2.0
"""Draws docs/img/trace.svg from the trace of a job that it runs: `python -m tests.docs.trace`."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import Any

from tests.e2e.plane import Plane, bell
from tests.otlp import receiving

OUT = Path(__file__).parents[2] / "docs" / "img" / "trace.svg"
TRACE = "0af7651916cd43dd8448eb211c80319c"
WIDTH, LEFT, ROW, TOP = 960, 300, 22, 34
TINTS = {"qcos-api": "#2f6fb0", "qcos-worker": "#2e8b57", "qcos-sealer": "#8a5aa8"}


def observed() -> list[dict[str, Any]]:
    """The spans of the second job of a plane: the first warms it up."""
    with receiving() as receiver:
        plane = Plane(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http, OTEL_BSP_SCHEDULE_DELAY="200", QCOS_WORKERS="1")
        plane.start()
        try:
            plane.submit(bell(), query="?wait=30")
            plane.submit(bell(), query="?wait=30", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
            until = time.monotonic() + 20
            while time.monotonic() < until:
                spans = [span for span in receiver.spans() if span["trace"] == TRACE]
                if {"ledger.stamp", "POST /api/v1/jobs", "job.attempt"} <= {span["name"] for span in spans}:
                    return spans
                time.sleep(0.2)
        finally:
            plane.stop()
    raise AssertionError("the trace isn't whole")


def drawn(spans: list[dict[str, Any]]) -> str:
    """Bars in the order of the tree, indented by depth; milliseconds above."""
    rows = list(_walk(spans, "b7ad6b7169203331", 0))
    zero = min(span["began"] for span in spans)
    end_ms = (max(span["ended"] for span in spans) - zero) / 1e6
    scale = (WIDTH - LEFT - 20) / end_ms
    height = TOP + ROW * len(rows) + 10
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="12" role="img">'
        ),
        f"<title>The trace of one job, {end_ms:.0f} ms</title>",
        (
            "<desc>A bar for each span, indented below its cause: request, admission and the policy's decision, "
            "the worker's attempt with compiling and running in a guarded child, seals and the time-stamp.</desc>"
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for tick in range(0, int(end_ms) + 1, 50):
        x = LEFT + tick * scale
        lines.append(f'<line x1="{x:.1f}" y1="24" x2="{x:.1f}" y2="{height}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{x:.1f}" y="18" fill="#555">{tick} ms</text>')
    for number, (span, depth) in enumerate(rows):
        y = TOP + ROW * number
        begun, lasted = (span["began"] - zero) / 1e6, (span["ended"] - span["began"]) / 1e6
        tint = TINTS.get(span["service"], "#777")
        lines.append(f'<text x="{8 + 14 * depth}" y="{y + 12}" fill="#222">{escape(span["name"])}</text>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 12}" fill="{tint}" text-anchor="end">{span["process"][4:]}</text>')
        lines.append(
            f'<rect x="{LEFT + begun * scale:.1f}" y="{y}" width="{max(1.5, lasted * scale):.1f}" height="15" '
            f'fill="{tint}"><title>{lasted:.1f} ms</title></rect>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _walk(spans: list[dict[str, Any]], parent: str, depth: int) -> Any:
    for span in sorted((one for one in spans if one["parent"] == parent), key=lambda one: one["began"]):
        yield span, depth
        yield from _walk(spans, span["id"], depth + 1)


if __name__ == "__main__":
    OUT.write_text(drawn(observed()), encoding="utf-8")
