# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL given by URL: what is refused, a governed job on one of the system, roles and walls (decision 4)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control_plane.db import conninfo
from control_plane.policy.choice import find_opa
from tests.control_plane.observed import BELL, attached, refused
from tests.own_plane import OwnPlane, until
from tests.postgres import RunningCluster, TestDatabase
from tests.soak.issuer import Issuer

ORDINARY = 65534
PASSWORD = "between-the-tests"
OLDEST = 15
TENANT_COLUMNS = ("tenant", "tenant_id")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that all may enter: the system's PostgreSQL doesn't run as root."""
    made = Path(tempfile.mkdtemp(prefix="qcos-x-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_server_that_is_not_there_is_named(folder: Path) -> None:
    url = "postgresql://who:s3cret@127.0.0.1:1/qcos"
    line = refused(OwnPlane(folder / "home", QCOS_DATABASE_URL=url), "database_unusable", exit_code=3)
    assert "QCOS_DATABASE_URL" in line
    assert "refused" in line
    assert "s3cret" not in line


def test_a_wrong_password_is_refused_by_name(folder: Path, cluster: RunningCluster) -> None:
    url = re.sub(r"postgres:[^@]+@", "postgres:wr0ng@", conninfo(cluster.empty()))
    line = refused(OwnPlane(folder / "home", QCOS_DATABASE_URL=url), "database_unusable", exit_code=3)
    assert "password authentication failed" in line
    assert "wr0ng" not in line


def test_a_login_that_may_not_create_roles_is_refused(folder: Path, cluster: RunningCluster) -> None:
    admin = conninfo(cluster.empty())
    name = f"plain_{os.urandom(4).hex()}"
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'".encode())
    url = re.sub(r"postgres:[^@]+@", f"{name}:{PASSWORD}@", admin)
    line = refused(OwnPlane(folder / "home", QCOS_DATABASE_URL=url), "database_unusable", exit_code=3)
    assert "may not create roles" in line
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(f"DROP ROLE {name}".encode())


def test_a_server_that_may_lose_commits_is_refused(folder: Path) -> None:
    """Decision 1: an acknowledged entry is durable, so fsync off is no server for a ledger."""
    lax = RunningCluster(folder, "-c", "fsync=off")
    try:
        own = OwnPlane(folder / "home", QCOS_DATABASE_URL=conninfo(lax.empty()))
        refused(own, "setting_invalid", exit_code=2, words=("QCOS_DATABASE_URL", "fsync", "durable"))
    finally:
        lax.stop()


def system_postgres() -> Path | None:
    """The folder of the newest `postgres` of the system, if it is new enough."""
    found = [Path(path).resolve() for path in [shutil.which("postgres")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    for path in found:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"(\d+)\.", said)
        if version and int(version[1]) >= OLDEST and (path.parent / "initdb").exists():
            return path.parent
    return None


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The URL of a database on the system's PostgreSQL; its login may create roles and is no superuser."""
    binaries = system_postgres()
    if binaries is None:
        pytest.skip(f"no PostgreSQL {OLDEST} or newer of the system here")
    data, sockets, secret = folder / "data", folder / "s", folder / "secret"
    sockets.mkdir(mode=0o700)
    secret.write_text(PASSWORD)
    as_user: dict[str, Any] = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []} if os.geteuid() == 0 else {}
    data.mkdir(mode=0o700)
    if as_user:
        for path in (data, sockets, secret):
            os.chown(path, ORDINARY, ORDINARY)
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--locale=C"]
    subprocess.run(
        [*initdb, "-E", "UTF8", f"--pwfile={secret}"],
        check=True,
        capture_output=True,
        cwd="/",
        **as_user,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(sockets), "-p", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-c", "listen_addresses=127.0.0.1"],
            stdout=log,
            stderr=log,
            cwd="/",
            **as_user,
        )
    place = f"@127.0.0.1:{port}"

    def answers() -> bool:
        try:
            psycopg.connect(f"postgresql://postgres:{PASSWORD}{place}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        until(answers, "the server answers")
        with psycopg.connect(f"postgresql://postgres:{PASSWORD}{place}/postgres", autocommit=True) as conn:
            conn.execute(f"CREATE ROLE installer LOGIN CREATEROLE CREATEDB PASSWORD '{PASSWORD}'".encode())
            conn.execute(b"CREATE DATABASE plane OWNER installer")
        yield f"postgresql://installer:{PASSWORD}{place}/plane"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_an_onprem_plane_runs_on_a_postgres_by_url(folder: Path, server: str) -> None:
    """S8, G11: profile onprem, OPA, an issuer by OIDC; the installer's login is no superuser."""
    if find_opa(os.environ.get("QCOS_OPA_BIN")) is None:
        pytest.skip("opa isn't here (make tools gets it)")
    issuer = Issuer("acme")
    issuer.start()
    facts = (
        "[[backend]]\nid = 'aer'\nprovider = 'aer'\nregion = 'here'\ncompliance_zone = 'sovereign'\nsovereign = true\n"
    )
    (folder / "passphrase").touch(mode=0o600)
    (folder / "passphrase").write_text("correct horse battery staple")
    own = OwnPlane(
        folder / "home",
        config="workers = 1\n" + issuer.config + facts,
        QCOS_PROFILE="onprem",
        QCOS_KEY_PASSPHRASE_FILE=str(folder / "passphrase"),
        QCOS_PLANE="hall-1",
        QCOS_DATABASE_URL=server,
    )
    try:
        with own.running():
            status = own.ask("status")
            assert (status["profile"], status["policy_engine"], status["database_admin"]) == ("onprem", "opa", None)
            assert PASSWORD not in str(status)
            assert "postgres" not in [process["name"] for process in status["processes"]]
            own.environment["QCOS_TOKEN"] = issuer.token("chief", "quantum-admin")
            own.ask("budget", "set", "project:demo", "100", "USD", "--period", "monthly")
            own.environment["QCOS_TOKEN"] = issuer.token("ada", "quantum-engineer")
            job = own.ask("submit", BELL, "--wait")
            assert job["state"] == "COMPLETED"
            bundle, trust = str(folder / "bundle.json"), str(folder / "trust.json")
            own.ask("evidence", "get", job["job_id"], "-o", bundle)
            own.ask("trust", "export", "-o", trust)
            assert own.ask("verify", bundle, "--trust", trust)["verdict"] == "valid"
            assert own.ask("ledger", "verify")["ok"] is True
            _assert_walls(server)
    finally:
        issuer.stop()
    assert attached(own.home) == []


def _assert_walls(url: str) -> None:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole FROM pg_roles")
        found = {name: (login, mighty) for name, login, mighty in rows if name.startswith("qcos_")}
    assert {name.split("_")[1]: what for name, what in found.items()} == {
        "owner": (False, False),
        "migrator": (True, False),
        "app": (True, False),
        "sealer": (True, False),
        "audit": (True, False),
    }


def test_every_table_is_walled_and_no_role_passes_the_walls(database: TestDatabase) -> None:
    """I7: each table with a tenant forces row-level security, and shows `app` the transaction's tenant alone."""
    with psycopg.connect(database.conninfo("superuser")) as conn:
        tables = conn.execute(
            "SELECT c.oid::regclass::text, c.relrowsecurity AND c.relforcerowsecurity,"
            " (SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND attname = ANY(%(columns)s) LIMIT 1),"
            " ARRAY(SELECT DISTINCT coalesce(pg_get_expr(p.polqual, p.polrelid), '') FROM pg_policy p"
            "  WHERE p.polrelid = c.oid AND (%(app)s::regrole::oid = ANY(p.polroles) OR 0 = ANY(p.polroles)))"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)'"
            " AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND attname = ANY(%(columns)s))",
            {"columns": list(TENANT_COLUMNS), "app": database.roles.app},
        ).fetchall()
        strong = conn.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^qcos_' AND (rolbypassrls OR rolsuper OR rolcreaterole)"
        ).fetchall()
        member = conn.execute(
            "SELECT r.rolname FROM pg_roles r WHERE r.rolname = ANY(%s) AND pg_has_role(r.oid, %s, 'MEMBER')",
            ([database.roles.app, database.roles.sealer, database.roles.audit], database.roles.owner),
        ).fetchall()
    assert strong == []
    assert member == []
    assert len(tables) > 10
    # A command that waits for a browser's yes knows no tenant yet; who reads a row needs its code, which lies hashed.
    of_nobody = {"auth.device"}
    assert of_nobody <= {table for table, *_ in tables}
    for table, walled, column, expressions in tables:
        assert walled, f"{table} has no wall"
        wanted = f"({column} = NULLIF(current_setting('qcos.tenant'::text, true), ''::text))"
        if table in of_nobody:
            continue
        assert expressions in ([wanted], []), f"{table} shows app more than its tenant's rows: {expressions}"


