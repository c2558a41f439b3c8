# SPDX-License-Identifier: Apache-2.0
"""A loop that outlives any fault: what a process does beside its requests and jobs, turn by turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Never

from control_plane.db import FAULTS


async def take_turns(step: Callable[[], Awaitable[object]], every_s: float, log: logging.Logger, what: str) -> Never:
    """Every `every_s` seconds `step`, again at once while it says that there is more, until cancelled.

    A database that is away is a warning; any other fault is recorded with its traceback, and the next turn comes.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            while await step():
                pass
        except FAULTS:
            log.warning("%s: the database is away; it goes on once it answers", what)
        except Exception:
            log.exception("%s failed", what)
