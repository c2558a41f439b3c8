# SPDX-License-Identifier: Apache-2.0
"""A network of this test's own: a plane's namespace with a switch in it, nodes' namespaces, a cable to each (`wire`).

Made by `unshare` and `ip`; needs root and network namespaces, and is skipped by that name where they aren't to be had.
A namespace lives as long as the process that holds it, and ends with the test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

WIRE = Path(__file__).with_name("wire.py")
NET = "10.77.0"
PLANE = f"{NET}.1"
CUT = {"drop": 1.0}
WHOLE = {"drop": 0.0, "delay": 0.0}


def ended(process: subprocess.Popen[Any]) -> None:
    """End it, and what leads to it."""
    process.terminate()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Cable:
    """From the plane to one node."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def does(self, there: dict[str, float] | None = None, back: dict[str, float] | None = None) -> None:
        """From now on: *there* to the node, *back* from it; the rest stays as it is."""
        asked = {name: what for name, what in (("there", there), ("back", back)) if what is not None}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self._line("done")

    def heal(self) -> None:
        self.does(WHOLE, WHOLE)

    def _line(self, wanted: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == wanted


class Namespaces:
    """The plane's, and one for each node that is added."""

    def __init__(self, stack: ExitStack) -> None:
        if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare") and shutil.which("nsenter")):
            pytest.skip("network namespaces: root, ip, unshare, nsenter")
        tried = "ip link add v0 type veth peer name v1 && ip link add b0 type bridge"
        if subprocess.run(["unshare", "--net", "sh", "-c", tried], check=False, capture_output=True).returncode:
            pytest.skip("network namespaces: veth and bridge")
        self._stack, self._nodes = stack, 0
        self._plane = self._hold()
        self.plane = _inside(self._plane)
        for words in (["link", "add", "net0", "type", "bridge"], ["addr", "add", f"{PLANE}/24", "dev", "net0"]):
            self._ip(self._plane, *words)
        self._ip(self._plane, "link", "set", "net0", "up")
        self._ip(self._plane, "route", "add", "224.0.0.0/4", "dev", "net0")

    def add(self) -> tuple[list[str], str, Cable]:
        """(what runs a command in it, its address, the cable to it)."""
        self._nodes += 1
        node, name = self._hold(), f"port{self._nodes}"
        wire = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-I", "-S", str(WIRE), str(self._plane), str(node), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(ended, wire)
        cable = Cable(wire)
        cable._line("ready")
        address = f"{NET}.{10 + self._nodes}"
        self._ip(self._plane, "link", "set", name, "master", "net0", "up")
        self._ip(node, "addr", "add", f"{address}/24", "dev", name)
        self._ip(node, "link", "set", name, "up")
        self._ip(node, "route", "add", "224.0.0.0/4", "dev", name)
        return _inside(node), address, cable

    def _hold(self) -> int:
        held = "ip link set lo up && echo up && exec sleep infinity"
        words = ["unshare", "--net", "sh", "-c", held]
        holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._stack.callback(ended, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        return holder.pid

    def _ip(self, pid: int, *words: str) -> None:
        subprocess.run([*_inside(pid), "ip", *words], check=True)


def _inside(pid: int) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net", "--"]
