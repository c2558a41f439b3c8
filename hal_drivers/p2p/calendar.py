# SPDX-License-Identifier: Apache-2.0
"""A node's windows: what is taken, what is free next (N5). Pure: the node's monotonic clock comes in as ``now_us``.

At most ``capacity`` windows overlap at any time. A window is kept for its asker until it is committed or its hold
ends, and a committed one until its own end; both go by themselves, whenever the calendar is next looked at. The epoch
of a (token, fragment) only rises: an older one is *fenced*. Work may begin before its window does, where that takes
room from nobody; a window that is given back, or whose work has ended, is free at once.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

MOST_WINDOWS = 1_000
MOST_US = 24 * 3_600 * 1_000_000
"""The furthest end of a window, from now."""
REMEMBERED = 10_000

Key: TypeAlias = tuple[str, str]


class Window(Struct, frozen=True):
    """One window of one attempt."""

    token: str
    fragment_id: str
    epoch: int
    fence: int
    start_us: int
    end_us: int
    held_until_us: int | None
    """None: committed."""
    running: bool = False


class Refused(Struct, frozen=True):
    """``code`` is of :class:`wire.Rejected`."""

    code: str
    detail: str
    next_free_in_us: int | None = None


class Calendar:
    """Of one node, for as long as its process lives; ``fence`` continues where an earlier life ended."""

    def __init__(self, capacity: int, fence: int = 0) -> None:
        self._capacity = capacity
        self._fence = fence
        self._windows: dict[Key, Window] = {}
        self._epochs: dict[Key, int] = {}

    def reserve(
        self, now_us: int, key: Key, epoch: int, starts_in_us: int, duration_us: int, hold_us: int
    ) -> Window | Refused:
        """A window from ``starts_in_us``, held for ``hold_us``. The same attempt again gets the window that it has."""
        self._expire(now_us)
        if duration_us <= 0 or hold_us <= 0 or starts_in_us < 0 or starts_in_us + duration_us > MOST_US:
            return Refused("invalid", "a window begins now or later, lasts, and ends within a day")
        known = self._epochs.get(key, 0)
        window = self._windows.get(key)
        if window is not None and window.epoch == epoch:
            return window
        if epoch <= known:
            return Refused("fenced", f"epoch {known} of this fragment is known here")
        self.fence_off(key, epoch)
        start = now_us + starts_in_us
        free = self._free(start, duration_us)
        if len(self._windows) >= MOST_WINDOWS:
            free = max(free, min(held.end_us for held in self._windows.values()))
        if free > start or len(self._windows) >= MOST_WINDOWS:
            return Refused("window_taken", "the window is taken", max(0, free - now_us))
        self._fence += 1
        window = Window(*key, epoch, self._fence, start, start + duration_us, now_us + hold_us)
        self._windows[key] = window
        return window

    def commit(self, now_us: int, key: Key, epoch: int, fence: int) -> Window | Refused:
        """Keep it until its end; again: the same."""
        window = self._of(now_us, key, epoch, fence)
        if isinstance(window, Refused):
            return window
        self._windows[key] = window = replace(window, held_until_us=None)
        return window

    def begin(self, now_us: int, key: Key, epoch: int, fence: int) -> Window | Refused:
        """Start the work of a committed window now, whole: before its time only where nobody else loses by it.

        A refusal with ``next_free_in_us`` means: wait and ask again.
        """
        window = self._of(now_us, key, epoch, fence)
        if isinstance(window, Refused):
            return window
        if window.held_until_us is not None:
            return Refused("unknown_window", "the window is not committed")
        if window.running:
            return window
        if now_us < window.start_us:
            length = window.end_us - window.start_us
            free = self._free(now_us, length, without=key)
            if free > now_us:
                return Refused("window_taken", "the window has not begun", min(free, window.start_us) - now_us)
            window = replace(window, start_us=now_us, end_us=now_us + length)
        elif self._working(without=key) >= self._capacity:
            return Refused("busy", "other work has not ended", self._free(now_us, 1, without=key) - now_us)
        self._windows[key] = window = replace(window, running=True)
        return window

    def release(self, key: Key, epoch: int) -> bool:
        """The work has ended, or nobody wants the window any more; False: there was none of this epoch."""
        window = self._windows.get(key)
        if window is None or window.epoch != epoch:
            return False
        del self._windows[key]
        return True

    def fence_off(self, key: Key, epoch: int) -> None:
        """No lower epoch is taken any more, and a window that it had is free. Of the oldest, `REMEMBERED` are kept."""
        if epoch <= self._epochs.get(key, 0):
            return
        self._epochs.pop(key, None)
        self._epochs[key] = epoch
        self._windows.pop(key, None)
        while len(self._epochs) > REMEMBERED:
            self._epochs.pop(next(iter(self._epochs)))

    def load_ppm(self, now_us: int) -> int:
        """Share of the capacity that is taken now."""
        self._expire(now_us)
        taken = sum(1 for window in self._windows.values() if window.start_us <= now_us)
        return min(1_000_000, taken * 1_000_000 // self._capacity)

    def windows(self, now_us: int) -> tuple[Window, ...]:
        """All that hold now, in their order."""
        self._expire(now_us)
        return tuple(sorted(self._windows.values(), key=lambda window: (window.start_us, window.fence)))

    def _of(self, now_us: int, key: Key, epoch: int, fence: int) -> Window | Refused:
        self._expire(now_us)
        if epoch < self._epochs.get(key, 0):
            return Refused("fenced", f"epoch {self._epochs[key]} of this fragment is known here")
        window = self._windows.get(key)
        if window is None or (window.epoch, window.fence) != (epoch, fence):
            return Refused("unknown_window", "no such window, or it has ended")
        return window

    def _expire(self, now_us: int) -> None:
        """Work that runs keeps its place until it is released: whoever runs it watches its end."""
        gone = [
            key
            for key, window in self._windows.items()
            if not window.running
            and (now_us >= window.end_us or (window.held_until_us is not None and now_us >= window.held_until_us))
        ]
        for key in gone:
            del self._windows[key]

    def _free(self, start_us: int, length_us: int, without: Key | None = None) -> int:
        """The first time from ``start_us`` at which ``length_us`` fit: then, or when some window ends."""
        others = [window for key, window in self._windows.items() if key != without]
        for at in sorted({start_us, *(window.end_us for window in others if window.end_us > start_us)}):
            end = at + length_us
            met = [window for window in others if window.start_us < end and window.end_us > at]
            edges = {at, *(window.start_us for window in met if window.start_us > at)}
            if all(sum(w.start_us <= edge < w.end_us for w in met) < self._capacity for edge in edges):
                return at
        raise AssertionError("after the last window all is free")

    def _working(self, without: Key) -> int:
        return sum(1 for key, window in self._windows.items() if window.running and key != without)
