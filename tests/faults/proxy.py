# SPDX-License-Identifier: Apache-2.0
"""A cable between a process and its PostgreSQL that a test can cut: a Unix socket that forwards, swallows or refuses.

`swallow` keeps every connection open and lets no byte through, new connections too; `refuse` closes them all and takes
no new one; `forward` is the cable again.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

NAME = ".s.PGSQL.5432"
LOOK_S = 0.05


class Cable:
    """The forwarding thread and its mode."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.mode: Literal["forward", "swallow", "refuse"] = "forward"
        self._target = target
        self._ends: dict[socket.socket, socket.socket] = {}
        self._held: list[socket.socket] = []
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / NAME))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            while not self._over.is_set():
                if self.mode == "refuse":
                    self._hang_up(ready)
                for key, _ in ready.select(LOOK_S):
                    if key.fileobj is self._listener:
                        self._take(ready)
                    elif self.mode == "forward" and isinstance(key.fileobj, socket.socket):
                        self._carry(ready, key.fileobj)
                    elif self.mode == "swallow":
                        self._over.wait(LOOK_S)

    def _take(self, ready: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        if self.mode == "refuse":
            near.close()
        elif self.mode == "swallow":
            self._held.append(near)
        else:
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target / NAME))
            for one, other in ((near, far), (far, near)):
                self._ends[one] = other
                ready.register(one, selectors.EVENT_READ)

    def _carry(self, ready: selectors.BaseSelector, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(1 << 16)
            if data:
                self._ends[one].sendall(data)
                return
        self._drop(ready, one)

    def _drop(self, ready: selectors.BaseSelector, one: socket.socket) -> None:
        for end in (one, self._ends.pop(one, None)):
            if end is not None:
                self._ends.pop(end, None)
                with contextlib.suppress(KeyError, ValueError):
                    ready.unregister(end)
                end.close()

    def _hang_up(self, ready: selectors.BaseSelector) -> None:
        for one in list(self._ends):
            self._drop(ready, one)
        while self._held:
            self._held.pop().close()

    def end(self) -> None:
        """Stop forwarding for good."""
        self._over.set()
        self._thread.join()
        for one in [self._listener, *self._held, *self._ends]:
            one.close()


@contextlib.contextmanager
def cable(folder: Path, target: Path) -> Iterator[Cable]:
    """A cable from `folder` to the server whose socket lies in `target`."""
    folder.mkdir()
    made = Cable(folder, target)
    try:
        yield made
    finally:
        made.end()
