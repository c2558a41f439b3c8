# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables (G5, decisions 1, 2, 4): inbox, entries, tiles, checkpoints, what lies beside the log.

`app` may add to the inbox and read what is sealed; only `sealer` writes the log, and it too can only add:
no role has UPDATE on any table here. Every stored column of an entry is in its leaf or derived from it.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect, roles

revision = "0001_ledger"
down_revision = None
branch_labels = None
depends_on = None

# Records of 1-8 KB stay in the row, uncompressed: TOAST costs half of the insert rate at 2 KB.
INLINE = "toast_tuple_target = 8160"
# The inbox is a queue: its dead rows are what the sealer's next scan walks over.
QUEUE = (
    f"{INLINE}, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, "
    "autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0"
)

TABLES = f"""
CREATE SCHEMA ledger;

CREATE TABLE ledger.inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    pending bytea NOT NULL,
    bundle_id uuid,
    level text CHECK (level IN ('full', 'standard', 'sealed')),
    statement bytea,
    salt bytea,
    CHECK (num_nulls(bundle_id, level, statement, salt) IN (0, 4))
) WITH ({QUEUE});

-- A hashedrekord leaf has no header: it names no tenant and no entry id.
CREATE TABLE ledger.entry (
    "index" bigint PRIMARY KEY CHECK ("index" >= 0),
    entry_id uuid UNIQUE,
    tenant text,
    tenant_index bigint CHECK (tenant_index >= 0),
    kind text NOT NULL,
    leaf bytea NOT NULL,
    UNIQUE (tenant, tenant_index),
    CHECK (num_nulls(entry_id, tenant, tenant_index) = CASE WHEN kind = 'hashedrekord' THEN 3 ELSE 0 END)
) WITH ({INLINE});

-- Row (level, index) of C2SP tlog-tiles, written in pieces: the hashes of one batch, from place "start" on.
CREATE TABLE ledger.tile (
    level smallint CHECK (level >= 0),
    "index" bigint CHECK ("index" >= 0),
    start smallint CHECK (start BETWEEN 0 AND 255),
    hashes bytea NOT NULL
        CHECK (length(hashes) % 32 = 0 AND length(hashes) BETWEEN 32 AND 32 * (256 - start)),
    PRIMARY KEY (level, "index", start)
) WITH ({INLINE});

CREATE TABLE ledger.checkpoint (
    size bigint PRIMARY KEY CHECK (size > 0),
    root bytea NOT NULL CHECK (length(root) = 32),
    note bytea NOT NULL
) WITH ({INLINE});

-- The statement itself lies in a tenant's blob; what was signed is kept as the hashes that suffice to check
-- each signature: mu (FIPS 204, algorithm 7, line 6) for ML-DSA-65, SHA-256 for P-256, both of the DSSE PAE.
CREATE TABLE ledger.signature (
    bundle_id uuid PRIMARY KEY,
    tenant text NOT NULL,
    entry_id uuid NOT NULL UNIQUE,
    "index" bigint NOT NULL UNIQUE,
    level text NOT NULL CHECK (level IN ('full', 'standard', 'sealed')),
    pae_mu bytea CHECK (length(pae_mu) = 64),
    mldsa65 bytea,
    pae_sha256 bytea CHECK (length(pae_sha256) = 32),
    p256 bytea,
    CHECK (num_nulls(mldsa65, pae_mu) = CASE WHEN level = 'sealed' THEN 2 ELSE 0 END),
    CHECK (num_nulls(p256, pae_sha256) = CASE WHEN level = 'full' THEN 0 ELSE 2 END)
) WITH ({INLINE});
CREATE INDEX ON ledger.signature (tenant, bundle_id);

-- imprint = SHA-256 of the stamped bytes: of a signature, or of a checkpoint's note.
CREATE TABLE ledger.token (
    imprint bytea CHECK (length(imprint) = 32),
    operator text,
    der bytea NOT NULL,
    PRIMARY KEY (imprint, operator)
) WITH ({INLINE});

-- What still waits for its token; rows go when it is there, so a restart forgets none.
CREATE TABLE ledger.unstamped (
    imprint bytea CHECK (length(imprint) = 32),
    operator text,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (imprint, operator)
);

CREATE TABLE ledger.key (
    key_id text,
    alg text,
    purpose text NOT NULL CHECK (purpose IN ('log', 'evidence')),
    public bytea NOT NULL UNIQUE,
    valid_from timestamptz NOT NULL,
    PRIMARY KEY (key_id, alg)
);

CREATE TABLE ledger.blob (
    tenant text,
    commitment text,
    nonce bytea NOT NULL,
    wrapped_key bytea,
    ciphertext bytea NOT NULL,
    PRIMARY KEY (tenant, commitment)
) WITH ({INLINE});

CREATE TABLE ledger.tenant_key (
    tenant text PRIMARY KEY,
    wrapped bytea NOT NULL
);
"""

# Not in CREATE TABLE: PostgreSQL 15 has STORAGE only here.
UNCOMPRESSED = {
    "inbox": ("pending", "statement"),
    "entry": ("leaf",),
    "tile": ("hashes",),
    "checkpoint": ("note",),
    "signature": ("mldsa65",),
    "token": ("der",),
    "blob": ("ciphertext",),
}


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    for table, columns in UNCOMPRESSED.items():
        for column in columns:
            op.execute(f"ALTER TABLE ledger.{table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
    protect("ledger.inbox", app="INSERT", sealer="SELECT, DELETE")
    protect("ledger.entry", app="SELECT", sealer="SELECT, INSERT")
    protect("ledger.signature", app="SELECT", sealer="SELECT, INSERT")
    protect("ledger.blob", app="SELECT, INSERT")
    protect("ledger.tenant_key", app="SELECT, INSERT")
    for table in ("tile", "checkpoint", "token", "key"):
        protect(f"ledger.{table}", app="SELECT", sealer="SELECT, INSERT", tenant_column="")
    protect("ledger.unstamped", app="SELECT", sealer="SELECT, INSERT, DELETE", tenant_column="")
    # The log's size tells how much other tenants write: a stated exception. Their bytes stay theirs.
    op.execute(f"REVOKE ALL ON SCHEMA ledger FROM PUBLIC; GRANT USAGE ON SCHEMA ledger TO {roles().app}")


def downgrade() -> None:
    """Drop the ledger with everything in it."""
    op.execute("DROP SCHEMA ledger CASCADE")
