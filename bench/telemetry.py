# SPDX-License-Identifier: Apache-2.0
"""`make bench-telemetry`: what one traced call costs its process, in CPU: off, on but not recorded, and recorded.

The receiver is a process of its own that takes everything and answers 200. A call is a span and, where its name has
one, the histogram of its duration.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.record import Figures, Run, main, table
from control_plane import telemetry
from control_plane.settings import Settings
from control_plane.telemetry.config import Telemetry

SINK = """
import http.server
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_port, flush=True)
server.serve_forever()
"""
A_TRACE = 8
OFF, UNRECORDED, RECORDED = "off", "on, not recorded", "on, recorded, OTLP over HTTP"


@telemetry.traced("job.gate")
async def _work() -> None:
    """Nothing but the call."""


async def _bare() -> None:
    """The same without it."""


def measure(run: Run) -> None:
    """Each way in turn, with a receiver beside it."""
    from control_plane.telemetry import export

    calls = 4_000 if run.quick else 40_000
    bare_us = _cpu_us(_bare, calls * 10)[0]
    rows = [{"way": OFF, "caller_us": _cpu_us(_work, calls * 10)[0] - bare_us, "exporter_us": 0.0}]
    with _receiver() as endpoint, tempfile.TemporaryDirectory() as home:
        for way, share in ((UNRECORDED, 0.0), (RECORDED, 1.0)):
            found = Telemetry(endpoint=endpoint, sample=share, traces_per_s=0, queue=1 << 20, logs=False)
            running = export.start(Settings(home=Path(home), telemetry=found), "bench")
            assert running is not None
            caller_us, rest_us = _cpu_us(_trace, calls // A_TRACE, running.close)
            spans = A_TRACE + 1
            rows.append({"way": way, "caller_us": caller_us / spans, "exporter_us": rest_us / spans})
    run.keep(calls=calls, rows=rows)


async def _trace() -> None:
    with telemetry.span("job.attempt", job_id="qcos-job-of-the-bench", attempt=1):
        for _ in range(A_TRACE):
            await _work()


def _cpu_us(work: Callable[[], Awaitable[None]], times: int, after: Callable[[], None] | None = None) -> Any:
    """CPU of a call in its own thread, and of all others of this process until what it left has been sent."""

    async def repeat() -> float:
        begun = time.thread_time()
        for _ in range(times):
            await work()
        return time.thread_time() - begun

    whole = time.process_time()
    own = asyncio.run(repeat())
    if after is not None:
        after()
    return own / times * 1e6, (time.process_time() - whole - own) / times * 1e6


@contextmanager
def _receiver() -> Iterator[str]:
    child = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}"
    finally:
        child.kill()
        child.wait()


def tables(figures: Figures) -> dict[str, str]:
    """One line a way."""
    rows = [f"| {r['way']} | {r['caller_us']:.2f} µs | {r['exporter_us']:.1f} µs |" for r in figures.get("rows", ())]
    return (
        {"telemetry": table("| telemetry | CPU a call, in its caller | in the exporter's thread |", rows)}
        if rows
        else {}
    )


if __name__ == "__main__":
    main("telemetry", measure, tables)
