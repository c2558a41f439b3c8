# SPDX-License-Identifier: Apache-2.0
"""Frames arrive whole however they are cut, and a length allocates nothing (N1)."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.p2p.errors import FrameInvalid
from hal_drivers.p2p.framing import read_frame, write_frame


class Cut:
    """A pipe in memory that hands out its bytes in pieces of these sizes, again and again."""

    def __init__(self, sizes: list[int], data: bytes = b"") -> None:
        self.data = bytearray(data)
        self._sizes = sizes
        self._turn = 0

    async def read(self, most: int) -> bytes:
        size = min(self._sizes[self._turn % len(self._sizes)], most)
        self._turn += 1
        piece, self.data = bytes(self.data[:size]), self.data[size:]
        return piece

    async def write(self, data: bytes) -> None:
        self.data += data


@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=5),
    st.lists(st.integers(1, 999), min_size=1, max_size=9),
)
def test_frames_come_back_as_they_were(frames: list[bytes], sizes: list[int]) -> None:
    async def there_and_back() -> None:
        pipe = Cut(sizes)
        for frame in frames:
            await write_frame(pipe, frame, 4096)
        assert [await read_frame(pipe, 4096) for _ in frames] == frames
        assert await read_frame(pipe, 4096) is None

    asyncio.run(there_and_back())


def test_a_megabyte_in_pieces_of_nine_bytes() -> None:
    """libp2p's own reader gives up after 101 pieces."""

    async def there_and_back() -> None:
        pipe = Cut([9])
        await write_frame(pipe, b"x" * 20_000, 1 << 20)
        frame = await read_frame(pipe, 1 << 20)
        assert frame == b"x" * 20_000

    asyncio.run(there_and_back())


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\5ab", struct.pack("!I", 0), struct.pack("!I", 101) + b"x" * 101])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameInvalid):
        asyncio.run(read_frame(Cut([50], data), 100))


def test_a_length_alone_allocates_nothing() -> None:
    tracemalloc.start()
    with pytest.raises(FrameInvalid):
        asyncio.run(read_frame(Cut([50], struct.pack("!I", 1 << 30) + b"x" * 100), 1 << 31))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_nothing_is_sent_that_the_other_side_would_refuse() -> None:
    for data in (b"", b"x" * 101):
        pipe = Cut([1])
        with pytest.raises(FrameInvalid):
            asyncio.run(write_frame(pipe, data, 100))
        assert not pipe.data
