# SPDX-License-Identifier: Apache-2.0
"""Jobs a second in a window of time, with a named number in flight: what runs up to the window isn't counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Window:
    """What ended within it, and what was asked as it began and as it ended."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Ended within it, a second."""
        return len(self.latencies_s) / self.seconds


class Flow:
    """Clients that each do one thing again and again; `work` returns how long it took from a moment of its own."""

    def __init__(self, makers: list[Callable[[], Callable[[], float]]]) -> None:
        """Each maker makes one client's `work`, in that client's thread."""
        self._makers = makers
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._counted: list[float] | None = None

    def run(self, ramp_s: float, window_s: float, mark: Callable[[], None] = lambda: None) -> Window:
        """Let the clients work; `mark` is called as the window begins and as it ends. A client's fault is raised."""
        threads = [threading.Thread(target=self._client, args=(maker,), daemon=True) for maker in self._makers]
        for thread in threads:
            thread.start()
        try:
            self._stop.wait(ramp_s)
            mark()
            begun = time.perf_counter()
            with self._lock:
                self._counted = []
            self._stop.wait(window_s)
            with self._lock:
                found, self._counted = self._counted, None
            took = time.perf_counter() - begun
            mark()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._fault is not None:
            raise self._fault
        return Window(took, found)

    def _client(self, maker: Callable[[], Callable[[], float]]) -> None:
        try:
            work = maker()
            while not self._stop.is_set():
                took = work()
                with self._lock:
                    if self._counted is not None:
                        self._counted.append(took)
        except BaseException as fault:  # noqa: BLE001  raised again by `run`, in the thread that asked
            self._fault = self._fault or fault
            self._stop.set()
