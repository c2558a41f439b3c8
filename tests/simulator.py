# SPDX-License-Identifier: Apache-2.0
"""`qcos simulator serve` in a process of its own, for tests that kill it, stop it and start it again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.own_plane import OwnPlane, until

BACKEND = "remote-aer"


class Simulator:
    """One server on one port; `start` again after `kill` is the same address, home and certificate."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self._options = folder, options
        self.process: subprocess.Popen[str] | None = None
        self.told: dict[str, Any] = {}

    def start(self) -> None:
        """Returns once it answers."""
        port = self.told["url"].rpartition(":")[2] if self.told else "0"
        words = ["simulator", "serve", "--home", str(self.folder), "--port", port, "--insecure-walls", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "control_plane.cli", *words, *self._options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the simulator ended before it answered"
        self.told = json.loads(line)

    def kill(self) -> None:
        """At once."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def signal(self, number: signal.Signals) -> None:
        """To the server itself; its children die with it."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    @property
    def token(self) -> str:
        """What it lets in."""
        return Path(self.told["token_file"]).read_text().strip()

    def table(self) -> str:
        """The `[[backend]]` of qcos.toml, and no other backend."""
        given = self.told["backend"] | {"region": "lab", "compliance_zone": "onprem", "id": BACKEND}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        return "\n".join(["default_backends = false", "{more}", "[[backend]]", "sovereign = true", *lines, ""])


@contextlib.contextmanager
def simulating(folder: Path, *options: str) -> Iterator[Simulator]:
    """Started, and ended whatever happens."""
    made = Simulator(folder, *options)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None:
            made.signal(signal.SIGCONT)
            made.kill()


def sign_in(plane: OwnPlane, simulator: Simulator) -> None:
    """Give the workers the token; returns once the backend is up."""
    name = simulator.told["backend"]["credential"]
    plane.ask("backends", "credential", "set", name, "--from-file", simulator.told["token_file"])

    def up() -> bool:
        found = {one["id"]: one["state"] for one in plane.ask("backends", "list")}
        return bool(found[BACKEND] == "online")

    until(up, "the simulator is online")
