# SPDX-License-Identifier: Apache-2.0
"""A ledger without a plane: PostgreSQL as the plane makes it, its schema and roles, and a sealer in its own process.

The server is the wheel's with the settings that a development plane gives it, durable writes on, and room for more
connections. The sealer is the plane's, with keys and a head file of its own and no authority of time: entries without
evidence wait for none. Use as a context; the folder goes with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg
import uvloop

from control_plane.db import Database, conninfo
from control_plane.postgres import Cluster, cluster
from control_plane.provision import migrate, provision
from ledger.batch import Plane
from ledger.sealer import run
from ledger.sealer_config import SealerConfig
from ledger.sealer_keys import create_sealer_keys

CONNECTIONS = 600
START_S = 60
NAME = "ledger"


class Log:
    """The server, its logins and its sealer."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qcos-log-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.database: Database
        self.superuser = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process, number in zip(reversed(self._processes), (signal.SIGTERM, signal.SIGINT), strict=False):
            process.send_signal(number)
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def app(self) -> str:
        """The writers' login, in libpq's form, with the bench's tenant set."""
        return conninfo(self.database.app)

    @property
    def audit(self) -> str:
        """The login of whoever reads all of the log."""
        return conninfo(self.database.audit)

    @property
    def head(self) -> Path:
        """The head kept outside of the database."""
        return self.folder / "head"

    def status(self) -> dict[str, Any]:
        """Its processes, as `bench.processes` wants them."""
        names = ("postgres", "sealer")
        found = [{"name": n, "pid": p.pid} for n, p in zip(names, self._processes, strict=False)]
        return {"processes": found}

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement of the superuser; its rows."""
        with psycopg.connect(self.superuser, autocommit=True) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _start(self) -> None:
        sockets = self.folder / "s"
        sockets.mkdir(mode=0o700)
        self.folder.chmod(0o711)  # where the server runs as another user, it reaches its own folders below
        found = cluster(self.folder, sockets, connections=CONNECTIONS)
        self._serve(found)
        found.make_database(NAME)
        self.superuser = conninfo(found.url(NAME))
        self.database = provision(found.url(NAME), self.folder / "logins")
        migrate(self.database)
        create_sealer_keys(self.folder / "keys")
        config = SealerConfig(
            conninfo=conninfo(self.database.sealer),
            keys=self.folder / "keys",
            head=self.head,
            origin="qcos.bench/log",
            plane=Plane(profile="dev", name="bench"),
        )
        told = msgspec.json.encode(config, enc_hook=str)
        self._processes.append(subprocess.Popen([sys.executable, "-m", "bench.log", told]))
        until = time.monotonic() + START_S
        while self.sql("SELECT count(*) FROM ledger.checkpoint") == [(0,)]:
            if time.monotonic() > until or self._processes[-1].poll() is not None:
                raise RuntimeError("the sealer doesn't start")
            time.sleep(0.05)

    def _serve(self, found: Cluster) -> None:
        with (self.folder / "log").open("ab") as log:
            server = subprocess.Popen(
                found.who.command(found.command(), signal.SIGQUIT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
            )
        self._processes.append(server)
        until = time.monotonic() + START_S
        while not found.answers():
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            time.sleep(0.02)


async def _seal() -> None:
    told = msgspec.json.decode(sys.argv[1], type=SealerConfig, dec_hook=lambda kind, value: kind(value))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(told, stop)


if __name__ == "__main__":
    uvloop.run(_seal())  # as the plane runs its own
