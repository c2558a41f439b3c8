# SPDX-License-Identifier: Apache-2.0
"""An admission locks its budgets last: whoever shares one waits for a hold and a commit, not for all that is written.

The hold was made first, so that a refusal had nothing to undo. Row, key, blobs and entries are written before it now,
in a transaction of their own within the function's, which a refusal takes back whole (I3).
"""

from __future__ import annotations

from alembic import op

revision = "0050_late_holds"
down_revision = "0049_put_off"
branch_labels = None
depends_on = None

REFUSED = "QC001"  # the SQLSTATE by which the function undoes what it wrote; it never leaves it

HOLD = "    IF v_hold IS NOT NULL THEN\n"
ROW = "    INSERT INTO jobs.job SELECT v_job.* ON CONFLICT DO NOTHING;\n"
USAGE = "    -- The rows are locked in one order, whoever counts.\n"
TAKEN_IN = "    PERFORM ledger.take_in(p_tenant, p_write, p_blobs, p_entries);\n"
TOLD = "CASE WHEN v_short IS NULL THEN v_outcome ELSE jsonb_build_object('exceeded', v_short)::text END;\n"
ANSWERED = f"            RETURN {TOLD}"
UNDONE = f"            v_outcome := {TOLD}            RAISE SQLSTATE '{REFUSED}';\n"
ADMITTED = "    RETURN 'admitted';\nEND\n"
CAUGHT = f"    RETURN 'admitted';\nEXCEPTION WHEN SQLSTATE '{REFUSED}' THEN\n    RETURN v_outcome;\nEND\n"


def upgrade() -> None:
    """Row, key, blobs and entries, then hold and usage."""
    text = _text()
    hold, row = text[text.index(HOLD) : text.index(ROW)], text[text.index(ROW) : text.index(USAGE)]
    _replace(
        text,
        (hold + row, row + TAKEN_IN + hold.replace(ANSWERED, UNDONE)),
        (TAKEN_IN + ADMITTED, CAUGHT),
    )


def downgrade() -> None:
    """The hold first."""
    text = _text()
    row, hold = text[text.index(ROW) : text.index(TAKEN_IN)], text[text.index(HOLD) : text.index(USAGE)]
    _replace(
        text,
        (row + TAKEN_IN + hold, hold.replace(UNDONE, ANSWERED) + row),
        (CAUGHT, TAKEN_IN + ADMITTED),
    )


def _text() -> str:
    found: str = op.get_bind().exec_driver_sql("SELECT pg_get_functiondef('jobs.admit'::regproc)").scalar_one()
    return found


def _replace(text: str, *changes: tuple[str, str]) -> None:
    """Change the function; each piece MUST be there once."""
    for old, new in changes:
        if text.count(old) != 1:
            raise RuntimeError(f"jobs.admit isn't as revision {revision} knows it")
        text = text.replace(old, new)
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))
