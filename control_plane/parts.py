# SPDX-License-Identifier: Apache-2.0
"""Wires the parts of the plane that know nothing of it: keys made at the first start, the sealer, the authority of time.

Log and evidence keys are read by the sealer's process alone, the authority's key by its own (design decision 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from control_plane.db import Database
from control_plane.settings import Settings


def make_keys(settings: Settings) -> None:
    """Make every key that isn't there yet, each in a folder of 0700 and a file of 0600."""
    from control_plane.auth.keys import prepare
    from ledger.blob import BlobKeys
    from ledger.keys import create_sealer_keys
    from ledger.tsa import create_tsa_keys

    folder = settings.home / "keys"
    create_sealer_keys(folder / "sealer")
    create_tsa_keys(folder / "tsa", now=datetime.now(UTC))
    BlobKeys.create(folder / "blob" / "root")
    prepare(settings.home, settings.profile)


def tsa_app(settings: Settings) -> Any:
    """The ASGI application of the own time-stamping authority."""
    from ledger import tsa

    return tsa.tsa_app(tsa.load_tsa_keys(settings.home / "keys" / "tsa"))


async def sealer(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the sealer until `stop` is set."""
    from ledger.sealer import SealerConfig, run

    config = SealerConfig(
        database=Database.of_home(settings.home / "db").sealer,
        keys=settings.home / "keys" / "sealer",
        head=settings.home / "head",
        origin=origin(settings),
        tsa=settings.tsa_url or f"unix://{settings.tsa_socket}",
    )
    sealing = asyncio.ensure_future(run(config, stop))
    ready()
    await sealing


def origin(settings: Settings) -> str:
    """The log's name in its checkpoints: one log a plane, and no plane under another profile's name."""
    return f"qcos/{settings.profile}/{settings.plane}"
