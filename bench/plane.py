# SPDX-License-Identifier: Apache-2.0
"""A plane for a measurement: started, asked over HTTP by many clients at once, stopped. Loopback only.

A client is a thread of the bench with one kept connection (http.client). A job's latency runs from before its request
is written to after its answer is read: `POST /api/v1/jobs?wait=60` answers COMPLETED once the entry that holds the
outcome is under a committed checkpoint and, at level `full`, both signatures over the evidence are time-stamped. What
a client costs is in every figure, and its CPU is told apart. An answer of 503 (`policy_unavailable` on a machine that
does other work too) is asked again within the latency, and counted in the figures.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg

from bench.machine import ROOT, tools_path
from bench.window import Flow, Window

LIMIT_S = 120
MOST_REFUSED = 200  # answers of 503 to all clients of a plane; more is no measurement
BUDGET = {"scope": "project:demo", "amount": "1000000000", "currency": "USD", "period": "monthly"}


class Plane:
    """One plane in a home of its own; use as a context."""

    def __init__(self, **settings: str) -> None:
        """`settings` are QCOS_ variables without the prefix, such as `workers="2"`."""
        self._folder = Path(tempfile.mkdtemp(prefix="qcos-bench-"))
        self.home = self._folder / "home"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_")}
        kept["PATH"] = tools_path(kept.get("PATH", ""))
        own = {"QCOS_HOME": str(self.home), "QCOS_HTTP_PORT": "0", "QCOS_TRACEBACK": "1"}
        own |= {"QCOS_RATE_REQUESTS_PER_S": "100000", "QCOS_RATE_BURST": "1000000"}
        self._environment = kept | own | {f"QCOS_{name.upper()}": value for name, value in settings.items()}
        self.status: dict[str, Any] = {}
        self.start_s = 0.0
        self.refused: list[str] = []
        self._token = ""

    def __enter__(self) -> Self:
        try:
            self.up()
            self._raise_budget()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # A start that broke may have left something running; where nothing runs, `down` says so and that is all.
            with contextlib.suppress(RuntimeError):
                self.down()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def up(self) -> None:
        """Start it and sign in; `start_s` is how long `qcos up --detach` took."""
        begun = time.perf_counter()
        self.cli("up", "--detach")
        self.start_s = time.perf_counter() - begun
        self.status = self.cli("status")
        self._token = self.cli("login", "--as", "engineer")["access_token"]

    def down(self) -> None:
        """Stop it; its home stays until the context ends."""
        self.cli("down")
        self.status = {}

    def cli(self, *words: str, limit_s: float = LIMIT_S) -> Any:
        """A command's JSON; raises RuntimeError with what it said."""
        command = [sys.executable, "-m", "control_plane.cli", *words, "--json"]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=limit_s, cwd=ROOT
        )
        if done.returncode:
            raise RuntimeError(f"qcos {' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def superuser(self) -> psycopg.Connection[Any]:
        """The development plane's repair login, for statistics that nobody else may read."""
        admin = self.status["database_admin"]
        password = Path(admin["password_file"]).read_text(encoding="ascii").strip()
        name = urlsplit(self.status["database"]).path.strip("/")
        return psycopg.connect(
            host=admin["socket_folder"], user="postgres", password=password, dbname=name, autocommit=True
        )

    def client(self) -> Client:
        """A client with a connection of its own, signed in as the engineer."""
        return Client(urlsplit(self.status["url"]).netloc, self._token, self.refused)

    def latencies(self, source: str, shots: int, count: int, *, level: str) -> list[float]:
        """Seconds from request to COMPLETED of each of `count` jobs, one after the other, of one client."""
        body = spec(source, shots, level)
        with self.client() as client:
            return [client.job(body)[0] for _ in range(count)]

    def evidence_latencies(self, source: str, shots: int, count: int, *, level: str) -> list[float]:
        """As `latencies`, but to the last byte of the job's evidence bundle, fetched by a second request."""
        body, found = spec(source, shots, level), []
        with self.client() as client:
            for _ in range(count):
                begun = time.perf_counter()
                _, job_id = client.job(body)
                client.get(f"/api/v1/jobs/{job_id}/evidence")
                found.append(time.perf_counter() - begun)
        return found

    def flow(
        self,
        source: str,
        shots: int,
        *,
        level: str,
        clients: int,
        ramp_s: float,
        window_s: float,
        mark: Callable[[], None] = lambda: None,
    ) -> Window:
        """COMPLETED jobs a second with `clients` in flight, each asking for its next as soon as it has the last."""
        body = spec(source, shots, level)

        def make() -> Callable[[], float]:
            client = self.client()
            return lambda: client.job(body)[0]

        return Flow([make] * clients).run(ramp_s, window_s, mark)

    def _raise_budget(self) -> None:
        """Development's 1,000 USD end after some 2,600 jobs."""
        self.cli("login", "--as", "admin")
        self.cli("budget", "set", BUDGET["scope"], BUDGET["amount"], BUDGET["currency"], "--period", BUDGET["period"])


class Client:
    """One kept connection; use as a context."""

    def __init__(self, place: str, token: str, refused: list[str]) -> None:
        """`place` is host:port; what a busy plane answers with 503 is noted in `refused` and asked again."""
        self._refused = refused
        self._connection = http.client.HTTPConnection(place, timeout=LIMIT_S)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one request."""
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def get(self, path: str) -> bytes:
        """The body of a request that succeeds."""
        status, body = self.ask("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status}: {body[:300]!r}")
        return body

    def job(self, body: bytes) -> tuple[float, str]:
        """Submit and wait: (seconds to COMPLETED, job id)."""
        begun = time.perf_counter()
        status, data = self.ask("POST", "/api/v1/jobs?wait=60", body)
        while status == 503 and len(self._refused) < MOST_REFUSED:
            self._refused.append(data[:200].decode(errors="replace"))
            status, data = self.ask("POST", "/api/v1/jobs?wait=60", body)
        took = time.perf_counter() - begun
        answer = json.loads(data)
        if answer.get("state") != "COMPLETED":
            raise RuntimeError(f"a job did not complete: {answer}")
        return took, answer["job_id"]


def postgresql(plane: Plane) -> str:
    """The server's version."""
    with plane.superuser() as conn:
        row = conn.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"


def spec(source: str, shots: int, level: str) -> bytes:
    """The bytes of a job spec of the demo project."""
    return json.dumps(
        {
            "circuit": {"format": "QASM3", "source": base64.b64encode(source.encode()).decode()},
            "execution": {"shots": shots, "seed": 7},
            "governance": {"project": "demo", "classification": "internal", "purpose": "benchmark"},
            "evidence_requirements": {"level": level},
        }
    ).encode()
