# SPDX-License-Identifier: Apache-2.0
"""A whole plane for a test: `qcos up` in a home of its own on a free port, driven through `qcos` as a person would.

Enters: a home folder, settings as text of `qcos.toml`. Leaves: commands' answers, the plane's record, its database.
`down` must be called, or the block form used; nothing is left running then.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from control_plane.db import Database, conninfo
from control_plane.home import PlaneRecord, is_alive, read_record

LIMIT_S = 120.0
KEPT = ("QCOS_OPA_BIN", "QCOS_POLICY_ENGINE")  # what a developer may choose for all tests


class CommandFailed(AssertionError):
    """A `qcos` command ended otherwise than it should."""


class OwnPlane:
    """One home and the plane in it, running or not."""

    def __init__(self, home: Path, *, config: str = "", **environment: str) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home = home
        (home / "qcos.toml").write_text(config)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_") or name in KEPT}
        self.prefix: list[str] = []  # what runs the command as another user
        self.environment = inherited | {
            "QCOS_HOME": str(home),
            "QCOS_CONFIG": str(home / "qcos.toml"),
            "QCOS_HTTP_PORT": "0",
            **environment,
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[OwnPlane]:
        """Up, and down whatever happens."""
        try:
            self.up()
            yield self
        finally:
            self.down()

    def up(self) -> None:
        """Start it; returns once it is ready."""
        self.ask("up", "--detach")

    def down(self) -> None:
        """Stop it, if it runs."""
        self.run("down", "--json")

    def command(self, *words: str) -> list[str]:
        """The command line of `qcos`."""
        return [*self.prefix, sys.executable, "-m", "control_plane.cli", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `qcos` command, whatever it answers."""
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )

    def ask(self, *words: str) -> Any:
        """The JSON document of a command that must succeed."""
        answer = self.run(*words, "--json")
        if answer.returncode != 0:
            raise CommandFailed(f"qcos {' '.join(words)} ended with {answer.returncode}: {answer.stderr[-2000:]}")
        return json.loads(answer.stdout) if answer.stdout else None

    @property
    def record(self) -> PlaneRecord:
        """What the plane says of itself."""
        found = read_record(self.home)
        assert found is not None
        return found

    @property
    def database(self) -> Database:
        """Its logins."""
        return Database.of_home(self.home / "db")

    def query(self, statement: str, role: str = "audit") -> list[tuple[Any, ...]]:
        """Rows, read as `audit`."""
        with psycopg.connect(conninfo(getattr(self.database, role))) as conn:
            return conn.execute(statement.encode()).fetchall()

    def http(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, document) of one request as the user who logged in; raises OSError where nobody answers."""
        login = json.loads((self.home / "credentials.json").read_bytes())
        return self.raw(method, path, body, {"Authorization": f"Bearer {login['access_token']}", **headers})

    def raw(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        """The same with these headers alone."""
        sent = {"Content-Type": "application/json", **headers}
        parts = urlsplit(self.record.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=LIMIT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """What `qcos status` says, ready or not."""
        return dict(json.loads(self.run("status", "--json").stdout))

    @contextlib.contextmanager
    def superuser(self) -> Iterator[psycopg.Connection[Any]]:
        """A session of the one who may do anything in the plane's own PostgreSQL (`dev` only)."""
        admin = self.record.database_admin
        assert admin is not None
        password = Path(admin["password_file"]).read_text().strip()
        with psycopg.connect(
            host=admin["socket_folder"], user="postgres", password=password, dbname="qcos", autocommit=True
        ) as conn:
            yield conn

    def kill(self, name: str) -> int:
        """SIGKILL one process of the plane; its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pid(self, name: str) -> int:
        """The pid of the process of this name."""
        return next(process.pid for process in self.record.processes if process.name == name)

    def alive(self) -> list[str]:
        """The names of the plane's processes that live, `up` itself as `up`."""
        record = self.record
        names = [process.name for process in record.processes if is_alive(process.pid, process.started)]
        return [*names, "up"] if is_alive(record.pid, record.started) else names

    def __repr__(self) -> str:
        return f"OwnPlane({self.home})"


def until(true: Callable[[], Any], what: str, limit_s: float = 60.0, *, every_s: float = 0.02) -> Any:
    """Wait for something to become true; its value."""
    end = time.monotonic() + limit_s
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(every_s)
