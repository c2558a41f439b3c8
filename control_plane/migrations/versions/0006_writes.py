# SPDX-License-Identifier: Apache-2.0
"""One call a write: admission and every later change of a job, each a function that is a transaction (G9, I3, N9).

A job's row, its money, its blobs and the entries that tell of it are written together or not at all, in one round
trip: what a writer sends is finished (entry bytes included), so nothing waits for a client while budgets are locked.
Each function names its tenant first and runs with its caller's rights: row-level security holds inside. A refusal is
an answer and leaves nothing written. Sent again after a lost answer, the same write answers as it did.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import roles

revision = "0006_writes"
down_revision = "0005_trace"
branch_labels = None
depends_on = None

# p_write: {"blobs": [commitment], "entries": [{"bundle": uuid, "level": text, "traceparent": text; all optional}]}.
# The bytes come apart: three to a blob (nonce, wrapped key, ciphertext), three to an entry (pending, statement, salt).
TAKE_IN = """
CREATE FUNCTION ledger.take_in(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.blob (tenant, commitment, nonce, wrapped_key, ciphertext)
        SELECT p_tenant, b.name, p_blobs[3 * b.n - 2], p_blobs[3 * b.n - 1], p_blobs[3 * b.n]
        FROM jsonb_array_elements_text(p_write -> 'blobs') WITH ORDINALITY AS b (name, n);
    INSERT INTO ledger.inbox (tenant, pending, bundle_id, level, statement, salt, traceparent)
        SELECT p_tenant, p_entries[3 * e.n - 2], (e.one ->> 'bundle')::uuid, e.one ->> 'level',
               p_entries[3 * e.n - 1], p_entries[3 * e.n], e.one ->> 'traceparent'
        FROM jsonb_array_elements(p_write -> 'entries') WITH ORDINALITY AS e (one, n) ORDER BY e.n;
END
$$;
"""

# p_write: {"job": row, "key": {subject, key, body_sha256} | null, "scopes": [text], "day": date,
#           "hold": {amount, currency, budgets, windows, month, quarter, day} | null} and what `take_in` wants.
# Answers: admitted | repeated (the key is bound) | duplicate (the id is in use) | exceeded | missing (a budget).
# 1. what was there before  2. the hold  3. row and key  4. usage  5. blobs and entries. Nothing is written before 2
# has granted; a race lost at 3 undoes it.
ADMIT = """
CREATE FUNCTION jobs.admit(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job jobs.job := jsonb_populate_record(NULL::jobs.job, p_write -> 'job');
    v_key jsonb := nullif(p_write -> 'key', 'null');
    v_hold jsonb := nullif(p_write -> 'hold', 'null');
    v_found uuid;
    v_outcome text;
    v_budgets text[];
    v_windows text[];
BEGIN
    PERFORM set_config('qcos.tenant', p_tenant, true);
    SELECT j.admission_entry INTO v_found FROM jobs.job j WHERE j.tenant = p_tenant AND j.job_id = v_job.job_id;
    IF v_found = v_job.admission_entry THEN
        RETURN 'admitted';
    END IF;
    IF v_key IS NOT NULL AND EXISTS (
        SELECT 1 FROM jobs.idempotency i WHERE i.tenant = p_tenant AND i.subject = v_key ->> 'subject'
            AND i.key = v_key ->> 'key' AND i.created_at > clock_timestamp() - interval '24 hours') THEN
        RETURN 'repeated';
    END IF;
    IF v_found IS NOT NULL THEN
        RETURN 'duplicate';
    END IF;
    IF v_hold IS NOT NULL THEN
        SELECT min(h.outcome), array_agg(h.budget_id ORDER BY h.budget_id COLLATE "C"),
               array_agg(h.window_key ORDER BY h.budget_id COLLATE "C")
            INTO v_outcome, v_budgets, v_windows
            FROM finops.place_hold(p_tenant, v_job.job_id,
                ARRAY(SELECT jsonb_array_elements_text(v_hold -> 'budgets')), v_hold ->> 'month',
                v_hold ->> 'quarter', v_hold ->> 'day', (v_hold ->> 'amount')::numeric, v_hold ->> 'currency') AS h;
        IF v_outcome <> 'held' THEN
            RETURN v_outcome;
        END IF;
        IF to_jsonb(v_budgets) <> v_hold -> 'budgets' OR to_jsonb(v_windows) <> v_hold -> 'windows' THEN
            RAISE EXCEPTION 'the hold of % lies in other budgets than its entry tells', v_job.job_id;
        END IF;
    END IF;
    INSERT INTO jobs.job SELECT v_job.* ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE unique_violation USING MESSAGE = 'two jobs of one id at once';
    END IF;
    IF v_key IS NOT NULL THEN
        INSERT INTO jobs.idempotency AS i (tenant, subject, key, body_sha256, job_id)
            VALUES (p_tenant, v_key ->> 'subject', v_key ->> 'key', v_key ->> 'body_sha256', v_job.job_id)
            ON CONFLICT (tenant, subject, key) DO UPDATE
                SET body_sha256 = excluded.body_sha256, job_id = excluded.job_id, created_at = clock_timestamp()
                WHERE i.created_at <= clock_timestamp() - interval '24 hours';
        IF NOT FOUND THEN
            RAISE unique_violation USING MESSAGE = 'two jobs of one idempotency key at once';
        END IF;
    END IF;
    -- The rows are locked in one order, whoever counts.
    INSERT INTO jobs.usage AS u (tenant, scope, day, executions)
        SELECT p_tenant, s.scope, (p_write ->> 'day')::date, v_job.executions
        FROM jsonb_array_elements_text(p_write -> 'scopes') AS s (scope) ORDER BY s.scope
        ON CONFLICT (tenant, scope, day) DO UPDATE SET executions = u.executions + excluded.executions;
    PERFORM ledger.take_in(p_tenant, p_write, p_blobs, p_entries);
    RETURN 'admitted';
END
$$;
"""

# What may change in a job's row after its admission. Everything else in it is as it was admitted.
CHANGING = (
    "state, final, seq, attempt, history, hold_amount, route, backend, token, outcome_entry, bundle_id, "
    "statement_blob, result_blob, artefacts, cost_amount, partial, error, cancel_requested, worker, lease_until, handle"
)

# p_write: {"job_id", "seq", "events": [event], "set": {column: value}, "worker": name | null, "sealed": bool,
#           "unless_canceled": bool, "money": {"capture", "released", "overrun", "budgets", "windows"}
#           | {"parked": amount} | null} and what `take_in` wants.
# Answers: moved | moved_on (another has written, or has the lease) | canceled (a cancel was asked for) | unsealed (its
# admission is not sealed yet, I1). The job's row is locked before its budgets, as everywhere.
ADVANCE = f"""
CREATE FUNCTION jobs.advance(p_tenant text, p_write jsonb, p_blobs bytea[], p_entries bytea[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_id text := p_write ->> 'job_id';
    v_seq integer := (p_write ->> 'seq')::integer;
    v_events jsonb := p_write -> 'events';
    v_money jsonb := nullif(p_write -> 'money', 'null');
    v_row jobs.job;
    v_settled record;
BEGIN
    PERFORM set_config('qcos.tenant', p_tenant, true);
    SELECT * INTO v_row FROM jobs.job j WHERE j.tenant = p_tenant AND j.job_id = v_id FOR NO KEY UPDATE;
    IF v_row.seq = v_seq + jsonb_array_length(v_events) AND v_row.history @> v_events THEN
        RETURN 'moved';
    END IF;
    IF v_row.seq IS DISTINCT FROM v_seq
        OR v_row.worker IS DISTINCT FROM coalesce(p_write ->> 'worker', v_row.worker) THEN
        RETURN 'moved_on';
    END IF;
    IF (p_write ->> 'unless_canceled')::boolean AND v_row.cancel_requested THEN
        RETURN 'canceled';
    END IF;
    IF (p_write ->> 'sealed')::boolean
        AND NOT EXISTS (SELECT 1 FROM ledger.entry e WHERE e.entry_id = v_row.admission_entry) THEN
        RETURN 'unsealed';
    END IF;
    UPDATE jobs.job j SET ({CHANGING}) = (
            SELECT {", ".join("r." + name.strip() for name in CHANGING.split(","))}
            FROM jsonb_populate_record(v_row, p_write -> 'set' || jsonb_build_object(
                'seq', v_seq + jsonb_array_length(v_events), 'state', v_events -> -1 -> 'state',
                'history', v_row.history || v_events)) AS r)
        WHERE j.tenant = p_tenant AND j.job_id = v_id;
    IF v_money ? 'parked' THEN
        UPDATE finops.hold h SET state = 'parked' WHERE h.tenant = p_tenant AND h.job_id = v_id AND h.state = 'held';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'job % has no open hold to park', v_id;
        END IF;
    ELSIF v_money IS NOT NULL THEN
        SELECT * INTO v_settled FROM finops.settle_hold(p_tenant, v_id, (v_money ->> 'capture')::numeric, NULL);
        IF v_settled.outcome <> 'settled'
            OR v_settled.released <> (v_money ->> 'released')::numeric
            OR v_settled.overrun <> (v_money ->> 'overrun')::numeric
            OR to_jsonb(v_settled.budgets) <> v_money -> 'budgets'
            OR to_jsonb(v_settled.windows) <> v_money -> 'windows' THEN
            RAISE EXCEPTION 'the hold of % settles otherwise than its entry tells: %', v_id, v_settled.outcome;
        END IF;
    END IF;
    PERFORM ledger.take_in(p_tenant, p_write, p_blobs, p_entries);
    RETURN 'moved';
END
$$;
"""

ARGUMENTS = "(text, jsonb, bytea[], bytea[])"
FUNCTIONS = {"ledger.take_in": TAKE_IN, "jobs.admit": ADMIT, "jobs.advance": ADVANCE}


def upgrade() -> None:
    """Create the functions, for the app role alone."""
    for name, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION {name}{ARGUMENTS} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}{ARGUMENTS} TO {roles().app}")


def downgrade() -> None:
    """Drop the functions; no row changes."""
    for name in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {name}{ARGUMENTS}")
