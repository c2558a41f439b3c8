# SPDX-License-Identifier: Apache-2.0
"""A flood of denials: how many a person has had, what waits to be folded into one entry, and what was (G2, G5, N13).

A denial of a flood is durable in `ledger.unfolded`, as others are in the inbox, until a worker puts many under one
entry and keeps their bytes in `ledger.folded`. No role has UPDATE on either.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0014_denials"
down_revision = "0013_patience"
branch_labels = None
depends_on = None

# A counter of today; what it counted is in the ledger.
EXPENDABLE = frozenset({"jobs.denial"})

TABLES = """
CREATE TABLE jobs.denial (
    tenant text NOT NULL,
    pseudonym text NOT NULL,
    day date NOT NULL,
    octets bigint NOT NULL,
    suppressed bigint NOT NULL,
    since timestamptz NOT NULL,
    recent integer NOT NULL,
    PRIMARY KEY (tenant, pseudonym)
) WITH (fillfactor = 50);

CREATE TABLE ledger.unfolded (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    entry_id uuid NOT NULL UNIQUE,
    actor text NOT NULL,
    pending bytea NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Each record under the entry `fold`, at its place in the tree that the entry states.
CREATE TABLE ledger.folded (
    tenant text NOT NULL,
    fold uuid NOT NULL,
    position integer NOT NULL CHECK (position >= 0),
    entry_id uuid NOT NULL UNIQUE,
    pending bytea NOT NULL,
    PRIMARY KEY (fold, position)
);

-- Whose records have waited long enough, or are many: whoever folds them sets that tenant then.
CREATE FUNCTION ledger.ripe(wait_s double precision, many integer) RETURNS TABLE (tenant text, actor text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.tenant, u.actor FROM ledger.unfolded u GROUP BY u.tenant, u.actor
    HAVING min(u.since) <= clock_timestamp() - make_interval(secs => wait_s) OR count(*) >= many
    ORDER BY min(u.since) LIMIT 64
$$;

-- One more denial of a person: `suppressed` where today's bytes are used up, `fold` where there were many of late.
CREATE FUNCTION jobs.count_denial(p_tenant text, p_pseudonym text, p_octets bigint, p_most bigint, p_alone integer)
RETURNS TABLE (verdict text, suppressed bigint) LANGUAGE sql AS $$
    INSERT INTO jobs.denial AS d (tenant, pseudonym, day, octets, suppressed, since, recent)
    VALUES (p_tenant, p_pseudonym, (clock_timestamp() AT TIME ZONE 'UTC')::date,
            CASE WHEN p_octets <= p_most THEN p_octets ELSE 0 END, CASE WHEN p_octets <= p_most THEN 0 ELSE 1 END,
            clock_timestamp(), 1)
    ON CONFLICT (tenant, pseudonym) DO UPDATE SET (day, octets, suppressed, since, recent) = (
        SELECT excluded.day,
               today.octets + CASE WHEN today.octets + p_octets <= p_most THEN p_octets ELSE 0 END,
               today.suppressed + CASE WHEN today.octets + p_octets <= p_most THEN 0 ELSE 1 END,
               CASE WHEN late.so THEN d.since ELSE clock_timestamp() END, CASE WHEN late.so THEN d.recent + 1 ELSE 1 END
        FROM (SELECT CASE WHEN d.day = excluded.day THEN d.octets ELSE 0 END AS octets,
                     CASE WHEN d.day = excluded.day THEN d.suppressed ELSE 0 END AS suppressed) AS today,
             (SELECT d.since > clock_timestamp() - interval '1 minute' AS so) AS late)
    RETURNING CASE WHEN d.suppressed > 0 THEN 'suppressed' WHEN d.recent > p_alone THEN 'fold' ELSE 'alone' END,
              d.suppressed
$$;
"""

READY = """
CREATE OR REPLACE FUNCTION jobs.evidence_ready(entry uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = entry)
         OR EXISTS (SELECT 1 FROM ledger.folded f JOIN ledger.entry e ON e.entry_id = f.fold WHERE f.entry_id = entry))
       AND NOT EXISTS (
           SELECT 1 FROM ledger.signature s
           WHERE s.entry_id = entry AND s.p256 IS NOT NULL
             AND (NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.mldsa65))
               OR NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.p256))
               OR EXISTS (SELECT 1 FROM ledger.unstamped u WHERE u.imprint IN (sha256(s.mldsa65), sha256(s.p256)))))
