# SPDX-License-Identifier: Apache-2.0
"""The wall around each table: row-level security for every role, and only the rights that a role needs (I7).

For use inside a revision. `owner` owns every table, yet FORCE subjects it to the policies too: it, `sealer` and `audit`
have one of their own, `app` sees the rows of the transaction's tenant, and of no tenant when none is named (after
`set_config(…, true)` the setting is '' and not NULL, hence the nullif). No role has BYPASSRLS.
"""

from __future__ import annotations

from alembic import context, op

from control_plane.db import Roles

__all__ = ["protect", "roles"]


def roles() -> Roles:
    """The role names of the database that is being migrated."""
    found = context.config.attributes["roles"]
    if not isinstance(found, Roles):
        raise TypeError
    return found


def protect(
    table: str,
    *,
    app: str = "",
    sealer: str = "",
    audit: str = "SELECT",
    tenant_column: str = "tenant",
) -> None:
    """Put the wall around `schema.table` and grant the listed privileges (e.g. `app="SELECT, INSERT"`).

    An empty `tenant_column` is for tables whose rows belong to no tenant (tiles, checkpoints): `app` sees them all.
    """
    names = roles()
    schema = table.partition(".")[0]
    ours = f"{tenant_column} = nullif(current_setting('qcos.tenant', true), '')" if tenant_column else "true"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY of_tenant ON {table} TO {names.app} USING ({ours}) WITH CHECK ({ours})")
    trusted = f"{names.owner}, {names.sealer}, {names.audit}"
    op.execute(f"CREATE POLICY of_plane ON {table} TO {trusted} USING (true) WITH CHECK (true)")
    for name, privileges in ((names.app, app), (names.sealer, sealer), (names.audit, audit)):
        if privileges:
            op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
            op.execute(f"GRANT {privileges} ON {table} TO {name}")
