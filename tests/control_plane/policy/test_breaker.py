# SPDX-License-Identifier: Apache-2.0
"""The breaker before OPA: some failures in a row, then nobody waits, then one tries (I5)."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.policy import breaker
from control_plane.policy.breaker import AFTER, REST_S, Closed, Open, Trying
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.opa import OpaEngine
from control_plane.policy.revision import load
from tests.control_plane.policy.test_opa_faults import serving

POLICIES = load()


def test_it_opens_after_some_failures_in_a_row_and_not_before() -> None:
    state: breaker.State = Closed()
    for _ in range(AFTER - 1):
        state = breaker.failed(state, 0.0)
        assert breaker.entered(state, 0.0) is state
    state = breaker.failed(state, 0.0)
    assert state == Open(REST_S)
    assert breaker.entered(state, REST_S / 2) is None


def test_one_tries_and_what_becomes_of_it_decides() -> None:
    trying = breaker.entered(Open(1.0), 1.0)
    assert trying == Trying()
    assert breaker.entered(trying, 9.0) is None
    assert breaker.failed(trying, 2.0) == Open(2.0 + REST_S)
    assert breaker.abandoned(trying, 2.0) == Open(2.0)
    assert breaker.answered() == Closed()


@given(steps=st.lists(st.sampled_from(["enter", "answered", "failed", "abandoned", "later"]), max_size=60))
def test_whatever_happened_somebody_may_ask_after_a_rest(steps: list[str]) -> None:
    """It never stays shut: not after a rest, not when the one who tried went away."""
    state: breaker.State = Closed()
    now, asking = 0.0, 0
    for step in steps:
        match step:
            case "enter":
                entered = breaker.entered(state, now)
                if entered is not None:
                    state, asking = entered, asking + 1
            case "later":
                now += REST_S
            case _ if asking:
                asking -= 1
                state = {
                    "answered": breaker.answered(),
                    "failed": breaker.failed(state, now),
                    "abandoned": breaker.abandoned(state, now),
                }[step]
            case _:
                pass
    while asking:  # each that was let in ends somehow
        asking, state = asking - 1, breaker.abandoned(state, now)
    assert breaker.entered(state, now + REST_S) is not None


async def test_an_opa_that_is_silent_holds_a_few_and_then_nobody() -> None:
    """I5: the same refusal, at once; and a mended OPA is found again by the one who tries."""
    now, asked, silent = [0.0], [0], [True]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked[0] += 1
        if not silent[0]:
            body = b'{"code": "undefined_document"}'
            writer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
            )
            await writer.drain()

    async with serving(handle) as url:
        engine = OpaEngine(url, limit_s=10.0, clock=lambda: now[0])

        async def refused() -> str:
            with pytest.raises(PolicyUnavailable) as caught:
                await engine.evaluate(POLICIES, b"{}")
            return str(caught.value)

        for _ in range(AFTER):
            assert "can't be reached" in await refused()
        before = asked[0]
        assert "asked again" in await refused()
        assert asked[0] == before
        silent[0] = False
        now[0] += REST_S
        for _ in range(2 * AFTER):  # an answer is an answer, whatever it says
            assert "404" in await refused()
        await engine.close()
