# SPDX-License-Identifier: Apache-2.0
"""The database of a plane that doesn't run, for the commands that work on it then: backup, restore, migrate.

Enters: settings, or a cluster's folder. Leaves: the administrator's URL for as long as the block lasts; the wheel's
PostgreSQL is started for it and stopped after it, one by URL is there already. The caller MUST hold the home
(`home.Hold`), so that no `up` starts the same server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control_plane.errors import StartFailed, Unreachable
from control_plane.home import make_folder
from control_plane.postgres import DATABASE, Cluster, cluster
from control_plane.settings import Settings

_START_S = 60.0
_STOP_S = 60.0


@contextmanager
def administered(settings: Settings) -> Iterator[str]:
    """The URL of the login that makes roles, of the plane in this home; Unreachable where the home holds none."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    if not (settings.home / "db" / "data" / "PG_VERSION").exists():
        raise Unreachable(f"{settings.home} holds no plane; QCOS_HOME names another, qcos up makes one")
    make_folder(settings.postgres_sockets)
    found = cluster(settings.home / "db", settings.postgres_sockets)
    make_folder(settings.home / "log")
    with serving(found, settings.home / "log" / "postgres.log"):
        yield found.url(DATABASE)


@contextmanager
def serving(found: Cluster, log: Path) -> Iterator[None]:
    """The cluster's server, answering, until the block ends; then stopped in order."""
    found.clear_leftovers()
    with log.open("ab") as said:
        server = subprocess.Popen(
            found.who.command(found.command(), signal.SIGQUIT),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        )
    try:
        until = time.monotonic() + _START_S
        while not found.answers():
            if server.poll() is not None or time.monotonic() > until:
                raise StartFailed(f"postgres did not start; see {log}")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait(_STOP_S)
