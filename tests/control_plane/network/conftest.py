# SPDX-License-Identifier: Apache-2.0
"""`desk`: a plane without its processes, on a fresh database; `office`: its way to a fabric, `double` one without a
network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import load
from hal_drivers.p2p.client import Office
from tests.control_plane.jobs.desk import Desk
from tests.control_plane.jobs.desk import desk as open_desk
from tests.hal_drivers.p2p.fabric_double import FabricDouble, fabric
from tests.postgres import TestDatabase


@pytest.fixture(scope="session")
def pdp() -> Pdp:
    """The embedded engine with the shipped policies."""
    return Pdp(EmbeddedEngine(), Held(load()))


@pytest.fixture
async def desk(database: TestDatabase, tmp_path: Path, pdp: Pdp) -> AsyncIterator[Desk]:
    """A seeded plane."""
    async with open_desk(database, tmp_path, pdp) as opened:
        yield opened


@pytest.fixture
def socket() -> Iterator[Path]:
    """Short enough for a socket's address."""
    with TemporaryDirectory(prefix="q") as folder:
        yield Path(folder) / "fabric.sock"


@pytest.fixture
async def office(socket: Path) -> AsyncIterator[Office]:
    """The plane's way to whatever serves there."""
    opened = Office(socket)
    yield opened
    await opened.close()


@pytest.fixture
async def double(socket: Path) -> AsyncIterator[FabricDouble]:
    """A fabric without a network."""
    async with fabric(socket) as serving:
        yield serving
