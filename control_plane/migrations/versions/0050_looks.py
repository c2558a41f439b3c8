# SPDX-License-Identifier: Apache-2.0
"""Of one tenant's jobs, those that can begin and those that are looked at again take turns (G7, G11).

All were taken by their age: jobs that wait for a budget are older than what comes after them, and due again each
second, so that a few dozen of them kept every job behind them from ever being looked at.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0050_looks"
down_revision = "0049_put_off"
branch_labels = None
depends_on = None

NTH = "row_number() OVER (PARTITION BY r.tenant ORDER BY {}) AS nth"
# Chance decides between the two kinds: where one job is taken at a time, neither is always the first.
IN_TURN = NTH.format("w.nth, random()")
LOOKED = """(SELECT j.job_id, j.submitted_at FROM jobs.job j
             WHERE j.tenant = r.tenant AND {which}
             ORDER BY {by} LIMIT at_most + 8)"""
NUMBERED = "(SELECT o.job_id, row_number() OVER (ORDER BY o.at) AS nth FROM {} AS o)"


def upgrade() -> None:
    """Number each kind by itself."""
    op.execute(claim())


def downgrade() -> None:
    """By age alone."""
    op.execute(importlib.import_module("control_plane.migrations.versions.0049_put_off").CLAIM)


def claim() -> str:
    """The function of the revision before, which here numbers each kind by itself."""
    before = importlib.import_module("control_plane.migrations.versions.0049_put_off")
    made: str = before.CLAIM
    changes = [(NTH.format("w.submitted_at"), IN_TURN)]
    for which, by in (
        (before.FRESH, "j.submitted_at"),
        (f"{before.WAITS} AND j.lease_until < v_now", "j.lease_until"),
    ):
        old = LOOKED.format(which=which, by=by)
        changes.append((old, NUMBERED.format(old.replace("j.submitted_at FROM", f"{by} AS at FROM"))))
    for old, new in changes:
        if made.count(old) != 1:
            raise RuntimeError(f"jobs.claim isn't as revision {revision} knows it")
        made = made.replace(old, new)
    return made
