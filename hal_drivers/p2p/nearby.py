# SPDX-License-Identifier: Apache-2.0
"""Finding a plane on the local network: a fabric announces where it listens, a node looks for the planes it serves.

The records are those of libp2p's mDNS specification (`_p2p._udp.local.`, a TXT `dnsaddr=…/p2p/ID`), so that nodes of
other implementations find the fabric. libp2p's own discovery isn't used: it writes whoever answers into the peer store,
without bound, and connects to nobody. Anybody on the link can announce anything, so what is heard only says where to
dial: a node dials addresses that name a plane it was told to serve, a few a plane, and Noise proves who is there. The
fabric looks for nobody. zeroconf runs in a thread of its own; what it finds is handed to Trio.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from hal_drivers.p2p.errors import FabricUnusable

_TYPE = "_p2p._udp.local."
_GROUP = ("224.0.0.251", 5353)
_AT_ONCE = 4
"""Addresses of one plane that are dialled; a newer one takes the place of the oldest."""
_PENDING = 64
_INFO_MS = 3_000


def reachable(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those that others on the link can dial; an unspecified one becomes this machine's."""
    found = []
    for address in addresses:
        parts = address.split("/")
        if len(parts) < 5 or parts[1] not in ("ip4", "ip6"):
            continue
        try:
            place = ipaddress.ip_address(parts[2])
        except ValueError:
            continue
        if place.is_unspecified and (own := _own(place.version)) is not None:
            place, parts[2] = ipaddress.ip_address(own), own
        if not (place.is_loopback or place.is_unspecified):
            found.append("/".join(parts))
    return tuple(found)


@asynccontextmanager
async def announced(peer_id: str, addresses: Sequence[str]) -> AsyncIterator[None]:
    """Tell the link where this host listens, until the block ends; FabricUnusable where that can't be done."""
    told = reachable(addresses)
    if not told:
        raise FabricUnusable(
            f"mdns: {', '.join(addresses) or 'nowhere'} is reached by nobody else: nothing to announce"
        )
    hosts = sorted({address.split("/")[2] for address in told})
    tcp = next(int(address.split("/")[4]) for address in told)
    label = peer_id[-32:].lower()
    info = ServiceInfo(
        _TYPE,
        f"{label}.{_TYPE}",
        port=tcp,
        properties={f"dnsaddr{number or ''}": address for number, address in enumerate(told)},
        server=f"{label}.local.",
        parsed_addresses=hosts,
    )
    zeroconf = await trio.to_thread.run_sync(_opened, hosts)
    try:
        try:
            await trio.to_thread.run_sync(zeroconf.register_service, info)
        except Exception as error:  # its own errors have no base of their own but Exception
            raise FabricUnusable(f"mdns: {str(error) or type(error).__name__}") from error
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


async def look(planes: frozenset[str], keep: Callable[[str], Awaitable[None]]) -> None:
    """For ever: each address at which one of these planes says it listens is dialled and kept (`host.Host.keep`)."""
    found, heard = trio.open_memory_channel[str](_PENDING)
    token = trio.lowlevel.current_trio_token()

    def hear(address: str) -> None:
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError):
            found.send_nowait(address)

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """In zeroconf's thread."""
        if state_change is ServiceStateChange.Removed:
            return
        info = zeroconf.get_service_info(service_type, name, timeout=_INFO_MS)
        for address in _addresses(info, planes) if info is not None else ():
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(hear, address)

    zeroconf = await trio.to_thread.run_sync(_opened, [])
    try:
        browser = ServiceBrowser(zeroconf, _TYPE, handlers=[changed])
        async with trio.open_nursery() as nursery:
            kept: OrderedDict[tuple[str, str], trio.CancelScope] = OrderedDict()
            async for address in heard:
                _dial(address, kept, nursery, keep)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(browser.cancel)
            await trio.to_thread.run_sync(zeroconf.close)


def _dial(
    address: str,
    kept: OrderedDict[tuple[str, str], trio.CancelScope],
    nursery: trio.Nursery,
    keep: Callable[[str], Awaitable[None]],
) -> None:
    plane = address.rpartition("/")[2]
    if (plane, address) in kept:
        return

    async def dial(scope: trio.CancelScope) -> None:
        with scope:
            await keep(address)

    kept[plane, address] = trio.CancelScope()
    nursery.start_soon(dial, kept[plane, address])
    of_plane = [key for key in kept if key[0] == plane]
    if len(of_plane) > _AT_ONCE:
        kept.pop(of_plane[0]).cancel()


def _addresses(info: ServiceInfo, planes: frozenset[str]) -> list[str]:
    """What a record says of these planes, of others' nothing."""
    found = []
    for name, value in info.properties.items():
        if not name.startswith(b"dnsaddr") or value is None:
            continue
        address = value.decode("ascii", "replace")
        if address.rpartition("/p2p/")[2] in planes and reachable([address]) == (address,):
            found.append(address)
    return found


def _opened(hosts: Sequence[str]) -> Zeroconf:
    try:
        return Zeroconf(interfaces=list(hosts)) if hosts else Zeroconf()
    except OSError as error:
        raise FabricUnusable(f"mdns: no multicast here ({error})") from error


def _own(version: int) -> str | None:
    """The address from which this machine speaks to the link; nothing is sent."""
    family, group = (socket.AF_INET, _GROUP) if version == 4 else (socket.AF_INET6, ("ff02::fb", 5353))
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
            any_socket.connect(group)
            return str(any_socket.getsockname()[0])
    except OSError:
        return None
