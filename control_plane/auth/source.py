# SPDX-License-Identifier: Apache-2.0
"""Where a request comes from, and whether a key may be used from there (G13, S1). Pure.

Enters: the peer of the connection, the header in which the administrator's own proxies say whom they speak for, and
the networks of both. Leaves: one address, or None where none is certain, which is in no network.

A header is believed only from a peer that `proxies` names, and read from its end: each proxy appends the peer that it
saw, so the last address that isn't a proxy's is the caller, and what stands before it the caller may have written. A
peer on the Unix socket has no address: it is believed as a proxy where `proxies` names `unix`, and is nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

__all__ = ["MOST_NETWORKS", "UNIX", "Address", "Network", "caller", "network", "within"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

UNIX: Final = "unix"
MOST_NETWORKS: Final = 64
_MOST_HOPS = 32
_MAPPED = IPv6Network("::ffff:0:0/96")


def network(text: str) -> Network:
    """One network in CIDR form, or one address. ValueError says what is wrong: bits set behind the mask are a slip."""
    if not text.isascii() or "%" in text:
        raise ValueError(f"{text!r} is no network: wanted ADDRESS/BITS")
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network: {error}") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def within(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether the address lies in one of the networks; no address lies in none."""
    return address is not None and any(address in one for one in networks if one.version == address.version)


def caller(peer: str | None, told: Sequence[str], proxies: Sequence[str]) -> Address | None:
    """Who is at the other end: `peer` itself (None on the Unix socket), or whom its proxies name in `told`.

    `told` is the header's values in the order of the request. One that can't be read ends the search at no address:
    the proxy that wrote it isn't set up as the administrator thinks.
    """
    trusted = _trusted(tuple(proxies))
    address = None if peer is None else _address(peer)
    if not (UNIX in proxies if peer is None else within(address, trusted)):
        return address
    hops = [hop.strip() for value in told for hop in value.split(",")]
    if not hops:
        return address
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = _address(hop)
        if not within(address, trusted):
            return address
    return address


@lru_cache(maxsize=8)
def _trusted(proxies: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(network(one) for one in proxies if one != UNIX)


def _address(text: str) -> Address | None:
    """An address as proxies write it, with or without a port; an IPv4 address in IPv6's clothes is undressed."""
    if text.startswith("["):
        text, _, port = text[1:].partition("]")
        text = text if not port or (port.startswith(":") and port[1:].isdigit()) else ""
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        text = text if port.isdigit() else ""
    try:
        found = ip_address(text) if text.isascii() and "%" not in text else None
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
