# SPDX-License-Identifier: Apache-2.0
"""The policies that one process decides by: those in force as it knows them, and which others an engine may answer by.

An engine and a process learn of a push one after the other. So the set in force is `current`, and `by` gives another
that an engine stated: one that was in force until at most `max_age_s` ago, or one that `learn` finds to be in force by
now. Any other is `PolicyUnavailable` (I5).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.revision import PolicySet

Learn = Callable[["Held", str], Awaitable[None]]
"""Asked of a revision that isn't known here: it calls `take` or `remember`, or does neither."""


class Held:
    """Shared by the tasks of one event loop; written by whatever learns of a push."""

    def __init__(
        self,
        current: PolicySet,
        *,
        max_age_s: float = 3600.0,
        learn: Learn | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold one set; without `learn` no other is ever known but by `take`."""
        self.current = current
        self._max_age_s = max_age_s
        self._learn = learn
        self._clock = clock
        self._others: dict[str, tuple[PolicySet, float]] = {}

    def take(self, policies: PolicySet) -> None:
        """Put this set in force here; the one before it stays acceptable for a while."""
        if policies.revision != self.current.revision:
            self.remember(self.current, self._max_age_s)
            self.current = policies

    def remember(self, policies: PolicySet, for_s: float) -> None:
        """An engine may answer by this set for so long."""
        now = self._clock()
        self._others = {revision: kept for revision, kept in self._others.items() if kept[1] > now}
        self._others[policies.revision] = policies, now + for_s

    async def by(self, revision: str) -> PolicySet:
        """The set of a revision by which an engine may answer now; raises PolicyUnavailable."""
        found = self._known(revision)
        if found is None and self._learn is not None:
            await self._learn(self, revision)
            found = self._known(revision)
        if found is None:
            said = f"the engine holds other policies than revision {self.current.revision}: {revision}"
            raise PolicyUnavailable(said[:500])
        return found

    def _known(self, revision: str) -> PolicySet | None:
        if revision == self.current.revision:
            return self.current
        policies, until = self._others.get(revision, (None, 0.0))
        return policies if until > self._clock() else None
