# SPDX-License-Identifier: Apache-2.0
"""A real plane under test: `qcos up --detach` in a temporary home on a free port, and everything outside calls use.

Nothing of the plane is imported here: what a test knows, it learned through the contracts.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from tests.e2e import promised

USERS = ("engineer", "user", "admin", "auditor", "finops", "outsider")
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})
LIMIT_S = 60.0
EXAMPLES = Path(__file__).parents[2] / "examples"


class Ran(Struct, frozen=True):
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        """The one problem document on standard error."""
        return json.loads(self.err)


class Answer(Struct, frozen=True):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document in the body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem; the answer must be one."""
        assert self.headers["content-type"] == "application/problem+json", self
        document = self.json
        assert document["status"] == self.status, self
        assert document["detail"], self
        assert isinstance(document["errors"], list), self
        return str(document["code"])

    @property
    def fields(self) -> list[str]:
        """The fields that the problem names."""
        return [row["field"] for row in self.json["errors"]]


class Plane:
    """One plane, started by `start`, ended by `stop`."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qcos-e-"))
        self.home = self.folder / "home"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_")}
        for name in ("QCOS_OPA_BIN", "QCOS_POLICY_ENGINE"):
            if name in os.environ:
                kept[name] = os.environ[name]
        self.environment = kept | {"QCOS_HOME": str(self.home), "QCOS_HTTP_PORT": "0", **settings}
        self.status: dict[str, Any] = {}
        self.tokens: dict[str, str] = {}

    def start(self) -> None:
        """`qcos up --detach`, and a token for each development user."""
        up = self.cli("up", "--detach", "--json")
        assert up.code == 0, up.err
        self.status = self.cli("status", "--json").json
        secret = (self.home / "dev-login").read_text()
        for user in USERS:
            form = urlencode({"user": user, "client_secret": secret.strip()}).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            issued = self.http("POST", "/issuer/token", form, user=None, headers=kind)
            assert issued.status == 200, issued
            self.tokens[user] = issued.json["access_token"]
        # Each worker's backends are in the registry before the first job asks for one.
        assert self.http("GET", "/api/v1/backends").json, "no backend"

    def stop(self) -> None:
        """`qcos down`; the folder goes too."""
        down = self.cli("down")
        shutil.rmtree(self.folder, ignore_errors=True)
        assert down.code == 0, down.err

    def cli(self, *words: str, user: str | None = None, given: bytes = b"", **environment: str) -> Ran:
        """One `qcos` command; `user` signs it in by QCOS_TOKEN, else by what `login` stored; `given` is its input."""
        env = self.environment | environment
        if user is not None:
            env |= {"QCOS_TOKEN": self.tokens[user]}
        ran = subprocess.run(
            [sys.executable, "-m", "control_plane.cli", *words],
            env=env,
            cwd=self.folder,
            input=given,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def http(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str | None = "engineer",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        unix: bool = False,
    ) -> Answer:
        """One request, its path sent as it is given; `token` overrides `user`."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        bearer = token if token is not None else self.tokens.get(user or "")
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        connection = self.connection(unix=unix)
        try:
            connection.request(method, path, body, sent | dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, found, response.read())
        finally:
            connection.close()
        promised.hold(method, path, answer.status, answer.headers, answer.body)
        return answer

    def connection(self, *, unix: bool = False) -> HTTPConnection:
        """A connection to the API, over TCP or the Unix socket."""
        address = urlsplit(self.status.get("url") or self.cli("status", "--json").json["url"])
        connection = HTTPConnection(address.hostname or "", address.port, timeout=LIMIT_S)
        if unix:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(LIMIT_S)
            connection.sock.connect(self.status["socket"])
        return connection

    def get(self, path: str, user: str = "engineer") -> Any:
        """The document at a path below /api/v1; anything but 200 is a failure."""
        answer = self.http("GET", f"/api/v1{path}", user=user)
        assert answer.status == 200, answer
        return answer.json

    def submit(self, spec: object, user: str = "engineer", query: str = "", **headers: str) -> Answer:
        """POST a spec: a document, or bytes as they are."""
        body = spec if isinstance(spec, bytes) else json.dumps(spec).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http("POST", f"/api/v1/jobs{query}", body, user=user, headers=named)

    def run(self, spec: object, user: str = "engineer") -> Any:
        """Submit, wait for the end, and return the job as `jobs show` has it; a denial is looked up."""
        answer = self.submit(spec, user, "?wait=60")
        if answer.status == 403:
            return self.get(f"/jobs/{answer.json['job_id']}", user)
        assert answer.status == 200, answer
        return answer.json

    def end_of(self, job_id: str, user: str = "engineer") -> Any:
        """Wait for the end of a job that runs."""
        job = self.get(f"/jobs/{job_id}?wait=60", user)
        assert job["state"] in ENDED, job
        return job

    def until(self, job_id: str, *states: str) -> Any:
        """The job once it is in one of these states; it must get there."""
        until = time.monotonic() + LIMIT_S
        while (job := self.get(f"/jobs/{job_id}"))["state"] not in states:
            assert job["state"] not in ENDED, job
            assert time.monotonic() < until, job
            time.sleep(0.02)
        return job

    def project(self, amount: str, user: str = "admin") -> str:
        """A project of its own with a monthly budget in USD."""
        name = f"p-{uuid.uuid4().hex[:12]}"
        asked = {"scope": f"project:{name}", "amount": amount, "currency": "USD", "period": "monthly"}
        answer = self.http("PUT", "/api/v1/budgets", json.dumps(asked).encode(), user=user)
        assert answer.status == 200, answer
        return name

    def bundle(self, job_id: str, user: str = "engineer") -> bytes:
        """The evidence of an ended job, once it is there: a time-stamp may take its moment."""
        until = time.monotonic() + LIMIT_S
        answer = self.http("GET", f"/api/v1/jobs/{job_id}/evidence", user=user)
        while answer.status == 409 and answer.code == "evidence_pending" and time.monotonic() < until:
            time.sleep(0.05)
            answer = self.http("GET", f"/api/v1/jobs/{job_id}/evidence", user=user)
        assert answer.status == 200, answer
        return answer.body

    def trust(self) -> bytes:
        """The plane's trust file."""
        return self.http("GET", "/api/v1/trust").body

    def workers(self) -> list[int]:
        """The pids of the worker processes."""
        processes = self.cli("status", "--json").json["processes"]
        return [process["pid"] for process in processes if process["name"].startswith("worker-")]


def bell(**changes: Any) -> dict[str, Any]:
    """The example spec; each change is a dotted path with __ for the dot, None takes the member away."""
    return changed(json.loads((EXAMPLES / "bell.json").read_bytes()), **changes)


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The document with members set or taken away."""
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = document
        for step in outer:
            place = place.setdefault(step, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return document


def encoded(source: str | bytes) -> str:
    """A circuit's source as the spec carries it."""
    return base64.b64encode(source.encode() if isinstance(source, str) else source).decode()


def long_running() -> dict[str, Any]:
    """A job that keeps Aer busy for far longer than a test waits: each shot is run anew, with measurements between."""
    qubits, layers = 16, 60
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{qubits}] q;", f"bit[{qubits}] c;"]
    for layer in range(layers):
        lines += [f"rx({0.1 + layer * 0.01}) q[{n}];" for n in range(qubits)]
        lines += [f"cx q[{n}], q[{n + 1}];" for n in range(qubits - 1)]
        lines += [f"c[{layer % qubits}] = measure q[{layer % qubits}];"]
    lines += [f"c[{n}] = measure q[{n}];" for n in range(qubits)]
    return bell(circuit__source=encoded("\n".join(lines)), execution__shots=100_000)
