# SPDX-License-Identifier: Apache-2.0
"""The policies that one process decides by: those in force as it knows them, and which others an engine may answer by.

An engine and a process learn of a push one after the other. So the set in force is `current`, and `by` gives another
that an engine stated: one that was in force until at most `max_age_s` ago, or one that `learn` finds to be in force by
now. Any other is `PolicyUnavailable` (I5), and so is everything while no set is known.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.revision import PolicySet

MAX_AGE_S = 3600.0
Learn = Callable[[str], Awaitable[None]]
"""Asked of a revision that isn't known here: it calls `take` or `remember`, or does neither."""


class Held:
    """Shared by the tasks of one event loop; written by whatever learns of a push."""

    def __init__(
        self,
        current: PolicySet | None = None,
        *,
        max_age_s: float = MAX_AGE_S,
        learn: Learn | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold one set, or none yet; without `learn` no other is ever known but by `take`."""
        self._current = current
        self._max_age_s = max_age_s
        self._learn = learn
        self._clock = clock
        self._until: float | None = None
        self._others: dict[str, tuple[PolicySet, float]] = {}

    @property
    def current(self) -> PolicySet:
        """The set in force; raises PolicyUnavailable where none is known, or none that may be used any more."""
        if self._current is None:
            raise PolicyUnavailable("this process doesn't know the policies in force yet")
        if self._until is not None and self._until <= self._clock():
            raise PolicyUnavailable(f"the policies in force can't be used, and {self._current.revision} is too old")
        return self._current

    def ask(self, learn: Learn) -> None:
        """From now on ask this of revisions that aren't known."""
        self._learn = learn

    def take(self, policies: PolicySet) -> None:
        """Put this set in force here; the one before it stays acceptable for a while."""
        if self._current is not None and policies.revision != self._current.revision:
            self.remember(self._current, self._max_age_s)
        self._current, self._until = policies, None

    def expire(self) -> None:
        """Another set is in force that can't be used here: the held one goes on for `max_age_s` and no longer."""
        if self._until is None:
            self._until = self._clock() + self._max_age_s

    def remember(self, policies: PolicySet, for_s: float) -> None:
        """An engine may answer by this set for so long."""
        now = self._clock()
        self._others = {revision: kept for revision, kept in self._others.items() if kept[1] > now}
        self._others[policies.revision] = policies, now + for_s

    async def by(self, revision: str) -> PolicySet:
        """The set of a revision by which an engine may answer now; raises PolicyUnavailable."""
        found = self.known(revision)
        if found is None and self._learn is not None:
            await self._learn(revision)
            found = self.known(revision)
        if found is None:
            said = f"the engine holds other policies than revision {self.current.revision}: {revision}"
            raise PolicyUnavailable(said[:500])
        return found

    def known(self, revision: str) -> PolicySet | None:
        """The set of a revision that may be answered by now, as far as this process knows."""
        if self._current is not None and revision == self._current.revision:
            return self.current
        policies, until = self._others.get(revision, (None, 0.0))
        return policies if until > self._clock() else None
