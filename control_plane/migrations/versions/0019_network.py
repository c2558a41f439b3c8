# SPDX-License-Identifier: Apache-2.0
"""The network of services: who may join, what peers said, how good each was found, plans and reservations (N10).

Enrolments, adverts, quality, links and the journal of the fabric are of the plane, not of a tenant: they hold nothing
of any job but tokens, which say nothing to anybody. Plans and reservations are a tenant's. `standing` is one row: what
the keeper has read of the fabric's journal, and the number of the set of enrolments that the fabric is to know.
"""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0019_network"
down_revision = "0018_sessions"
branch_labels = None
depends_on = None

# A plan stands in its job's evidence, the fabric keeps its own journal, and the rest is heard anew. Enrolments,
# reservations and quality are not: with quality would go why a node was refused.
EXPENDABLE = frozenset(f"network.{name}" for name in ("advert", "event", "link", "plan", "standing", "topology"))
PEER = "text NOT NULL CHECK (length(peer_id) BETWEEN 40 AND 80)"
PPM = "integer CHECK ({0} BETWEEN 0 AND 1000000)"
TABLES = f"""
CREATE SCHEMA network;

CREATE TABLE network.enrolment (
    peer_id {PEER} PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('pending', 'approved', 'suspended', 'revoked')),
    revision integer NOT NULL,
    organisation text NOT NULL,
    region text NOT NULL,
    compliance_zone text NOT NULL,
    sovereign boolean NOT NULL,
    price_per_fragment numeric NOT NULL CHECK (price_per_fragment >= 0),
    price_per_shot numeric NOT NULL CHECK (price_per_shot >= 0),
    currency text NOT NULL,
    reason text,
    acted_for text NOT NULL,
    acted_by text NOT NULL,
    proposed_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);

-- The last advert of each service of a peer, signed, as it came.
CREATE TABLE network.advert (
    peer_id {PEER},
    service text NOT NULL,
    serial bigint NOT NULL,
    signed bytea NOT NULL,
    heard_at timestamptz NOT NULL,
    PRIMARY KEY (peer_id, service)
);

-- What each probe showed, and what was judged of them.
CREATE TABLE network.probe (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    peer_id {PEER},
    service text NOT NULL,
    at timestamptz NOT NULL,
    shots integer NOT NULL CHECK (shots >= 0),
    facts jsonb NOT NULL,
    reported_ppm {PPM.format("reported_ppm")},
    duration_us bigint NOT NULL,
    code text,
    metered boolean NOT NULL DEFAULT false
);
CREATE INDEX probe_of_service ON network.probe (peer_id, service, id DESC);
CREATE INDEX probe_unmetered ON network.probe (peer_id) WHERE NOT metered;

CREATE TABLE network.quality (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    peer_id {PEER},
    service text NOT NULL,
    at timestamptz NOT NULL,
    probes integer NOT NULL,
    shots bigint NOT NULL,
    reported_ppm {PPM.format("reported_ppm")},
    verified_ppm {PPM.format("verified_ppm")} NOT NULL,
    degraded boolean NOT NULL,
    because text NOT NULL
);
CREATE INDEX quality_of_service ON network.quality (peer_id, service, id DESC);

-- One row a link and five minutes, the worst of them.
CREATE TABLE network.link (
    from_id text NOT NULL,
    to_id text NOT NULL,
    at timestamptz NOT NULL,
    connected boolean NOT NULL,
    latency_us bigint,
    failure_ppm integer NOT NULL,
    degraded boolean NOT NULL,
    reports integer NOT NULL DEFAULT 1,
    PRIMARY KEY (from_id, to_id, at)
);

-- The fabric's journal, as far as it was read. `run` numbers the journals: a new one begins at 1 again.
CREATE TABLE network.event (
    run integer NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    peer_id text,
    token text,
    fragment_id text,
    epoch integer,
    facts jsonb NOT NULL,
    signed bytea,
    PRIMARY KEY (run, seq)
);
CREATE INDEX event_of_token ON network.event (token, run, seq) WHERE token IS NOT NULL;
CREATE INDEX event_at ON network.event (at);

CREATE TABLE network.topology (
    at timestamptz NOT NULL PRIMARY KEY,
    hash text NOT NULL,
    topology jsonb NOT NULL
);

CREATE TABLE network.standing (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL DEFAULT 1,
    run integer NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    head text,
    told_seq bigint NOT NULL DEFAULT 0,
    told_head text,
    told_at timestamptz,
    keeper text,
    kept_until timestamptz
);
INSERT INTO network.standing DEFAULT VALUES;

CREATE TABLE network.plan (
    tenant text NOT NULL,
    plan_id text NOT NULL,
    job_id text NOT NULL,
    attempt integer NOT NULL,
    project text NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    plan jsonb NOT NULL,
    snapshot jsonb NOT NULL,
    PRIMARY KEY (tenant, plan_id, job_id, attempt)
);
CREATE INDEX plan_of_job ON network.plan (tenant, job_id, attempt);

CREATE TABLE network.reservation (
    tenant text NOT NULL,
    reservation_id text NOT NULL,
    project text NOT NULL,
    actor text NOT NULL,
    decision_id uuid NOT NULL,
    peer_id {PEER},
    asked jsonb NOT NULL,
    state text NOT NULL CHECK (state IN (
        'REQUESTED', 'PREPARED', 'COMMITTED', 'EXECUTED', 'REJECTED', 'EXPIRED', 'FAILED', 'CANCELED')),
    answer jsonb,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, reservation_id)
);
"""
ROWS_COME_AND_GO = "SELECT, INSERT, UPDATE, DELETE"


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    protect("network.enrolment", app="SELECT, INSERT, UPDATE", tenant_column="")
    protect("network.standing", app="SELECT, UPDATE", tenant_column="")
    for name in ("advert", "probe", "quality", "link", "event", "topology"):
        protect(f"network.{name}", app=ROWS_COME_AND_GO, tenant_column="")
    for name in ("plan", "reservation"):
        protect(f"network.{name}", app="SELECT, INSERT, UPDATE")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP SCHEMA network CASCADE")
