# SPDX-License-Identifier: Apache-2.0
"""What a process of the plane holds while it runs: engine, policy, keys, clock. Wired in `app.py` and `worker.py`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.db import transaction
from control_plane.jobs.vault import Vault
from control_plane.policy.pdp import Pdp
from control_plane.settings import Settings


def utc_now() -> dt.datetime:
    """The plane's clock: asserted time, never called trusted."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Plane:
    """One process's parts. `name` is the plane's own name, signed into every bundle as its scope."""

    settings: Settings
    name: str
    engine: AsyncEngine
    pdp: Pdp
    vault: Vault
    now: Callable[[], dt.datetime] = utc_now

    def transaction(
        self, tenant: str | None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that sees this tenant alone."""
        return transaction(self.engine, tenant)
