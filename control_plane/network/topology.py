# SPDX-License-Identifier: Apache-2.0
"""The network as it is shown: who is there, in which state, offering what, linked how. Pure.

`projection` leaves out what changes by itself (ages, latencies, loads), so that two of them differ only where there is
news; `shown` has all of it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hal_drivers.p2p.office import Heard, Link, Peer, TopologyIs

PPM = 1_000_000


def projection(topology: TopologyIs) -> dict[str, Any]:
    """What stays the same while nothing happens."""
    nodes = [
        {
            "peer_id": peer.peer_id,
            "state": peer.state,
            "connected": peer.connected,
            "services": sorted(heard.advert.service_type for heard in peer.adverts if not heard.stale),
        }
        for peer in topology.peers
        if peer.state is not None
    ]
    links = [
        {"from": link.from_id, "to": link.to_id, "connected": link.connected, "degraded": link.degraded}
        for link in topology.links
    ]
    return {"fabric": topology.peer_id, "nodes": nodes, "links": links}


def shown(topology: TopologyIs) -> dict[str, Any]:
    """Nodes and links with their figures; peers that nobody enrolled are left out."""
    return {
        "version": topology.version,
        "fabric": topology.peer_id,
        "nodes": [peer_shown(peer) for peer in topology.peers if peer.state is not None],
        "links": [link_shown(link) for link in topology.links],
    }


def peer_shown(peer: Peer) -> dict[str, Any]:
    """One peer as it is."""
    return {
        "peer_id": peer.peer_id,
        "state": peer.state,
        "connected": peer.connected,
        "listen_addrs": list(peer.listen_addrs),
        "last_heard_s": peer.last_heard_s,
        "latency_us": peer.latency_us,
        "load": peer.load_ppm / PPM,
        "failures": peer.failure_ppm / PPM,
        "services": [_advert(heard) for heard in peer.adverts],
    }


def _advert(heard: Heard) -> dict[str, Any]:
    said = msgspec.structs.asdict(heard.advert)
    size = ("qubit_min", "qubit_max", "shots_max")
    names = ("service_type", "fidelity", *size, "availability", "updated_at", "serial", "ttl_s")
    return {name: said[name] for name in names} | {"age_s": heard.age_s, "stale": heard.stale}


def link_shown(link: Link) -> dict[str, Any]:
    """One link as it is."""
    return {
        "from": link.from_id,
        "to": link.to_id,
        "connected": link.connected,
        "latency_us": link.latency_us,
        "failures": link.failure_ppm / PPM,
        "degraded": link.degraded,
    }
