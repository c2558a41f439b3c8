# SPDX-License-Identifier: Apache-2.0
"""The walls around jobs, and the migrations that build them (I7, N10, decision 4)."""

from __future__ import annotations

import psycopg
import pytest

from tests.control_plane.jobs.desk import Desk
from tests.postgres import TestDatabase

TABLES = ("jobs.job", "jobs.idempotency")


def as_app(desk: Desk, tenant: str, statement: str) -> list[tuple[object, ...]]:
    """What the app role gets in a transaction of this tenant."""
    with psycopg.connect(desk.database.conninfo("app")) as conn:
        conn.execute("SELECT set_config('qcos.tenant', %s, true)", (tenant,))
        cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("tenant", ["other", "", "demo2", "demo' OR true --"])
async def test_another_tenants_transaction_sees_and_changes_no_job(desk: Desk, table: str, tenant: str) -> None:
    """I7."""
    await desk.submit(key="k")
    assert as_app(desk, "demo", f"SELECT count(*) FROM {table}") == [(1,)]
    assert as_app(desk, tenant, f"SELECT count(*) FROM {table}") == [(0,)]
    assert as_app(desk, tenant, f"UPDATE {table} SET subject = 'me'") == [(0,)]


@pytest.mark.parametrize("tenant", ["other", ""])
async def test_nobody_writes_or_moves_a_row_into_another_tenant(desk: Desk, tenant: str) -> None:
    """I7: the wall is checked on what is written too."""
    await desk.submit(key="k")
    statement = (
        "INSERT INTO jobs.idempotency (tenant, subject, key, body_sha256, job_id) VALUES ('demo', 's', 'x', 'h', 'j')"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app(desk, tenant, statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app(desk, "demo", "UPDATE jobs.job SET tenant = 'other'")


@pytest.mark.parametrize("statement", ["DELETE FROM jobs.job", "TRUNCATE jobs.job", "DROP TABLE jobs.job"])
async def test_no_job_can_be_made_unmade(desk: Desk, statement: str) -> None:
    """S4: rows cache the register; the app may not delete one."""
    await desk.submit()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_app(desk, "demo", statement)


@pytest.mark.parametrize("role", ["sealer", "audit"])
def test_only_workers_may_look_across_tenants(database: TestDatabase, role: str) -> None:
    """Decision 4: the functions that see every tenant are the app role's."""
    for call in ("jobs.claim('w', 1, 1)", "jobs.settle_states(1)", "jobs.forget_keys()"):
        with psycopg.connect(database.conninfo(role)) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"SELECT * FROM {call}".encode())


async def test_a_claim_tells_only_whose_job_it_is(desk: Desk) -> None:
    """I7: what crosses the wall is (tenant, job id) and nothing of the job."""
    await desk.admitted()
    claim = "SELECT j ->> 0, j ->> 1 FROM jsonb_array_elements(jobs.claim('w', 10, 5) -> 'jobs') AS j"
    ((tenant, job_id),) = as_app(desk, "", claim)
    assert tenant == "demo"
    assert as_app(desk, "", "SELECT count(*) FROM jobs.job") == [(0,)]
    assert as_app(desk, "demo", f"SELECT worker FROM jobs.job WHERE job_id = '{job_id}'") == [("w",)]


async def test_another_tenants_evidence_is_never_ready(desk: Desk) -> None:
    """I7: not even whether it exists."""
    job_id = await desk.admitted()
    entry = (await desk.row(job_id))["admission_entry"]
    assert as_app(desk, "demo", f"SELECT jobs.evidence_ready('{entry}')") == [(True,)]
    assert as_app(desk, "other", f"SELECT jobs.evidence_ready('{entry}')") == [(False,)]
