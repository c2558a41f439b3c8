# SPDX-License-Identifier: Apache-2.0
"""What others outside the plane have seen of its log: cosignatures, and how each of them stands (G5, I4).

Both tables are added to and never changed. `ledger.outside` has a row at each change of how a witness or an anchor
stands; the newest of a name is how it stands now, and a row without a code says that nothing is wrong.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0022_outside"
down_revision = "0021_retention"
branch_labels = None
depends_on = None

# Cosignatures are proofs that others can make again; how somebody stood is for operators.
EXPENDABLE = frozenset({"ledger.cosignature", "ledger.outside"})

TABLES = """
CREATE TABLE ledger.cosignature (
    size bigint NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL CHECK (octet_length(key_hash) = 4),
    origin text NOT NULL,
    line text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (size, name, key_hash)
);
CREATE INDEX cosignature_newest ON ledger.cosignature (name, key_hash, origin, size DESC);

CREATE TABLE ledger.outside (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    code text,
    detail text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outside_newest ON ledger.outside (kind, name, id DESC);
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute(TABLES)
    for table in ("ledger.cosignature", "ledger.outside"):
        protect(table, app="SELECT", sealer="SELECT, INSERT", tenant_column="")


def downgrade() -> None:
    """Drop them; no sealed entry is touched."""
    op.execute("DROP TABLE ledger.cosignature; DROP TABLE ledger.outside")
