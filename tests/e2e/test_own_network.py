# SPDX-License-Identifier: Apache-2.0
"""`qcos up --nodes N`: a network of the plane's own, kept alive like its other processes (N1, N11, N14)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.home import is_alive, started_at
from tests.own_plane import OwnPlane, until


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[OwnPlane]:
    made = OwnPlane(tmp_path / "home", QCOS_NODES="2", QCOS_WORKERS="1")
    with made.running():
        made.ask("login", "--as", "admin")
        yield made


def _pids(plane: OwnPlane) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in plane.status()["processes"]}


def _nodes(plane: OwnPlane) -> dict[str, dict[str, Any]]:
    return {node["node_id"]: node for node in plane.ask("node", "list")}


def test_nodes_are_enrolled_listed_with_their_processes_and_come_back_when_killed(plane: OwnPlane) -> None:
    pids, nodes = _pids(plane), _nodes(plane)
    assert {"fabric", "node-1", "node-2"} <= pids.keys()
    assert {node["pid"] for node in nodes.values()} == {pids["node-1"], pids["node-2"]}
    assert all(len(node["services"]) == 7 and node["state"] == "online" for node in nodes.values())
    entries = plane.query("SELECT count(*) FROM ledger.entry WHERE kind LIKE 'network:peer:%' OR kind LIKE '%enrol%'")
    assert entries[0][0] >= 4  # each proposed and approved

    os.kill(pids["node-1"], signal.SIGKILL)
    os.kill(pids["fabric"], signal.SIGKILL)

    def back() -> bool:
        now = _pids(plane)
        if {now["node-1"], now["fabric"]} & {0, pids["node-1"], pids["fabric"]} or not plane.status()["ready"]:
            return False
        found = _nodes(plane)
        return found.keys() == nodes.keys() and all(n["state"] in {"unverified", "online"} for n in found.values())

    until(back, "fabric and node are back, and know each other")
    pids = _pids(plane)
    started = {pid: started_at(pid) for pid in pids.values()}
    plane.down()
    assert not [name for name, pid in pids.items() if is_alive(pid, started[pid])]


def test_a_fabric_that_cannot_listen_keeps_the_plane_from_starting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plane = OwnPlane(
            tmp_path / "home", config=f'[network]\nenabled = true\nlisten = ["/ip4/127.0.0.1/tcp/{port}"]\n'
        )
        answer = plane.run("up", "--detach", "--json")
        assert answer.returncode == 3
        assert "start_failed" in answer.stderr
        assert "fabric" in answer.stderr
        assert str(port) in answer.stderr
        assert plane.run("status", "--json").returncode == 3


def test_own_nodes_are_for_development(tmp_path: Path) -> None:
    answer = OwnPlane(tmp_path / "home", config='profile = "onprem"\nplane = "p"\n').run("up", "--nodes", "2")
    assert answer.returncode == 2
    assert "setting_invalid" in answer.stderr
