# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every test may use: `cluster`, a real PostgreSQL, and `database`, a fresh migrated one with all roles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import RunningCluster, TestDatabase, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """A PostgreSQL server of this test process."""
    running = running_cluster()
    yield running
    running.stop()


@pytest.fixture
def database(cluster: RunningCluster) -> Iterator[TestDatabase]:
    """A fresh migrated database."""
    with cluster.database() as fresh:
        yield fresh
