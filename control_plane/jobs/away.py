# SPDX-License-Identifier: Apache-2.0
"""Since when the backend of a job that was handed over has been away, as this process has seen it.

A job is not given up at the first silence: what runs there may still end well, so its token is asked for again with
each lease. Beyond the job's deadline nobody knows any more what became of it, and it ends UNCERTAIN. A process that
starts anew counts anew.
"""

from __future__ import annotations

import time

MOST = 100_000


class Away:
    """One process's memory, by (tenant, job id)."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._since: dict[tuple[str, str], float] = {}

    def lasts_s(self, job: tuple[str, str]) -> float:
        """Seconds since its backend was first missed; 0 the first time."""
        while len(self._since) >= MOST:
            del self._since[next(iter(self._since))]
        now = time.monotonic()
        return now - self._since.setdefault(job, now)

    def over(self, job: tuple[str, str]) -> None:
        """Its backend has answered."""
        self._since.pop(job, None)
