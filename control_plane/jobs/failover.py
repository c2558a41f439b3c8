# SPDX-License-Identifier: Apache-2.0
"""A job whose backend failed goes to another, if its owner, policy and price leave one (G9, I3).

Enters a job that was handed to nobody, or whose task is over without a result; leaves the change that puts it back
into the queue with its route told, or None. A pinned job stays where it was pinned, a job of unknown outcome is never
sent again, and the setting `routing.failovers` bounds how often. The hold stays as it is until the next backend is
found, at whose gate it is made right (`jobs.holding`). What the failed attempt used is not charged, so the job is
charged once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from control_plane import telemetry
from control_plane.jobs import transition
from control_plane.jobs.spec import JobSpec
from control_plane.jobs.store import Change

# Ends that say that the backend, and not the circuit, is at fault, and that nothing of the task runs any more. What one
# backend can't express (control flow, a measurement in the middle), or only deeper than asked, another may.
PASSING = frozenset({"backend_unavailable", "budget_exceeded", "quota_exceeded"})  # what may be otherwise in a while
MOVABLE = PASSING | {"backend_failed", "depth_exceeded", "program_unsupported"}
LINES_TOLD = 64  # of a route in its entry; evidence has all
DETAIL = 500


def may_move(job: Mapping[str, Any], spec: JobSpec, code: str, most: int) -> bool:
    """Whether the job may be sent elsewhere at all."""
    # What was approved, or is being asked for, is one target.
    pinned = spec.execution.backend_constraints.backend is not None or job["approval"] is not None
    return code in MOVABLE and not pinned and len(failures(job["route"])) < most


def failures(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of attempts that failed over: each names backend, attempt and `failed`."""
    return [line for line in lines if line.get("failed")]


def said(line: Mapping[str, Any]) -> str:
    """What became of the job there."""
    failed = line["failed"]
    return f"attempt {line['attempt']} failed there: {failed['code']}: {failed['detail']}"


def marked(job: Mapping[str, Any], code: str, detail: str) -> list[dict[str, Any]]:
    """The job's route with what became of the backend that this attempt chose."""
    failed = {"code": code, "detail": detail[:DETAIL]}
    return [
        line | {"failed": failed} if line["verdict"] == "chosen" and line.get("attempt") == job["attempt"] else line
        for line in job["route"]
    ]


def kept(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of attempts that failed over; those of an attempt that was merely put back are found anew."""
    over = {line["attempt"] for line in failures(lines)}
    return [line for line in lines if line.get("attempt") in over]


def change(job: Mapping[str, Any], route: list[dict[str, Any]], code: str, now: dt.datetime) -> Change:
    """The move back to QUEUED, to be claimed at once."""
    telemetry.count("qcos.job.retries", cause=code)
    mine = [line for line in route if line.get("attempt") == job["attempt"]]
    first = sorted(mine, key=lambda line: line["verdict"] != "chosen")[:LINES_TOLD]
    return transition.move(
        job,
        ("QUEUED",),
        "job:attempt:rerouted",
        now,
        told={"cause": code, "route": first, "route_lines": len(mine)},
        route=route,
        worker=None,
        token=None,
        handle=None,
        lease_until=None,
    )
