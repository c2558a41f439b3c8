# SPDX-License-Identifier: Apache-2.0
"""A served simulator for tests: in this process's loop, or in a process of its own that can be killed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hal_drivers.base import Driver
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.remote.link import Patience
from hal_drivers.simulator.serve import Options, Serving, serving
from hal_drivers.table import open_drivers

BACKEND = "remote-1"
QUICK = Patience(connect_s=1.0, answer_s=2.0, whole_s=3.0, pause_s=0.01, longest_pause_s=0.1)


def settings_of(server: Serving, **more: object) -> BackendConfig:
    """The backend's settings, as an administrator would write them."""
    given = {"url": server.url, "ca": server.certificate, "credential": "sim"} | more
    return BackendConfig(id=BACKEND, provider="remote", **given)  # type: ignore[arg-type]


def driver_of(backend: BackendConfig, token: str, patience: Patience = QUICK) -> Driver:
    """The driver that a worker would have."""
    config = DriversConfig(backends=(backend,), credential=lambda name: {"sim": token}[name])
    driver = open_drivers(config)[BACKEND]
    driver._link._patience = patience  # type: ignore[attr-defined]
    return driver


@contextlib.asynccontextmanager
async def here(folder: Path, **more: object) -> AsyncIterator[tuple[Serving, str]]:
    """A server of Aer in this loop, and its token."""
    async with serving(Options(home=folder / "simulator", **more)) as server:  # type: ignore[arg-type]
        yield server, Path(server.token_file).read_text().strip()