@pytest.mark.parametrize(
    ("role", "table", "denied"),
    [
        ("app", "ledger.entry", "INSERT UPDATE DELETE TRUNCATE"),
        ("app", "ledger.tile", "INSERT UPDATE DELETE TRUNCATE"),
        ("app", "ledger.checkpoint", "INSERT UPDATE DELETE TRUNCATE"),
        ("app", "ledger.token", "INSERT UPDATE DELETE TRUNCATE"),
        ("app", "ledger.inbox", "UPDATE DELETE TRUNCATE"),
        ("sealer", "ledger.entry", "UPDATE DELETE TRUNCATE"),
        ("sealer", "ledger.checkpoint", "UPDATE DELETE TRUNCATE"),
        ("sealer", "ledger.blob", "SELECT INSERT UPDATE DELETE TRUNCATE"),
        ("sealer", "ledger.tenant_key", "SELECT INSERT UPDATE DELETE TRUNCATE"),
        ("audit", "ledger.entry", "INSERT UPDATE DELETE TRUNCATE"),
        ("audit", "ledger.inbox", "INSERT UPDATE DELETE TRUNCATE"),
    ],
)
def test_a_role_has_no_right_that_its_work_does_not_need(
    database: TestDatabase, role: str, table: str, denied: str
) -> None:
    """Decision 4: the log is append-only for all who log in, and its sealer can't open what it seals."""
    with psycopg.connect(database.conninfo("superuser")) as conn:
        for right in denied.split():
            row = conn.execute(
                "SELECT has_table_privilege(%s, %s, %s)", (getattr(database.roles, role), table, right)
            ).fetchone()
            assert row == (False,), f"{role} may {right} {table}"


def test_audit_reads_all_and_changes_nothing(database: TestDatabase) -> None:
    with psycopg.connect(database.conninfo("superuser")) as conn:
        rows = conn.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('ledger', 'finops', 'auth', 'jobs') AND"
            " has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')",
            (database.roles.audit,),
        ).fetchall()
    assert rows == []
