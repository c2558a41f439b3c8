# SPDX-License-Identifier: Apache-2.0
"""Kept streams: one request at a time, strays apart, nobody left waiting on a stream that was ended (N6, I8)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from hal_drivers.p2p.calls import Calls
from hal_drivers.p2p.errors import FrameInvalid, Late, LinkError, Refused, Unreachable
from hal_drivers.p2p.framing import read_frame, write_frame
from hal_drivers.p2p.ir import Circuit, canonical
from hal_drivers.p2p.wire import MAX_FRAME, Execute, Ping, Pong, Signed, request_digest
from tests.hal_drivers.p2p.adverts import peer

ANNA = peer(1)
BROKEN = (FrameInvalid, trio.BrokenResourceError, trio.ClosedResourceError)
WORK = Execute("t", "f1", 1, 1, Circuit(1, 1, ()), 1, 1)


class End:
    """One side of a stream in memory; `end` wakes the other side's reader, not this one's, as libp2p's does."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream

    async def read(self, most: int) -> bytes:
        return bytes(await self._stream.receive_some(most))

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def end(self) -> None:
        with trio.CancelScope(shield=True):
            await self._stream.send_stream.aclose()


class Anna:
    """A node that answers each request by `how`: so many frames, each after so many seconds."""

    def __init__(self, nursery: trio.Nursery, how: Callable[[bytes], list[tuple[float, bytes]]]) -> None:
        self._nursery, self._how = nursery, how
        self.opened = 0
        self.may_join = True
        self.strays: list[bytes] = []
        self.calls = Calls(
            nursery, self.open, lambda _: self.may_join, lambda _, said: self.strays.append(said.body), BROKEN
        )

    async def open(self, node_id: str, protocol: str) -> End:
        self.opened += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, End(theirs))
        return End(ours)

    async def _serve(self, end: End) -> None:
        while (frame := await read_frame(end, MAX_FRAME)) is not None:
            for after_s, answer in self._how(frame):
                await trio.sleep(after_s)
                try:
                    await write_frame(end, answer, MAX_FRAME)
                except BROKEN:
                    return

    async def ask(self, request: Ping | Execute, limit_s: float = 5.0) -> Signed:
        return await self.calls.ask(ANNA.peer_id, request, limit_s)


def pong(frame: bytes) -> bytes:
    return canonical(ANNA.sign(canonical(Pong(ANNA.peer_id, request_digest(frame), 0))))


def over(how: Callable[[bytes], list[tuple[float, bytes]]], story: Callable[[Anna], Awaitable[None]]) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await story(Anna(nursery, how))
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_one_stream_serves_many_requests() -> None:
    async def story(anna: Anna) -> None:
        for nonce in range(10):
            assert request_digest(canonical(Ping(nonce))).encode() in (await anna.ask(Ping(nonce))).body
        assert anna.opened == 1

    over(lambda frame: [(0, pong(frame))], story)


def test_a_second_answer_goes_astray_and_the_next_request_gets_its_own() -> None:
    async def story(anna: Anna) -> None:
        first = await anna.ask(Ping(1))
        second = await anna.ask(Ping(2))
        assert first.body != second.body
        assert anna.strays == [first.body]

    over(lambda frame: [(0, pong(frame)), (0, pong(frame))], story)


def test_late_work_goes_astray_and_a_late_heartbeat_is_forgotten() -> None:
    async def story(anna: Anna) -> None:
        for request in (Ping(1), WORK):
            with pytest.raises(Late):
                await anna.ask(request, 1.0)
        await trio.sleep(20)
        assert len(anna.strays) == 1
        assert request_digest(canonical(WORK)).encode() in anna.strays[0]

    over(lambda frame: [(10, pong(frame))], story)


def test_who_waits_on_a_node_that_is_cut_off_is_told_at_once() -> None:
    async def story(anna: Anna) -> None:
        found: list[LinkError] = []

        async def wait() -> None:
            try:
                await anna.ask(WORK, 3600)
            except LinkError as error:
                found.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            begun_s = trio.current_time()
            await anna.calls.drop(ANNA.peer_id)
        assert trio.current_time() == begun_s
        assert [type(error) for error in found] == [Unreachable] * 3
        anna.may_join = False
        with pytest.raises(Refused):
            await anna.ask(Ping(1))

    over(lambda _: [(math.inf, b"")], story)


@pytest.mark.parametrize("garbage", [b"garbage", b"{}", b"\xff"])
def test_what_is_no_answer_ends_the_stream(garbage: bytes) -> None:
    async def story(anna: Anna) -> None:
        for number in (1, 2):
            with pytest.raises(Unreachable):
                await anna.ask(Ping(1))
            assert anna.opened == number

    over(lambda _: [(0, garbage)], story)


def test_heartbeats_do_not_wait_behind_work() -> None:
    async def story(anna: Anna) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(anna.ask, WORK, 100)
            await trio.testing.wait_all_tasks_blocked()
            await anna.ask(Ping(1), 0.5)
            assert anna.opened <= 17
            nursery.cancel_scope.cancel()

    over(lambda frame: [(0 if b"ping" in frame else 50, pong(frame))], story)
