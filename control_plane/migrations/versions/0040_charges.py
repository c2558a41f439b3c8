# SPDX-License-Identifier: Apache-2.0
"""Charged lines, one row each, written in the transaction that settles (G6, G7, I3, I6).

`finops.add_charges` is the one way in: `jobs.advance` calls it for a job's end, everything else through the store. It
asks `finops.open_month` in which month the lines count, and that takes the tenant's lock of months, shared: closing a
month takes it alone, so a charge is in a month before it closes or in the one after, and the ledger has both in that
order. A charge waits for that lock with its job's and its budgets' rows locked: whoever closes MUST NOT lock those.
"""

from __future__ import annotations

import importlib

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0040_charges"
down_revision = "0039_signing"
branch_labels = None
depends_on = None

# A line of usage names the entry that tells of it; a job's first line has number 0, so that jobs are counted without
# sorting their ids, and no end where nobody knows how the job ended.
TABLES = """
CREATE TABLE finops.charge (
    tenant text NOT NULL,
    entry_id uuid NOT NULL,
    line smallint NOT NULL CHECK (line >= 0),
    category text NOT NULL CHECK (category IN ('usage', 'credit', 'correction', 'refund', 'shared')),
    month text COLLATE "C" NOT NULL CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    charged_at timestamptz NOT NULL,
    job_id text,
    project text,
    cost_center text,
    team text,
    pseudonym text,
    purpose text,
    classification text,
    provider text,
    backend text,
    region text,
    started_at timestamptz,
    ended_at timestamptz,
    meter text,
    quantity numeric CHECK (quantity >= 0),
    unit text,
    rate numeric CHECK (rate >= 0),
    amount numeric NOT NULL CHECK (abs(amount) < 1e15 AND (amount >= 0 OR category <> 'usage')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    source text CHECK (source IN ('vendor', 'measured', 'estimated')),
    reporter text,
    rate_card text,
    PRIMARY KEY (tenant, entry_id, line)
);
CREATE INDEX charge_of_month ON finops.charge (tenant, month, project);
CREATE INDEX charge_of_time ON finops.charge (tenant, charged_at);
CREATE INDEX charge_of_job ON finops.charge (tenant, job_id);
"""

OPEN_MONTH = """
CREATE FUNCTION finops.open_month(p_tenant text, p_at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('finops.month'), hashtext(p_tenant));
    RETURN to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM');
END
$$;
"""

COLUMNS = (
    "job_id, project, cost_center, team, pseudonym, purpose, classification, provider, backend, region, started_at, "
    "ended_at, meter, quantity, unit, rate, amount, currency, source, reporter, rate_card"
)
# p_charges: [{column: value}], the lines of one entry or of several of one moment. Answers their sum.
ADD_CHARGES = f"""
CREATE FUNCTION finops.add_charges(p_tenant text, p_charges jsonb) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    v_month text;
    v_sum numeric;
BEGIN
    IF jsonb_array_length(p_charges) = 0 THEN
        RETURN 0;
    END IF;
    v_month := finops.open_month(p_tenant, (p_charges -> 0 ->> 'charged_at')::timestamptz);
    WITH added AS (
        INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, {COLUMNS})
            SELECT p_tenant, entry_id, line, category, v_month, charged_at, {COLUMNS}
            FROM jsonb_populate_recordset(NULL::finops.charge, p_charges)
            RETURNING amount)
    SELECT sum(amount) INTO v_sum FROM added;
    RETURN v_sum;
END
$$;
"""

FUNCTIONS = {"open_month(text, timestamptz)": OPEN_MONTH, "add_charges(text, jsonb)": ADD_CHARGES}

# `p_write` of `jobs.advance` may have "charges", as `add_charges` takes them: their sum is what is captured. Before
# the entries are taken in: an entry's place in the log is given under the lock of the months.
CHARGE = """
    IF p_write ? 'charges' AND finops.add_charges(p_tenant, p_write -> 'charges')
        IS DISTINCT FROM (v_money ->> 'capture')::numeric THEN
        RAISE EXCEPTION 'the charges of % are not what it captures', v_id;
    END IF;
"""
TAKE_IN = "    PERFORM ledger.take_in("


def upgrade() -> None:
    """Create the table behind its wall and the functions, and let a job's end write what it was charged for."""
    op.execute(TABLES)
    # What was charged stays: a correction is a line of its own.
    protect("finops.charge", app="SELECT, INSERT")
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION finops.{signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION finops.{signature} TO {roles().app}")
    op.execute(_advance().replace(TAKE_IN, CHARGE.lstrip("\n") + TAKE_IN))


def downgrade() -> None:
    """Drop them."""
    op.execute(_advance())
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION finops.{signature}")
    op.execute("DROP TABLE finops.charge")


def _advance() -> str:
    """The function as revision 27 left it."""
    registry = importlib.import_module("control_plane.migrations.versions.0015_registry")
    made: str = registry._advance((*registry.MEASURED, "approval", "approver"))  # noqa: SLF001 - the one form of it
    return made
