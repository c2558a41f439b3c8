# SPDX-License-Identifier: Apache-2.0
"""The processes `fabric` and `node-N`: Trio and libp2p live here, and in no other process of the plane (decision 10).

A fabric that is told to stop is not unwound: all that counts is durable already, as for a kill, and runs that go on at
nodes are taken up by the next. A free port, once found, is kept, so that nodes find a fabric that was started again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from control_plane.home import make_folder
from control_plane.network import options
from control_plane.settings import Settings
from hal_drivers.p2p import identity
from hal_drivers.p2p.errors import NetworkError

if TYPE_CHECKING:
    from hal_drivers.p2p.node import NodeOptions, Told

log = logging.getLogger("qcos.network")
_FREE = "/tcp/0"


def run_fabric(settings: Settings, ready: Callable[[], None]) -> None:
    """Run until told to stop; ends the process with 1 and a line that says why where it can't start."""
    home = options.fabric_home(settings)
    make_folder(home)
    make_folder(settings.fabric_socket.parent)
    _end_by_error(lambda: trio.run(_fabric, settings, home, ready))


def run_node(settings: Settings, name: str, ready: Callable[[], None]) -> None:
    """Run one of the plane's own nodes, at the fabric whose addresses are in the environment."""
    home = options.node_home(settings, name)
    make_folder(home)
    bootstrap = tuple(os.environ[options.BOOTSTRAP].split(","))
    _end_by_error(lambda: trio.run(_node, settings, home, bootstrap, ready))


async def _fabric(settings: Settings, home: Path, ready: Callable[[], None]) -> None:
    from hal_drivers.p2p import fabric
    from hal_drivers.p2p.registry import Bounds

    network = settings.network
    made = fabric.FabricOptions(
        listen=tuple(_kept_port(home, address) for address in network.listen),
        bootstrap=network.bootstrap,
        mdns=network.mdns,
        heartbeat_s=network.heartbeat_s,
        heartbeat_limit_s=network.control_limit_s,
        link_latency_us=round(network.link_latency_s * 1_000_000),
        link_failure_ppm=round(network.link_failure * 1_000_000),
        bounds=Bounds(ttl_s=network.advert_ttl_s),
    )
    me = identity.make(home / "fabric.pem")
    async with fabric.running(me, made, options.limits(network), home, settings.fabric_socket) as running:
        _keep_ports(home, running.addresses())
        log.info("the fabric is %s at %s", me.peer_id, ", ".join(running.addresses()))
        _keep_aside()
        ready()
        await _told_to_stop()
        running.journal.close()
        os._exit(0)


async def _node(settings: Settings, home: Path, bootstrap: tuple[str, ...], ready: Callable[[], None]) -> None:
    from hal_drivers.p2p import node
    from hal_drivers.p2p.desk import NodeConfig, Skill
    from hal_drivers.p2p.ir import SERVICES

    skill = Skill(options.OWN_FIDELITY, options.OWN_FIDELITY)
    made = node.NodeOptions(
        home=home,
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=bootstrap,
        planes=frozenset(address.rpartition("/")[2] for address in bootstrap),
        config=NodeConfig(
            skills=dict.fromkeys(SERVICES, skill),
            capacity=options.OWN_CAPACITY,
            ttl_s=settings.network.advert_ttl_s,
            control=settings.profile == "dev",
        ),
        refresh_s=settings.network.refresh_s,
        children=options.OWN_CHILDREN,
    )
    await serve_node(identity.make(home / "key.pem"), made, lambda _told: ready())


async def serve_node(me: identity.Identity, made: NodeOptions, told: Callable[[Told], None]) -> None:
    """Serve as a node until told to stop."""
    from hal_drivers.p2p import node

    def ready(said: Told) -> None:
        _keep_aside()
        told(said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.run, me, made, ready)
        await _told_to_stop()
        nursery.cancel_scope.cancel()


def _keep_aside() -> None:
    """What is there by now stays: looked through for garbage, all that libp2p brings stops a process for a while."""
    gc.collect()
    gc.freeze()


async def _told_to_stop() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def _end_by_error(run: Callable[[], None]) -> None:
    try:
        run()
    except* NetworkError as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, NetworkError)
        log.error("%s: %s", error.code, error.detail)  # noqa: TRY400 - whoever waits reads this line
        sys.exit(1)


def _kept_port(home: Path, address: str) -> str:
    """The address with the port that it had before, where it asks for a free one and that one is free."""
    if not address.endswith(_FREE):
        return address
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        port = json.loads((home / "ports.json").read_bytes())[address]
        with socket.socket(socket.AF_INET6 if address.startswith("/ip6") else socket.AF_INET) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind((address.split("/")[2], port))
        return f"{address.removesuffix(_FREE)}/tcp/{int(port)}"
    return address


def _keep_ports(home: Path, addresses: tuple[str, ...]) -> None:
    ports = {}
    for address in addresses:
        place, _, port = address.partition("/p2p/")[0].rpartition("/tcp/")
        ports[place + _FREE] = int(port)
    part = home / "ports.part"
    part.write_text(json.dumps(ports), encoding="utf-8")
    part.replace(home / "ports.json")
