# SPDX-License-Identifier: Apache-2.0
"""`desk`: a plane without its processes, on a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.jobs.desk import desk as open_desk
from tests.postgres import TestDatabase


@pytest.fixture(scope="session")
def pdp() -> Pdp:
    """The embedded engine with the shipped policies."""
    return Pdp(EmbeddedEngine(load()))


@pytest.fixture
async def desk(database: TestDatabase, tmp_path: Path, pdp: Pdp) -> AsyncIterator[Desk]:
    """A seeded plane."""
    async with open_desk(database, tmp_path, pdp) as opened:
        yield opened
