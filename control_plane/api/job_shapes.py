# SPDX-License-Identifier: Apache-2.0
"""A job as its owner sees it, with what became of its fragments where it ended without a result. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from control_plane.api.result_shapes import Fragment
from control_plane.api.shapes import (
    Cost,
    Decision,
    EvidenceState,
    Failure,
    Hash,
    Instant,
    Move,
    Route,
    Settlement,
    Waiting,
    Workflow,
)
from control_plane.jobs.state import State


class BoundShown(Struct, frozen=True):
    """What is approved: nothing else runs by it. Hashes of each circuit as submitted, of what was compiled, and of the
    backend as policy judges it.
    """

    sources: tuple[Hash, ...]
    compiled: Hash
    target: Hash
    backend: str


class AnswerShown(Struct, frozen=True):
    """Who said yes, until when, or no, and why."""

    by: str | None
    reason: str
    at: Instant
    decision_id: str
    expires_at: Instant | None = None


class ApprovalShown(Struct, frozen=True):
    """What a job needs somebody's approval for, and what became of it."""

    state: Literal["preparing", "requested", "granted", "used", "rejected", "expired", "refused"]
    reasons: Annotated[tuple[str, ...], Meta(description="Codes of what it overrides.")]
    wait_until: Annotated[Instant, Meta(description="When a request that nobody answered ends.")]
    bound: BoundShown | None = None
    requested_at: Instant | None = None
    answer: AnswerShown | None = None
    used_at: Instant | None = None


class EnvelopeShown(Struct, frozen=True):
    """Under which of their keys its owner signed the request."""

    form: Literal["jose", "cose"]
    alg: str
    key_id: str


class FactShown(Struct, frozen=True):
    """One metered quantity, and who says so."""

    meter: str
    quantity: str
    unit: str
    source: Literal["vendor", "measured", "estimated"]
    by: str


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
    waiting: Waiting | None = None
    accounting: Annotated[
        dict[str, str] | None, Meta(description="The batch job that submitted it, in the words of its spec.")
    ] = None
    ran_as: Annotated[
        dict[str, str] | None,
        Meta(description="By what else the work is known where it ran: slurm_job_id, slurm_partition, task_id."),
    ] = None
    facts: Annotated[
        tuple[FactShown, ...], Meta(description="What it used, once its outcome is sealed; what is unknown is absent.")
    ] = ()
    approval: ApprovalShown | None = None
    envelope: EnvelopeShown | None = None
    fragments: Annotated[
        tuple[Fragment, ...],
        Meta(description="Of a network job that ended without a result: what happened to each, and who was tried."),
    ] = ()
