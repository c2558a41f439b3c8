# SPDX-License-Identifier: Apache-2.0
"""The export of a tenant's charges: its own lines alone, the same bytes each time, and no month in memory (G7, I7)."""

from __future__ import annotations

import csv
import hashlib
import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from control_plane.costs import exporting
from control_plane.db import conninfo, engine
from finops.focus.errors import FocusRefused
from finops.focus.selection import Selection

if TYPE_CHECKING:
    from tests.postgres import TestDatabase

_FILL = """
    INSERT INTO finops.charge (tenant, entry_id, line, category, month, charged_at, job_id, project, provider, backend,
        started_at, ended_at, meter, quantity, unit, rate, amount, currency, source, reporter, rate_card)
    SELECT %(tenant)s, md5(%(tenant)s || n)::uuid, 0, 'usage', '2026-11', timestamptz '2026-11-01Z' + n * interval '7s',
        'job-' || n, 'project-' || n %% 3, 'aer', 'aer', timestamptz '2026-11-01Z', timestamptz '2026-11-01Z', 'shots',
        1000, 'Shots', 0.00035, 0.35, 'USD', 'measured', 'plane', 'sha256:x'
    FROM generate_series(1, 900) AS n
"""


async def _read(plane: Any, tenant: str, selection: Selection, form: str = "csv") -> bytes:
    return b"".join([piece async for piece in exporting.stream(plane, tenant, selection, exporting.Form("1.2", form))])


async def test_a_month_is_exported_by_its_tenant_alone_and_alike_each_time(database: TestDatabase) -> None:
    """What the digest says is the hash of the file; a reader who goes away leaves no connection behind."""
    with psycopg.connect(conninfo(database.superuser), autocommit=True) as conn:
        for tenant in ("demo", "other"):
            conn.execute(_FILL, {"tenant": tenant})
    plane = cast("Any", SimpleNamespace(engine=engine(database.app), name="qcos-test"))
    month = Selection(month="2026-11")
    first = await _read(plane, "demo", month)
    lines = list(csv.DictReader(io.StringIO(first.decode())))
    assert len(lines) == 900
    assert {line["BillingAccountId"] for line in lines} == {"demo"}
    assert lines == sorted(lines, key=lambda line: line["x_ChargedAt"])
    assert await _read(plane, "demo", month) == first
    assert await _read(plane, "demo", month, "parquet") == await _read(plane, "demo", month, "parquet")
    told = await exporting.digest(plane, "demo", "2026-11")
    assert told == exporting.Digest("sha256:" + hashlib.sha256(first).hexdigest(), 900, 900)
    some = await _read(plane, "demo", Selection(month="2026-11", project="project-1"))
    assert some.count(b"\n") == 301
    assert (await _read(plane, "demo", Selection(month="2026-10"))).count(b"\n") == 1
    with pytest.raises(FocusRefused):
        await _read(plane, "demo", month, "xlsx")
    begun = exporting.stream(plane, "demo", month, exporting.Form("1.2", "csv"))
    async for _ in begun:
        break
    await cast("Any", begun).aclose()
    with psycopg.connect(conninfo(database.superuser)) as conn:
        open_still = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qcos-export'"
        assert conn.execute(open_still).fetchone() == (0,)
    await plane.engine.dispose()
