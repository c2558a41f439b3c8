# SPDX-License-Identifier: Apache-2.0
"""From where on the inbox is to be looked at, so that a look doesn't walk past every row that was ever taken.

While something holds an old snapshot (a backup, a verification), taken rows can't be swept, and a look that begins at
the first id visits each of them. A cursor over ids would lose rows, for ids become visible out of order. So the floor
rises to an id only once every transaction is over that could have drawn it: a mark is set beside a fresh transaction
id, drawn after that id was seen, and holds when nothing older runs any more and no lower row is left. One gap stays: a
writer that was stopped between drawing its row's id and its own transaction's. So every `FULL_S` a look begins at zero
again. Nothing but speed rests on the floor. Pure: times and what the database says are arguments.
"""

from __future__ import annotations

SIGHT_S = 1.0
FULL_S = 5.0


class Floor:
    """Of one leader's session; `id` is the id that no row to be looked for lies at or below."""

    def __init__(self) -> None:
        self.id = 0
        self._taken = 0
        self._mark: tuple[int, int] | None = None  # an id, and a transaction id drawn after it was seen
        self._sighted_at = self._full_at = float("-inf")

    def took(self, highest: int) -> None:
        """A batch was committed whose highest row had this id."""
        self._taken = max(self._taken, highest)

    def sight_due(self, now: float) -> bool:
        """Whether to ask the database again how far it has come."""
        return self._taken > self.id and now - self._sighted_at >= SIGHT_S

    def sight(self, now: float, *, drawn: int, oldest: int, lowest: int | None) -> None:
        """What one statement saw: a fresh transaction id, the oldest still running, the lowest row above the floor."""
        self._sighted_at = now
        if self._mark is not None and oldest >= self._mark[1]:
            self.id = max(self.id, self._mark[0] if lowest is None else min(self._mark[0], lowest - 1))
            self._mark = None
        self._mark = self._mark or (self._taken, drawn)

    def full_due(self, now: float) -> bool:
        """Whether the next look is to begin at zero."""
        return now - self._full_at >= FULL_S

    def look(self, now: float, *, full: bool = False) -> int:
        """Where a look that takes begins."""
        if full or self.full_due(now):
            self._full_at = now
            return 0
        return self.id
