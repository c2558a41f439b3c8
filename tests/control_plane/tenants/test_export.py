# SPDX-License-Identifier: Apache-2.0
"""G11, I7, I10: an export has all that a tenant owns, of one moment, and nothing else. tests/e2e judges one offline."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import psycopg
import pytest

from control_plane.errors import Refused
from control_plane.jobs.run import Run
from control_plane.tenants import acts, export, owned
from tests.control_plane.jobs.desk import Desk, bell, person
from tests.fakes import FakeDriver
from tests.postgres import TestDatabase

_TABLES = """
    SELECT c.table_schema || '.' || c.table_name, array_agg(c.column_name::text) FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE t.table_type = 'BASE TABLE' AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
    GROUP BY 1 HAVING 'tenant' = ANY (array_agg(c.column_name::text))
"""


async def _exported(desk: Desk, tenant: str = "demo") -> dict[str, bytes]:
    whole = b"".join([part async for part in export.stream(desk.plane, tenant)])
    found = {}
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        for one in archive:
            read = archive.extractfile(one)
            assert read is not None
            found[one.name] = read.read()
    return found


def test_each_table_of_a_tenant_is_exported_or_named_as_none(database: TestDatabase) -> None:
    """G11: a new table can't be forgotten, nor can a column that proves a secret."""
    with psycopg.connect(database.conninfo("superuser")) as conn:
        found = {table: set(columns) for table, columns in conn.execute(_TABLES.encode())}
    named = owned.ROWS.keys() | owned.ELSEWHERE.keys()
    assert found.keys() == named, "control_plane/tenants/owned.py says of each table whether it is exported, or why not"
    assert not owned.ROWS.keys() & owned.ELSEWHERE.keys()
    for table, without in owned.ROWS.items():
        assert set(without) <= found[table], table
        assert not {"digest", "secret", "wrapped_key"} & (found[table] - set(without)), table


async def test_an_export_has_what_the_tenant_owns_and_nothing_of_another(desk: Desk, driver: FakeDriver) -> None:
    """G11, I7: rows, evidence, contents by their commitment, and entries; each as the manifest says."""
    done = await desk.admitted()
    await Run(desk.plane, {"fake": driver}, (await desk.claim())[0]).advance()
    waiting = await desk.admitted()
    theirs = await desk.submit(bell(governance__project="other"), who=person("bob", "other"))
    await desk.seal()
    files = await _exported(desk)
    manifest = json.loads(files.pop("manifest.json"))
    # Nothing is time-stamped here, so no job has its evidence yet.
    assert (manifest["tenant"], manifest["counts"]["evidence_pending"]) == ("demo", 2)
    assert {one["path"]: one["sha256"] for one in manifest["files"]} == {
        path: hashlib.sha256(data).hexdigest() for path, data in files.items()
    }
    jobs = [json.loads(line) for line in files["tables/jobs.job/000000.jsonl"].splitlines()]
    assert {one["job_id"] for one in jobs} == {done, waiting}
    assert not {"worker", "token", "handle"} & jobs[0].keys()
    cards = [json.loads(line) for line in files["tables/finops.rate_card/000000.jsonl"].splitlines()]
    assert {json.loads(card["document"])["currency"] for card in cards} == {"USD"}
    row = await desk.row(done)
    result = files["contents/" + row["artefacts"]["result"].removeprefix("sha256:")]
    assert json.loads(result[32:])
    assert manifest["counts"]["contents"] == sum(path.startswith("contents/") for path in files)
    for path, data in files.items():
        if path.startswith("contents/"):
            assert hashlib.sha256(data).hexdigest() == path.removeprefix("contents/")
        assert theirs.job_id.encode() not in data, path
        assert b"user:bob@other" not in data, path


async def test_a_closed_tenants_export_is_its_operators(desk: Desk, tmp_path: Path) -> None:
    """G11: after the tenant was closed, too; told in its chain, and into a new file alone."""
    await acts.close(desk.plane, "other", "ended")
    await desk.seal()
    file = tmp_path / "other.tar"
    told = await export.written(desk.plane, "other", "asked for by the customer", str(file))
    assert told["bytes"] == file.stat().st_size > 10_240
    assert file.stat().st_mode & 0o777 == 0o600
    waiting = desk.sql("SELECT convert_from(pending, 'UTF8') FROM ledger.inbox WHERE tenant = 'other'")
    assert [json.loads(one)["kind"] for (one,) in waiting] == ["tenant:exported"]
    with pytest.raises(Refused, match="exists"):
        await export.written(desk.plane, "other", "again", str(file))
    with pytest.raises(Refused, match="no tenant nobody"):
        await export.ask(desk.plane, None, "nobody", "x")
