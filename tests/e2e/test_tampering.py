# SPDX-License-Identifier: Apache-2.0
"""A database superuser edits what the plane wrote: the ledger names the entry, the replay the row (G5, I4, I6)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.e2e.plane import Plane, bell


@contextlib.contextmanager
def superuser(plane: Plane) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """The database as an administrator has it: by `status`, over the socket, with the password file."""
    status = plane.cli("status", "--json").json
    admin = status["database_admin"]
    named = re.search(r"@[^/]*/([^?]*)", status["database"])
    assert named
    with psycopg.connect(
        host=admin["socket_folder"],
        user="postgres",
        password=Path(admin["password_file"]).read_text().strip(),
        dbname=named[1],
        autocommit=True,
        row_factory=dict_row,
    ) as conn:
        yield conn


@contextlib.contextmanager
def edited(plane: Plane, change: LiteralString, undo: LiteralString, *values: object) -> Iterator[None]:
    """An edit that is made undone afterwards; `undo` gets the values that the change returned."""
    with superuser(plane) as conn:
        before = conn.execute(change, values).fetchone()
        assert before is not None, "nothing was edited"
        try:
            yield
        finally:
            conn.execute(undo, before)


# Each returns what it replaced.
LEAF = """UPDATE ledger.entry new SET leaf = overlay(old.leaf PLACING '\\x31'::bytea FROM length(old.leaf) - 20 FOR 1)
          FROM ledger.entry old WHERE new.index = old.index AND old.index = %s RETURNING old.index, old.leaf"""
KIND = """UPDATE ledger.entry new SET kind = 'job:admission:denied'
          FROM ledger.entry old WHERE new.index = old.index AND old.index = %s RETURNING old.index, old.kind"""
TENANT = """UPDATE ledger.entry new SET tenant = 'other', tenant_index = 999999
            FROM ledger.entry old WHERE new.index = old.index AND old.index = %s
            RETURNING old.index, old.tenant, old.tenant_index"""


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (LEAF, "UPDATE ledger.entry SET leaf = %(leaf)s WHERE index = %(index)s"),
        (KIND, "UPDATE ledger.entry SET kind = %(kind)s WHERE index = %(index)s"),
        (
            TENANT,
            "UPDATE ledger.entry SET tenant = %(tenant)s, tenant_index = %(tenant_index)s WHERE index = %(index)s",
        ),
    ],
    ids=["leaf", "kind", "tenant"],
)
def test_an_edited_entry_is_named(stranger: Plane, change: LiteralString, undo: LiteralString) -> None:
    job = stranger.run(bell())["job_id"]
    with superuser(stranger) as conn:
        found = conn.execute(
            "SELECT index FROM ledger.entry WHERE kind = 'job:outcome:completed' AND position(%s::bytea IN leaf) > 0",
            (job.encode(),),
        ).fetchone()
    assert found is not None
    with edited(stranger, change, undo, found["index"]):
        ran = stranger.cli("ledger", "verify", "--json")
        assert ran.code == 1
        assert ran.json["ok"] is False
        assert found["index"] in [failure["index"] for failure in ran.json["failures"]]
        assert all(failure["reason"] for failure in ran.json["failures"])
    assert stranger.cli("ledger", "verify", "--json").json["ok"] is True


def test_a_deleted_entry_is_named(stranger: Plane) -> None:
    stranger.run(bell())
    with superuser(stranger) as conn:
        conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM ledger.entry WHERE index = 3")
        conn.execute("DELETE FROM ledger.entry WHERE index = 3")
        try:
            ran = stranger.cli("ledger", "verify", "--json")
            assert ran.code == 1
            assert 3 in [failure["index"] for failure in ran.json["failures"]]
        finally:
            conn.execute("INSERT INTO ledger.entry SELECT * FROM kept")
    assert stranger.cli("ledger", "verify", "--json").json["ok"] is True


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (
            """UPDATE jobs.job new SET cost_amount = 0 FROM jobs.job old
               WHERE (new.tenant, new.job_id) = (old.tenant, old.job_id) AND old.job_id = %s
               RETURNING old.job_id, old.cost_amount""",
            "UPDATE jobs.job SET cost_amount = %(cost_amount)s WHERE job_id = %(job_id)s",
        ),
        (
            """UPDATE jobs.job new SET project = 'else' FROM jobs.job old
               WHERE (new.tenant, new.job_id) = (old.tenant, old.job_id) AND old.job_id = %s
               RETURNING old.job_id, old.project""",
            "UPDATE jobs.job SET project = %(project)s WHERE job_id = %(job_id)s",
        ),
    ],
    ids=["cost", "project"],
)
def test_an_edited_job_row_is_a_difference(stranger: Plane, change: LiteralString, undo: LiteralString) -> None:
    job = stranger.run(bell())["job_id"]
    with edited(stranger, change, undo, job):
        ran = stranger.cli("ledger", "replay", "--compare", "--json")
        assert ran.code == 1
        assert ran.json["agrees"] is False
        assert any(job in str(difference) for difference in ran.json["differences"])
        assert stranger.cli("ledger", "verify").code == 0, "the ledger itself is sound"
    assert stranger.cli("ledger", "replay", "--compare").code == 0


def test_an_invented_or_lost_job_row_is_a_difference(stranger: Plane) -> None:
    job = stranger.run(bell())["job_id"]
    with superuser(stranger) as conn:
        conn.execute("UPDATE jobs.job SET job_id = 'invented' WHERE job_id = %s", (job,))
        try:
            said = str(stranger.cli("ledger", "replay", "--compare", "--json").json["differences"])
            assert "invented" in said
            assert job in said
        finally:
            conn.execute("UPDATE jobs.job SET job_id = %s WHERE job_id = 'invented'", (job,))


def test_edited_books_are_a_difference(stranger: Plane) -> None:
    stranger.run(bell())
    with superuser(stranger) as conn:
        conn.execute("UPDATE finops.budget_window SET captured = captured - 0.01 WHERE captured > 0")
        try:
            ran = stranger.cli("ledger", "replay", "--compare", "--json")
            assert (ran.code, ran.json["agrees"]) == (1, False)
            assert ran.json["differences"]
        finally:
            conn.execute("UPDATE finops.budget_window SET captured = captured + 0.01 WHERE captured > 0")
    assert stranger.cli("ledger", "replay", "--compare", "--json").json["agrees"] is True


def test_qpy_is_off_unless_switched_on(stranger: Plane) -> None:
    answer = stranger.submit(bell(circuit__format="QPY"))
    assert (answer.status, answer.code, answer.fields) == (400, "format_disabled", ["circuit.format"])
