# SPDX-License-Identifier: Apache-2.0
"""A task that is told to end does end, whatever else happens at that moment (N10)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest

from control_plane.jobs.live import Live
from ledger.session import pause

ROOT = Path(__file__).parents[2]
# That of Python 3.11 returns the result, and forgets the cancellation, where both come in the same turn of the loop.
FORGETFUL = re.compile(r"asyncio\.wait_for\(")


@pytest.mark.parametrize("package", ["control_plane", "ledger", "hal_drivers", "finops"])
def test_no_part_waits_in_a_way_that_loses_a_cancellation(package: str) -> None:
    found = [path for path in sorted((ROOT / package).rglob("*.py")) if FORGETFUL.search(path.read_text())]
    assert not found, "asyncio.timeout keeps the cancellation"


async def test_who_waits_for_seals_ends_although_the_bell_rings_just_then() -> None:
    live = Live(cast("Any", None), "postgresql://app@/none")
    task = asyncio.create_task(live._answer())
    await asyncio.sleep(0)
    live.ring()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_a_pause_ends_although_the_stop_comes_just_then() -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(pause(stop, 5.0))
    await asyncio.sleep(0)
    stop.set()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