$$;
"""

TAKE_IN = """
CREATE OR REPLACE FUNCTION ledger.take_in(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
        SELECT p_tenant, b.name, p_blobs[3 * b.n - 2], p_blobs[3 * b.n - 1], p_blobs[3 * b.n]
        FROM jsonb_array_elements_text(p_write -> 'blobs') WITH ORDINALITY AS b (name, n);
    IF p_write -> 'fold' IS NOT NULL THEN
        INSERT INTO ledger.unfolded (tenant, entry_id, actor, pending)
            SELECT p_tenant, f.id::uuid, p_write ->> 'fold_actor', p_entries[3 * f.n - 2]
            FROM jsonb_array_elements_text(p_write -> 'fold') WITH ORDINALITY AS f (id, n) ORDER BY f.n;
        RETURN;
    END IF;
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent, patient)
        SELECT p_tenant, p_entries[3 * e.n - 2], (e.one ->> 'bundle')::uuid, e.one ->> 'level',
               p_entries[3 * e.n - 1], p_entries[3 * e.n], e.one ->> 'traceparent',
               coalesce((e.one ->> 'patient')::boolean, false)
        FROM jsonb_array_elements(p_write -> 'entries') WITH ORDINALITY AS e (one, n) ORDER BY e.n;
END
$$;
"""

# As they were before.
BEFORE = """
CREATE OR REPLACE FUNCTION ledger.take_in(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
        SELECT p_tenant, b.name, p_blobs[3 * b.n - 2], p_blobs[3 * b.n - 1], p_blobs[3 * b.n]
        FROM jsonb_array_elements_text(p_write -> 'blobs') WITH ORDINALITY AS b (name, n);
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent, patient)
        SELECT p_tenant, p_entries[3 * e.n - 2], (e.one ->> 'bundle')::uuid, e.one ->> 'level',
               p_entries[3 * e.n - 1], p_entries[3 * e.n], e.one ->> 'traceparent',
               coalesce((e.one ->> 'patient')::boolean, false)
        FROM jsonb_array_elements(p_write -> 'entries') WITH ORDINALITY AS e (one, n) ORDER BY e.n;
END
$$;

CREATE OR REPLACE FUNCTION jobs.evidence_ready(entry uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = entry)
       AND NOT EXISTS (
           SELECT 1 FROM ledger.signature s
           WHERE s.entry_id = entry AND s.p256 IS NOT NULL
             AND (NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.mldsa65))
               OR NOT EXISTS (SELECT 1 FROM ledger.token t WHERE t.imprint = sha256(s.p256))
               OR EXISTS (SELECT 1 FROM ledger.unstamped u WHERE u.imprint IN (sha256(s.mldsa65), sha256(s.p256)))))
$$;
"""


def upgrade() -> None:
    """Add the tables and functions; entries may be put aside to be folded."""
    op.execute(TABLES)
    protect("jobs.denial", app="SELECT, INSERT, UPDATE")
    protect("ledger.unfolded", app="SELECT, INSERT, DELETE")
    protect("ledger.folded", app="SELECT, INSERT")
    op.execute(TAKE_IN)
    op.execute(READY)
    names = roles()
    for function in (
        "ledger.ripe(double precision, integer)",
        "jobs.count_denial(text, text, bigint, bigint, integer)",
    ):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {names.app}")


def downgrade() -> None:
    """Drop them; refused while a record is folded or waits for it."""
    op.execute(BEFORE)
    op.execute("DROP FUNCTION jobs.count_denial(text, text, bigint, bigint, integer)")
    op.execute("DROP FUNCTION ledger.ripe(double precision, integer)")
    op.execute("DROP TABLE jobs.denial, ledger.unfolded, ledger.folded")
