# SPDX-License-Identifier: Apache-2.0
"""A plane for a measurement: started, asked over HTTP by many clients at once, stopped. Loopback only."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

LIMIT_S = 120


class Plane:
    """One plane in a home of its own; use as a context."""

    def __init__(self, **settings: str) -> None:
        """`settings` are QCOS_ variables without the prefix, such as `workers="2"`."""
        self._home = Path(tempfile.mkdtemp(prefix="qcos-bench-"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_")}
        own = {"QCOS_HOME": str(self._home / "home"), "QCOS_HTTP_PORT": "0", "QCOS_RATE_BURST": "1000000"}
        given = {f"QCOS_{name.upper()}": value for name, value in settings.items()}
        self._environment = kept | own | {"QCOS_RATE_REQUESTS_PER_S": "100000"} | given
        self.status: dict[str, Any] = {}
        self._token = ""

    def __enter__(self) -> Self:
        self.cli("up", "--detach")
        self.status = self.cli("status")
        self._token = self.cli("login", "--as", "engineer")["access_token"]
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.cli("down")
        finally:
            shutil.rmtree(self._home, ignore_errors=True)

    def cli(self, *words: str) -> Any:
        """A command's JSON; raises CalledProcessError."""
        command = [sys.executable, "-m", "control_plane.cli", *words, "--json"]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True, timeout=LIMIT_S
        )
        return json.loads(done.stdout)

    def latencies(
        self, source: str, shots: int, count: int, *, level: str, clients: int = 1
    ) -> tuple[list[float], float]:
        """Seconds from request to sealed evidence of each of `count` jobs, and jobs a second over all."""
        body = json.dumps(spec(source, shots, level)).encode()
        left = iter(range(count))
        found: list[float] = []
        faults: list[Any] = []
        lock = threading.Lock()

        def client() -> None:
            connection = http.client.HTTPConnection(urlsplit(self.status["url"]).netloc, timeout=LIMIT_S)
            while True:
                with lock:
                    if faults or next(left, None) is None:
                        return
                begun = time.perf_counter()
                connection.request("POST", "/api/v1/jobs?wait=60", body, self._headers())
                answer = json.loads(connection.getresponse().read())
                took = time.perf_counter() - begun
                with lock:
                    found.append(took)
                    if answer.get("state") != "COMPLETED":
                        faults.append(answer)

        begun = time.perf_counter()
        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise RuntimeError(f"a job did not complete: {faults[0]}")
        return found, count / (time.perf_counter() - begun)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}


def spec(source: str, shots: int, level: str) -> dict[str, Any]:
    """A job spec of the demo project."""
    return {
        "circuit": {"format": "QASM3", "source": base64.b64encode(source.encode()).decode()},
        "execution": {"shots": shots, "seed": 7},
        "governance": {"project": "demo", "classification": "internal", "purpose": "benchmark"},
        "evidence_requirements": {"level": level},
    }
