# SPDX-License-Identifier: Apache-2.0
"""How long a job waits for a backend that answers and never ends: a job ends whatever its backend does (N9)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from control_plane.context import Plane
from hal_drivers.base import Running, Status

OVERDUE_S = 5.0  # beyond its deadline, by which the backend itself should have ended a task


class Patience:
    """What one attempt has waited so far."""

    def __init__(self, plane: Plane, job: Mapping[str, Any]) -> None:
        """Start to count."""
        self._plane, self._submitted_at = plane, job["submitted_at"]
        self._ran_since: float | None = None

    def over(self, status: Status) -> str | None:
        """Why it is enough now, or None."""
        settings, now = self._plane.settings, time.monotonic()
        if isinstance(status, Running):
            self._ran_since = now if self._ran_since is None else self._ran_since
            if now - self._ran_since > settings.job_deadline_s + OVERDUE_S:
                return f"the task ran for more than {settings.job_deadline_s:g} s"
            return None
        if (self._plane.now() - self._submitted_at).total_seconds() > settings.queue_limit_s:
            return f"the task waited for more than {settings.queue_limit_s:g} s"
        return None
