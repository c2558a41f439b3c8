# SPDX-License-Identifier: Apache-2.0
"""`qcos migrate` and `qcos up` on the database of a home: which schema they take, refuse, and leave alone (N10)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from control_plane import offline, upkeep
from control_plane.db import conninfo
from control_plane.settings import load
from tests.control_plane.observed import attached, judged, refused
from tests.own_plane import OwnPlane

HEAD = max(path.stem for path in Path("control_plane/migrations/versions").glob("0*.py"))


@pytest.fixture(scope="module")
def plane() -> Iterator[OwnPlane]:
    """A home whose plane has run a job and is down."""
    made = Path(tempfile.mkdtemp(prefix="qcos-m-"))
    own = OwnPlane(made / "home", config="workers = 1\n")
    with own.running():
        own.ask("login", "--as", "engineer")
        judged(own)
        running = own.run("migrate")
        assert (running.returncode, running.stderr.split(":")[0]) == (3, "already_running")
    yield own
    shutil.rmtree(made, ignore_errors=True)


def change(own: OwnPlane, statement: str) -> None:
    """Do something to the database of a plane that is down, as its administrator."""
    settings = load({}, own.environment)
    with upkeep.held(settings), offline.administered(settings) as url, psycopg.connect(conninfo(url)) as conn:
        conn.execute(statement.encode())


def test_what_is_refused_changes_nothing_and_the_plane_starts_as_before(plane: OwnPlane) -> None:
    """A way down that would lose something, and a start on the schema of a later program: one line each."""
    down = plane.run("migrate", "--to", "base")
    assert (down.returncode, down.stderr.split(":")[0]) == (1, "migration_refused"), down.stderr
    assert len(down.stderr.splitlines()) == 1
    assert plane.ask("migrate") == {"before": HEAD, "after": HEAD}
    assert attached(plane.home) == []
    change(plane, "UPDATE migration.alembic_version SET version_num = '9999_later'")
    for command in (("up", "--detach"), ("migrate",)):
        answer = plane.run(*command)
        assert (answer.returncode, answer.stderr.split(":")[0]) == (3, "schema_newer"), answer.stderr
    refused(plane, "schema_newer", exit_code=3, words=("9999_later", HEAD))
    change(plane, f"UPDATE migration.alembic_version SET version_num = '{HEAD}'")
    with plane.running():
        assert plane.ask("ledger", "verify")["ok"]
        assert plane.ask("ledger", "replay", "--compare")["agrees"]


def test_where_there_is_no_plane_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    answer = OwnPlane(tmp_path / "home").run("migrate")
    assert (answer.returncode, answer.stderr.split(":")[0]) == (3, "plane_unreachable")
