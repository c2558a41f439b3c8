# SPDX-License-Identifier: Apache-2.0
"""Which frames of yamux are worth a message: leave to send a few bytes more is held back until it amounts to something
(N18). Pure.

A receiver gives leave for what was taken from a stream; libp2p does so for every piece, each in a message of its own.
Held back is less than a quarter of a stream's first window, so that no sender ever waits for it.
"""

from __future__ import annotations

import struct

LEAST = 1 << 16
MOST_STREAMS = 64
_HEADER = struct.Struct("!BBHII")
_VERSION, _LEAVE = 0, 1


class Leave:
    """Of one connection, one way."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}

    def judged(self, data: bytes) -> bytes | None:
        """What is to be written of one write of yamux's; None: nothing now."""
        if len(data) != _HEADER.size or data[0] != _VERSION:  # it carries something, or is said before yamux is chosen
            return data
        version, kind, flags, stream, number = _HEADER.unpack(data)
        if flags:  # it opens or ends the stream
            self._held.pop(stream, None)
        if flags or kind != _LEAVE:
            return data
        number += self._held.pop(stream, 0)
        if number >= LEAST:
            return _HEADER.pack(version, kind, flags, stream, number)
        self._held[stream] = number
        if len(self._held) <= MOST_STREAMS:
            return None
        oldest = next(iter(self._held))  # the other side may have ended it, and then ignores this
        return _HEADER.pack(version, kind, flags, oldest, self._held.pop(oldest))
