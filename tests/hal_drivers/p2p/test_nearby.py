# SPDX-License-Identifier: Apache-2.0
"""mDNS: what is announced, and how little is believed of what is heard (N1). Over a real link: test_partition."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import trio
import trio.testing
from zeroconf import ServiceInfo

from hal_drivers.p2p import nearby
from hal_drivers.p2p.errors import FabricUnusable
from tests.hal_drivers.p2p.adverts import peer

PLANE, OTHER = peer(1).peer_id, peer(2).peer_id


def record(*addresses: str) -> ServiceInfo:
    told = {f"dnsaddr{number or ''}": address for number, address in enumerate(addresses)}
    return ServiceInfo("_p2p._udp.local.", "x._p2p._udp.local.", port=1, properties=told, server="x.local.")


@pytest.mark.parametrize(
    "address", ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/dns4/lab.example/tcp/1", "/ip4/10.0.0.1", "garbage", ""]
)
def test_what_nobody_else_can_dial_is_not_announced(address: str) -> None:
    assert nearby.reachable([address]) == ()


def test_what_others_reach_is_announced_as_it_is() -> None:
    told = f"/ip4/10.0.0.1/tcp/4001/p2p/{PLANE}"
    assert nearby.reachable([told, "/ip4/127.0.0.1/tcp/1"]) == (told,)


def test_of_a_record_only_addresses_of_the_own_planes_count() -> None:
    right = f"/ip4/10.0.0.1/tcp/4001/p2p/{PLANE}"
    wrong = [
        f"/ip4/10.0.0.2/tcp/4001/p2p/{OTHER}",
        f"/ip4/127.0.0.1/tcp/22/p2p/{PLANE}",
        f"/ip4/not-an-address/tcp/1/p2p/{PLANE}",
        f"/ip4/10.0.0.1/tcp/4001/{PLANE}",
        "/p2p/" + "x" * 200,
        "",
    ]
    assert nearby._addresses(record(*wrong, right), frozenset({PLANE})) == [right]


def test_whoever_announces_without_end_is_dialled_a_few_times() -> None:
    async def story() -> None:
        dialled: set[str] = set()

        async def keep(address: str) -> None:
            dialled.add(address)
            try:
                await trio.sleep_forever()
            finally:
                dialled.discard(address)

        async with trio.open_nursery() as nursery:
            kept: OrderedDict[tuple[str, str], trio.CancelScope] = OrderedDict()
            addresses = [f"/ip4/10.0.0.{number}/tcp/1/p2p/{PLANE}" for number in range(50)]
            for address in (*addresses, addresses[-1]):
                nearby._dial(address, kept, nursery, keep)
            await trio.testing.wait_all_tasks_blocked()
            assert dialled == set(addresses[-nearby._AT_ONCE :])
            nursery.cancel_scope.cancel()

    trio.run(story)


def test_a_fabric_that_only_this_machine_reaches_cannot_announce_itself() -> None:
    async def story() -> None:
        async with nearby.announced(PLANE, [f"/ip4/127.0.0.1/tcp/1/p2p/{PLANE}"]):
            raise AssertionError("announced")

    with pytest.raises(FabricUnusable, match="reached by nobody else"):
        trio.run(story)
