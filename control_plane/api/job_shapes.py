# SPDX-License-Identifier: Apache-2.0
"""A job as its owner sees it, with what became of its fragments where it ended without a result. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from control_plane.api.result_shapes import Fragment
from control_plane.api.shapes import (
    Cost,
    Decision,
    EvidenceState,
    Failure,
    Instant,
    Move,
    Route,
    Settlement,
    Workflow,
)
from control_plane.jobs.state import State


class JobShown(Struct, frozen=True):
    """Everything of a job that its owner may see."""

    job_id: str
    state: State
    decision: Decision
    cost: Cost
    evidence: EvidenceState
    attempt: int
    backend: str | None
    history: tuple[Move, ...]
    route: tuple[Route, ...]
    error: Failure | None
    partial: str | None
    settlement: Settlement | None
    project: str
    submitted_at: Instant
    workflow: Workflow | None = None
    fragments: Annotated[
        tuple[Fragment, ...],
        Meta(description="Of a network job that ended without a result: what happened to each, and who was tried."),
    ] = ()
