# SPDX-License-Identifier: Apache-2.0
"""Which SAML messages were used, and what providers call the sessions that they began (G13, S1)."""

from __future__ import annotations

from alembic import op

from control_plane.migrations.walls import protect

revision = "0038_saml"
down_revision = "0037_services"
branch_labels = None
depends_on = None

# A used message is refused as too old soon after; a session that is forgotten here can be ended by its holder still.
EXPENDABLE = frozenset({"auth.saml_used", "auth.saml_session"})

TABLES = """
-- Requests that were answered and assertions that were taken, until they would be refused as too old anyway.
CREATE TABLE auth.saml_used (
    tenant text NOT NULL REFERENCES auth.tenant,
    provider text NOT NULL,
    identifier text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant, provider, identifier)
);
CREATE INDEX saml_used_until ON auth.saml_used (tenant, until);

-- What a provider calls a session, so that a logout there ends it here, and the other way round.
CREATE TABLE auth.saml_session (
    tenant text NOT NULL REFERENCES auth.tenant,
    provider text NOT NULL,
    sid text NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    name text NOT NULL,
    name_id jsonb NOT NULL,
    session text,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant, provider, sid)
);
CREATE INDEX saml_session_by_name ON auth.saml_session (tenant, provider, name);
CREATE INDEX saml_session_until ON auth.saml_session (tenant, until);
"""


def upgrade() -> None:
    """Create the tables, each behind its wall."""
    op.execute(TABLES)
    protect("auth.saml_used", app="SELECT, INSERT, DELETE")
    protect("auth.saml_session", app="SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    """Forget them."""
    op.execute("DROP TABLE auth.saml_session; DROP TABLE auth.saml_used")
