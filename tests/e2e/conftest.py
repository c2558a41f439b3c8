# SPDX-License-Identifier: Apache-2.0
"""`plane`: one running plane a test process, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.plane import Plane


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    """A plane shared by the tests of this process: each makes its own jobs and projects, and stops nothing."""
    with_own_home = Plane(QCOS_WORKERS="1", QCOS_QPY="true")
    with_own_home.start()
    yield with_own_home
    with_own_home.stop()


@pytest.fixture(scope="session")
def stranger() -> Iterator[Plane]:
    """A second plane with keys of its own, as `qcos up` sets it up; tests may break it if they mend it again."""
    other = Plane(QCOS_WORKERS="1")
    other.start()
    yield other
    other.stop()


@pytest.fixture(scope="session")
def sampled(stranger: Plane) -> Any:
    """What `demo-data month` said of the sample month and of the invoice with faults that it left; once a process."""
    made = stranger.cli("demo-data", "month", "--scale", "0.1", "--invoice", "braket.csv", "--json")
    assert made.code == 0, made.err
    return made.json
