# SPDX-License-Identifier: Apache-2.0
"""One job as a line of a site's accounts, joined on Slurm's job id (G6). Pure.

Enters a row of `accounting.store` with the entry of its outcome; leaves an `Accounted`. Times are UTC, as text and as
whole seconds since 1970, rounded down as Slurm does. What isn't known yet, or was never told, is null: a job that
hasn't ended has no end, one that ran on a simulator no processor time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from control_plane.jobs import view
from control_plane.jobs.evidence import Row
from ledger.canonical import parse_time, timestamp

SlurmState: TypeAlias = Literal["PENDING", "RUNNING", "COMPLETING", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"]
_STATES: Final[dict[str, SlurmState]] = {
    "QUEUED": "PENDING",
    "HELD": "PENDING",
    "AWAITING_APPROVAL": "PENDING",
    "COMPILING": "RUNNING",
    "RESERVING": "RUNNING",
    "EXECUTING": "RUNNING",
    "SEALING": "COMPLETING",
    "COMPLETED": "COMPLETED",
    "CANCELED": "CANCELLED",
    "FAILED": "FAILED",
    "DENIED": "FAILED",
    "UNCERTAIN": "FAILED",
}
"""What Slurm calls a job's state; `qcos_state` has ours."""
_EXITS: Final[dict[SlurmState, str]] = {
    "COMPLETED": "0:0",
    "FAILED": "1:0",
    "TIMEOUT": "1:0",
    "CANCELLED": "0:15",
}


class Accounted(Struct, frozen=True):
    """One job of the plane."""

    slurm_job_id: Annotated[
        str | None,
        Meta(description="Of the Slurm job that submitted it; else of the one, or with commas those, as which it ran."),
    ]
    ran_slurm_job_id: Annotated[str | None, Meta(description="Of the Slurm job as which it ran.")]
    account: str | None
    user: str
    cluster: str | None
    partition: str | None
    project: str
    job_id: str
    acquisition_id: Annotated[str, Meta(description="The vendor's id of the task; else the job's own.")]
    session: Annotated[str | None, Meta(description="Of the workflow that it is a step of: ID, or ID/SESSION.")]
    resource: Annotated[str | None, Meta(description="The backend.")]
    state: SlurmState
    qcos_state: str
    exit: Annotated[str | None, Meta(description="Code and signal, as Slurm writes them.")]
    shots: Annotated[int | None, Meta(description="Executed.")]
    created: str
    created_epoch: int
    running: str | None
    running_epoch: int | None
    finished: str | None
    finished_epoch: int | None
    qpu_seconds: str | None
    simulator_seconds: str | None
    cost: Annotated[str | None, Meta(description="What was charged.")]
    currency: str


def record(row: Row) -> Accounted:
    """The line of a job."""
    told, ran, submitter = view.outcome(row), row["ran_as"] or {}, row["accounting"] or {}
    facts = {fact["meter"]: fact["quantity"] for fact in told.get("facts", ())}
    began, ended = _span(row, told.get("charge"))
    state = _state(row)
    workflow = row["workflow"] or {}
    return Accounted(
        slurm_job_id=submitter.get("slurm_job_id") or ran.get("slurm_job_id"),
        ran_slurm_job_id=ran.get("slurm_job_id"),
        account=submitter.get("account"),
        user=row["actor"],
        cluster=submitter.get("cluster"),
        partition=ran.get("slurm_partition"),
        project=row["project"],
        job_id=row["job_id"],
        acquisition_id=ran.get("task_id") or row["job_id"],
        session="/".join(workflow[name] for name in ("id", "session") if name in workflow) or None,
        resource=row["backend"],
        state=state,
        qcos_state=row["state"],
        exit=_EXITS.get(state) if row["state"] != "UNCERTAIN" else None,
        shots=int(facts["shots"]) if "shots" in facts else None,
        created=timestamp(row["submitted_at"]),
        created_epoch=_epoch(row["submitted_at"]),
        running=timestamp(began) if began is not None else None,
        running_epoch=_epoch(began) if began is not None else None,
        finished=timestamp(ended) if ended is not None else None,
        finished_epoch=_epoch(ended) if ended is not None else None,
        qpu_seconds=facts.get("qpu_seconds"),
        simulator_seconds=facts.get("simulator_seconds"),
        cost=view.plain(row["cost_amount"]) if row["state"] in view.ENDED else None,
        currency=row["currency"],
    )


def _state(row: Row) -> SlurmState:
    late = (row["error"] or {}).get("code") == "deadline_exceeded"
    return "TIMEOUT" if row["state"] == "FAILED" and late else _STATES[row["state"]]


def _span(row: Row, charge: Mapping[str, Any] | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """When it ran: as its charge has it; else from handing over to its end, as far as it came."""
    if charge is not None and charge.get("started_at") and charge.get("ended_at"):
        return parse_time(charge["started_at"]), parse_time(charge["ended_at"])
    came = {event["state"]: parse_time(event["at"]) for event in row["history"]}
    ended = next((came[state] for state in ("SEALING", "DENIED") if state in came), None)
    return came.get("EXECUTING"), ended


def _epoch(at: dt.datetime) -> int:
    return int(at.timestamp() // 1)
