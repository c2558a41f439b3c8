# SPDX-License-Identifier: Apache-2.0
"""Closed months with their statements, and methods of allocation (G7, I6, I7).

A month is `closing` from the moment in which nothing can be charged to it any more, and `closed` once its statement is
made. Freezing takes the tenant's lock of months alone, which every charge takes shared (revision 0040): a charge is in
the statement or in the next open month. What is frozen stays: triggers refuse what the rights of the plane's roles
already do, so that a repair by hand is refused too.
"""

from __future__ import annotations

import importlib

from alembic import op

from control_plane.migrations.walls import protect

revision = "0045_close"
down_revision = "0044_reporting"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE finops.month (
    tenant text NOT NULL,
    month text COLLATE "C" NOT NULL CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    state text NOT NULL CHECK (state IN ('closing', 'closed')),
    frozen_entry uuid NOT NULL,
    frozen_at timestamptz NOT NULL,
    closed_entry uuid,
    closed_at timestamptz,
    bundle_id uuid,
    statement bytea,
    salt bytea,
    CHECK (num_nonnulls(closed_entry, closed_at, bundle_id, statement, salt)
        = CASE state WHEN 'closed' THEN 5 ELSE 0 END),
    PRIMARY KEY (tenant, month)
);
CREATE TABLE finops.allocation (
    tenant text NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    hash text NOT NULL,
    document bytea NOT NULL,
    entry_id uuid NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, number)
);
"""

# As 0040 has it, but for the months that are closed.
OPEN_MONTH = """
CREATE OR REPLACE FUNCTION finops.open_month(p_tenant text, p_at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_month text := to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM');
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('finops.month'), hashtext(p_tenant));
    WHILE EXISTS (SELECT 1 FROM finops.month m WHERE m.tenant = p_tenant AND m.month = v_month) LOOP
        v_month := to_char(to_date(v_month, 'YYYY-MM') + interval '1 month', 'YYYY-MM');
    END LOOP;
    RETURN v_month;
END
$$;
"""

GUARDS = """
CREATE FUNCTION finops.charges_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        RAISE EXCEPTION 'what was charged stays: a correction is a line of its own';
    END IF;
    IF EXISTS (SELECT 1 FROM added a JOIN finops.month m USING (tenant, month)) THEN
        RAISE EXCEPTION 'a charge to a month that is closed';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER open_months_only AFTER INSERT ON finops.charge REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION finops.charges_stay();
CREATE TRIGGER charges_stay BEFORE UPDATE OR DELETE ON finops.charge
    FOR EACH ROW EXECUTE FUNCTION finops.charges_stay();

CREATE FUNCTION finops.months_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state = 'closed'
        OR (NEW.tenant, NEW.month, NEW.frozen_entry, NEW.frozen_at)
           IS DISTINCT FROM (OLD.tenant, OLD.month, OLD.frozen_entry, OLD.frozen_at) THEN
        RAISE EXCEPTION 'a month that is closed stays as it is';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER months_stay BEFORE UPDATE OR DELETE ON finops.month
    FOR EACH ROW EXECUTE FUNCTION finops.months_stay();
"""


def upgrade() -> None:
    """Create the tables behind their walls; charges then heed closed months."""
    op.execute(TABLES)
    protect("finops.month", app="SELECT, INSERT, UPDATE")
    protect("finops.allocation", app="SELECT, INSERT")
    op.execute(OPEN_MONTH)
    op.execute(GUARDS)


def downgrade() -> None:
    """Drop them; statements that were handed out stay as good as they are."""
    op.execute("DROP TRIGGER open_months_only ON finops.charge")
    op.execute("DROP TRIGGER charges_stay ON finops.charge")
    op.execute("DROP FUNCTION finops.charges_stay()")
    before: str = importlib.import_module("control_plane.migrations.versions.0040_charges").OPEN_MONTH
    op.execute(before.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("DROP TABLE finops.month, finops.allocation")
    op.execute("DROP FUNCTION finops.months_stay()")
