# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test may use: `cluster`, a real PostgreSQL, and `database`, a migrated one with all roles."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from control_plane.auth import access
from control_plane.policy.revision import load
from tests.postgres import RunningCluster, TestDatabase, postgresql_15, running_cluster

# Nothing that a test writes is kept: databases and planes lie in memory where there is room, so that a slow disk makes
# no slow tests. Faults kill planes on the disk (tests/faults).
_MEMORY, _ROOM = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# The modules with which a test drives a whole plane.
_PLANES = {"tests.e2e.plane", "tests.own_plane"}

# How fast a machine draws examples or runs one says nothing of the promise under test.
settings.register_profile("qcos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qcos")


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """A PostgreSQL server of this test process."""
    running = running_cluster()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def cluster_15() -> Iterator[RunningCluster]:
    """A server of the oldest PostgreSQL that a plane takes."""
    if (binaries := postgresql_15()) is None:
        pytest.skip("PostgreSQL 15 is not installed (QCOS_TEST_PG15 names the folder of its programs)")
    running = running_cluster(binaries)
    yield running
    running.stop()


@pytest.fixture
def database(cluster: RunningCluster) -> Iterator[TestDatabase]:
    """A fresh migrated database."""
    with cluster.database() as fresh:
        yield fresh


@pytest.fixture(autouse=True, scope="session")
def _permissions() -> None:
    """What a process of a plane learns of the policies in force: here those that are shipped."""
    access.put_in_force(access.parse_permissions(load().files[access.PATH]))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected lives to the end: looking through all of it for garbage, again and again, finds none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast files first: what needs no database, what needs one, what starts a plane, what shares one."""
    costs: dict[Path, int] = {}
    for item in items:
        costs[item.path] = max(costs.get(item.path, 0), _cost(item))
    items.sort(key=lambda item: costs[item.path])


def _cost(item: pytest.Item) -> int:
    if not isinstance(item, pytest.Function):
        return 0
    if not {getattr(named, "__module__", "") for named in vars(item.module).values()} & _PLANES:
        return int("cluster" in item.fixturenames)
    # Long files in the middle: the last ones are so short that no process waits for another.
    return 2 if "Plane(" in item.path.read_text("utf-8") else 3


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """With QCOS_TEST_ALL nothing may be skipped: a missing tool is a failure (`make test-all`)."""
    if report.skipped and os.environ.get("QCOS_TEST_ALL") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write what was skipped and why to the file that QCOS_SKIPPED names; `make test` ends with it."""
    path = os.environ.get("QCOS_SKIPPED")
    if path is None:
        return
    found: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found[reason.removeprefix("Skipped: ")] += 1
    lines = [f"skipped: {reason} ({number})" for reason, number in sorted(found.items())]
    Path(path).write_text("\n".join(lines or ["skipped: nothing"]) + "\n")
