# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL for tests: the wheel's, in a folder of its own, once a test process, a fresh database a test.

Durable writes stay on, as in the plane. A database is a copy of a migrated template, so it costs tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from msgspec import Struct
from psycopg import sql

from control_plane import migrations, postgres
from control_plane.db import Database, Roles, conninfo
from control_plane.postgres import Cluster, cluster
from control_plane.provision import migrate, provision

_TEMPLATE = "template"
_START_S = 60
_numbers = count(1)


class TestDatabase(Struct, frozen=True):
    """One database with a URL (SQLAlchemy, as str) a role, the superuser's included."""

    __test__ = False

    name: str
    roles: Roles
    app: str
    sealer: str
    audit: str
    migrator: str
    superuser: str

    def conninfo(self, role: str) -> str:
        """The URL of a role in libpq's form, for plain psycopg."""
        return conninfo(getattr(self, role))


class RunningCluster:
    """The server, its folder, and the template that `database()` copies."""

    def __init__(self, folder: Path, *options: str, binaries: Path | None = None) -> None:
        self.folder = folder
        sockets = folder / "s"
        sockets.mkdir(mode=0o700)
        with pytest.MonkeyPatch.context() as patch:
            if binaries is not None:  # the plane itself knows the wheel's alone, and servers that it doesn't start
                patch.setattr(postgres, "_binaries", lambda: binaries)
            self.cluster: Cluster = cluster(folder, sockets)
        # Who stops in the midst of logging in, as a cancelled task does, keeps databases from being made and dropped
        # until the server has had enough of him: after a minute by default.
        self._server = _start(self.cluster, ("-c", "authentication_timeout=10s", *options))
        self._known: Database | None = None

    def empty(self) -> str:
        """Create an empty database and return the superuser's URL of it."""
        name = f"empty_{next(_numbers)}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.cluster.url(name)

    @contextlib.contextmanager
    def database(self) -> Iterator[TestDatabase]:
        """A fresh migrated database, dropped afterwards."""
        known = self._template()
        name = f"test_{next(_numbers)}"
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(_TEMPLATE)
            )
        )
        # Rights on the database itself aren't copied with a template.
        owner = sql.Identifier(known.roles.owner)
        self._execute(sql.SQL("GRANT CONNECT, CREATE ON DATABASE {} TO {}").format(sql.Identifier(name), owner))

        def to(url: str) -> str:
            return url.replace(f"@/{_TEMPLATE}?", f"@/{name}?")

        yield TestDatabase(
            name=name,
            roles=known.roles,
            app=to(known.app),
            sealer=to(known.sealer),
            audit=to(known.audit),
            migrator=to(known.migrator),
            superuser=self.cluster.url(name),
        )
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Stop the server at once and remove its folder."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(_START_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _template(self) -> Database:
        if self._known is None:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_TEMPLATE)))
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
            known = provision(self.cluster.url(_TEMPLATE), self.folder / "logins")
            os.environ["PGOPTIONS"] = "-c check_function_bodies=off"
            migrate(known, versions=relinked(self.folder / "versions"))
            del os.environ["PGOPTIONS"]
            self._known = known
        return self._known

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(conninfo(self.cluster.url("postgres")), autocommit=True) as conn:
            conn.execute(statement)


def relinked(folder: Path) -> Path:
    """The revisions that exist, linked to one another in order."""
    folder.mkdir(exist_ok=True)
    previous = None
    for path in sorted((Path(migrations.__file__).parent / "versions").glob("0*.py")):
        text = re.sub(r"(?m)^down_revision.*$", f"down_revision = {previous!r}", path.read_text())
        (folder / path.name).write_text(text)
        found = re.search(r"(?m)^revision\b.*= *[\"'](.+?)[\"']", text)
        assert found
        previous = found.group(1)
    return folder


def running_cluster(binaries: Path | None = None) -> RunningCluster:
    """Make and start a cluster in a short temporary folder (a Unix socket's path is short)."""
    return RunningCluster(Path(tempfile.mkdtemp(prefix="qcos-t-")), binaries=binaries)


def postgresql_15() -> Path | None:
    """The programs of PostgreSQL 15, the oldest that a plane takes; QCOS_TEST_PG15 names their folder."""
    places = [Path(os.environ.get("QCOS_TEST_PG15", "/nowhere"))]
    places += [Path("/usr/lib/postgresql/15/bin"), Path("/usr/pgsql-15/bin"), Path("/usr/local/pgsql-15/bin")]
    if (asked := shutil.which("pg_config")) is not None:
        said = subprocess.run([asked, "--version", "--bindir"], capture_output=True, text=True, check=False).stdout
        places += [Path(line) for line in said.splitlines() if " 15." in said and line.startswith("/")]
    return next((place for place in places if (place / "postgres").exists()), None)


def _start(found: Cluster, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    log = (found.data.parent / "log").open("ab")
    server = subprocess.Popen(
        found.who.command([*found.command(), *options], signal.SIGQUIT),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        cwd="/",
    )
    log.close()
    until = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(conninfo(found.url("postgres"))).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until:
                text = (found.data.parent / "log").read_text(errors="replace")
                raise RuntimeError(text) from None
            time.sleep(0.02)
        else:
            return server
