# SPDX-License-Identifier: Apache-2.0
"""`desk`: a plane without its processes, on a fresh database, deciding by the shipped policies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from tests.control_plane.jobs.desk import Desk, report
from tests.control_plane.jobs.desk import desk as open_desk
from tests.fakes import FakeDriver
from tests.postgres import TestDatabase


@pytest.fixture(scope="session")
def pdp() -> Pdp:
    """The embedded engine with the shipped policies; compiling them is the slow part."""
    return Pdp(EmbeddedEngine(), Held(load()))


@pytest.fixture
async def driver() -> FakeDriver:
    """The backend that the desk's registry knows."""
    return FakeDriver()


@pytest.fixture
async def desk(database: TestDatabase, tmp_path: Path, pdp: Pdp, driver: FakeDriver) -> AsyncIterator[Desk]:
    """A seeded plane whose one backend is `driver`."""
    async with open_desk(database, tmp_path, pdp) as opened:
        await report(opened, driver)
        yield opened
