# SPDX-License-Identifier: Apache-2.0
"""Guarded children in traces: what their worker measured of them from outside; they are asked nothing (G8)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from control_plane import telemetry
from control_plane.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from hal_drivers.guarded import Told


def heard(told: Told) -> None:
    """A span over one call of a child, in the trace of whoever asked for it."""
    recorder = telemetry.current()
    if not isinstance(recorder, Recorder):
        return
    ended_ns = time.time_ns()
    attributes: dict[str, telemetry.Value] = {
        "operation": told.operation,
        "process.pid": told.pid,
        "cpu_s": told.cpu_s,
        "peak_memory_bytes": told.peak_memory_bytes,
    }
    began_ns = ended_ns - int(told.wall_s * 1e9)
    recorder.past("driver.child", began_ns, ended_ns, attributes, outcome=told.ending)
