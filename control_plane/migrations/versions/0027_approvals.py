# SPDX-License-Identifier: Apache-2.0
"""A job that policy denies softly waits for a second person: what is to be approved, and who approved it (G2).

A waiting job is claimed twice: once to compile what is to be approved, and once when nobody answered in time, at which
moment its lease ends. A person's answer and a worker's end of it are kept apart by the job's number.
"""

from __future__ import annotations

import importlib
from typing import Any

from alembic import op

revision = "0027_approvals"
down_revision = "0026_notices"
branch_labels = None
depends_on = None

# What is approved stands in the job's entries; the approver's name in the job's evidence.
EXPENDABLE = frozenset({"jobs.job.approval", "jobs.job.approver"})

MEASURED = ("queue_s", "wait_s", "run_s")
ASKING = """    ), asking AS (
        SELECT j.tenant, j.job_id FROM jobs.job j
        WHERE j.state = 'AWAITING_APPROVAL' AND (j.lease_until IS NULL OR j.lease_until < clock_timestamp())
        ORDER BY j.lease_until NULLS FIRST LIMIT at_most FOR UPDATE OF j SKIP LOCKED
    ), lost AS ("""
UNFINISHED = """
CREATE INDEX job_unfinished ON jobs.job (tenant, project)
    WHERE state IN ('QUEUED', 'HELD', 'COMPILING', 'RESERVING', 'EXECUTING'{more})"""
NOTIFY = """
DROP TRIGGER admitted ON jobs.job;
CREATE TRIGGER admitted AFTER INSERT ON jobs.job FOR EACH ROW WHEN (NEW.state IN ({states}))
    EXECUTE FUNCTION jobs.tell_admitted()"""


def upgrade() -> None:
    """Keep approvals with their jobs, and let workers claim what waits for one."""
    claims, registry = _revision("0011_claims"), _revision("0015_registry")
    op.execute("ALTER TABLE jobs.job ADD COLUMN approval jsonb, ADD COLUMN approver text")
    op.execute("CREATE INDEX job_awaiting ON jobs.job (lease_until) WHERE state = 'AWAITING_APPROVAL'")
    op.execute(
        "CREATE INDEX job_approvals ON jobs.job (tenant, submitted_at DESC, job_id DESC) WHERE approval IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX job_of_approver ON jobs.job (tenant, (approval -> 'answer' ->> 'by')) WHERE approval IS NOT NULL"
    )
    op.execute("DROP INDEX jobs.job_unfinished")
    op.execute(UNFINISHED.format(more=", 'AWAITING_APPROVAL'"))
    op.execute(registry._advance((*MEASURED, "approval", "approver")))  # noqa: SLF001 - the one form of the function
    op.execute(_claim(claims, asking=True))
    op.execute(claims.HEARTBEAT.format(states=f"'QUEUED', 'AWAITING_APPROVAL', {claims.RUNNING}"))
    op.execute(NOTIFY.format(states="'QUEUED', 'AWAITING_APPROVAL'"))


def downgrade() -> None:
    """Nothing waits any more for who isn't known."""
    claims, registry = _revision("0011_claims"), _revision("0015_registry")
    op.execute(NOTIFY.format(states="'QUEUED'"))
    op.execute(claims.HEARTBEAT.format(states=f"'QUEUED', {claims.RUNNING}"))
    op.execute(_claim(claims, asking=False))
    op.execute(registry._advance(MEASURED))  # noqa: SLF001 - as above
    op.execute("DROP INDEX jobs.job_unfinished")
    op.execute(UNFINISHED.format(more=""))
    op.execute("DROP INDEX jobs.job_of_approver; DROP INDEX jobs.job_approvals; DROP INDEX jobs.job_awaiting")
    op.execute("ALTER TABLE jobs.job DROP COLUMN approval, DROP COLUMN approver")


def _claim(claims: Any, *, asking: bool) -> str:
    """The function of revision 11, which also takes what waits for an approval."""
    made: str = claims.CLAIM.format(waiting=claims.WAITING.format(sealed=""), losses=claims.LOSSES)
    if not asking:
        return made
    made = made.replace("    ), lost AS (", ASKING)
    made = made.replace("SELECT * FROM lost UNION", "SELECT * FROM lost UNION SELECT * FROM asking UNION")
    return made.replace("CASE WHEN j.state = 'QUEUED'", "CASE WHEN j.state IN ('QUEUED', 'AWAITING_APPROVAL')")


def _revision(name: str) -> Any:
    return importlib.import_module(f"control_plane.migrations.versions.{name}")
