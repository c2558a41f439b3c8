# SPDX-License-Identifier: Apache-2.0
"""Three zones (S6, I10): a credential is with the worker alone, and no way leads from outside to a backend."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.plane import await_end, bell, faulty_plane, sound, submit
from tests.own_plane import OwnPlane
from tests.simulator import BACKEND, Simulator, sign_in, simulating

ROOT = Path(__file__).parents[2]
PROTECTED = ("control_plane.worker", "control_plane.credentials", "hal_drivers.table", "hal_drivers.remote")


def imported(module: str, seen: set[str]) -> set[str]:
    """Every module of ours that this one can come to import, wherever in it the import stands."""
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    if module in seen or not path.exists():
        return seen
    seen.add(module)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            imported(name, seen)
    return seen


def test_the_api_can_come_to_import_no_driver_and_no_credential() -> None:
    """What isn't there can't be asked for by a route: neither drivers nor their keys are reached from the app."""
    reached = imported("control_plane.app", set())
    assert "control_plane.api.jobs" in reached
    assert not [name for name in reached if name.startswith(PROTECTED)]


@pytest.mark.timeout(300)
def test_a_credential_is_nowhere_but_with_the_worker_and_only_it_speaks_to_the_backend(tmp_path: Path) -> None:
    with simulating(tmp_path / "simulator") as simulator:
        config = simulator.table().replace("{more}", "workers = 1\n")
        with faulty_plane(config) as plane:
            sign_in(plane, simulator)
            job = await_end(plane, submit(plane, bell(), "zones"))
            assert (job["state"], job["backend"]) == ("COMPLETED", BACKEND)
            folder = tmp_path / "out"
            folder.mkdir()
            plane.ask("evidence", "get", job["job_id"], "-o", str(folder / "bundle.json"))
            answers = [plane.run(*words).stdout for words in (("backends", "list"), ("jobs", "show", job["job_id"]))]
            listed = plane.ask("backends", "credential", "list")
            assert [set(one) for one in listed] == [{"name", "set_at"}]
            (folder / "answers").write_text(json.dumps([answers, listed, plane.status()]))
            told(plane, simulator, folder)
            spoken(plane, simulator)
            sound(plane)
            folder_of_keys = plane.home / "keys" / "backends"
            assert {path.stat().st_mode & 0o777 for path in folder_of_keys.iterdir()} == {0o600}
            name = listed[0]["name"]
            plane.ask("backends", "credential", "remove", name)
            assert plane.ask("backends", "credential", "list") == []


def told(plane: OwnPlane, simulator: Simulator, folder: Path) -> None:
    """Nothing that the run wrote, and no process, carries the token."""
    token = simulator.token.encode()
    written = [path for top in (plane.home, folder) for path in top.rglob("*") if path.is_file()]
    assert len(written) > 20
    found = [str(path) for path in written if token in path.read_bytes()]
    assert not found, found
    for table in tables(plane):
        rows = plane.query(f"SELECT t::text FROM {table} t")
        assert not [row for row in rows if simulator.token in row[0]], table
    for pid in family(plane):
        for name in ("environ", "cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child that has ended since
                assert token not in Path(f"/proc/{pid}/{name}").read_bytes(), (pid, name)


def tables(plane: OwnPlane) -> list[str]:
    """Every table of the plane."""
    found = plane.query(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('jobs', 'ledger', 'finops', 'auth')"
    )
    return [name for (name,) in found]


def family(plane: OwnPlane) -> list[int]:
    """The plane's processes and all that descend from them, guarded children among them."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [plane.record.pid]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    assert len(found) > 8
    return found


def spoken(plane: OwnPlane, simulator: Simulator) -> None:
    """Of all processes of the plane only the worker itself has a connection to the backend."""
    port = int(simulator.told["url"].rpartition(":")[2])
    connected = {inode for inode, to in peers() if to == port}
    holders = {pid for pid in family(plane) if connected & set(inodes(pid))}
    assert holders == {plane.pid("worker-1")}


def peers() -> Iterator[tuple[str, int]]:
    """(inode, remote port) of each TCP connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        yield fields[9], int(fields[2].rpartition(":")[2], 16)


def inodes(pid: int) -> Iterator[str]:
    """The sockets that a process holds."""
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        except OSError:
            continue
        if match:
            yield match[1]
