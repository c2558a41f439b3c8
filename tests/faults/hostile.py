# SPDX-License-Identifier: Apache-2.0
"""Peers of the network that mean harm, as processes of their own: `python -m tests.faults.hostile ROLE FOLDER JSON`.

`liar` is a service node that does all it should until a file `lies` in its folder says what it does with results
instead: `endless` announces a frame of four gigabytes and sends, `huge` sends as much as one frame may hold. `loud` is
enrolled, does nothing, and says too much: adverts that are none, replays, a flood, or streams without end.
"""

from __future__ import annotations

import json
import struct
import sys
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from hal_drivers.p2p import identity
from hal_drivers.p2p.ir import canonical
from hal_drivers.p2p.wire import Signed
from tests.hal_drivers.p2p import peers
from tests.hal_drivers.p2p.adverts import advert, peer, said

_STREAMS = 100
_PIECE = b"x" * 65_536


class Hostile(peers.Peer):
    """The process of one."""

    module = "tests.faults.hostile"


async def _liar(folder: Path, options: dict[str, Any]) -> None:
    from hal_drivers.p2p import framing, node

    async def write_frame(pipe: framing.Pipe, data: bytes, largest: int) -> None:
        lies = folder / "lies"
        if not lies.exists() or b'"type":"executed"' not in msgspec.json.decode(data, type=Signed).body:
            await framing.write_frame(pipe, data, largest)
        elif lies.read_text() == "huge":
            padding = len(canonical(Signed("", b"", b"")))
            await framing.write_frame(pipe, canonical(Signed("", bytes((largest - padding) // 4 * 3), b"")), largest)
        else:
            await pipe.write(struct.pack(">I", 0xFFFFFFFF))
            while True:
                await pipe.write(_PIECE)

    vars(node)["write_frame"] = write_frame  # in this process alone
    await peers._node(folder, options)


def _words(me: identity.Identity) -> list[bytes]:
    """One of each: what `registry` must name."""
    forged = canonical(Signed(me.peer_id, canonical(advert(me, serial=50)), bytes(64)))
    return [
        said(me, serial=9),
        said(me, serial=10, version=2),
        forged,
        said(me, serial=11, ttl_s=0),
        said(me, serial=12, updated_at="tomorrow"),
        said(me, serial=13, fidelity=1.5),
        said(peer(99), serial=14),
        b"garbage",
        b" " * 5_000,
        said(me, serial=8),
        said(me, serial=20, updated_at="2099-01-01T00:00:00Z"),
    ]


async def _open(net: Any, plane: Any) -> None:
    """A stream, and another when it is ended."""
    import trio
    from libp2p.custom_types import TProtocol

    while True:
        try:
            stream = await net._host.new_stream(plane, [TProtocol("/ipfs/ping/1.0.0")])
            await stream.read(1)
        except Exception:  # noqa: BLE001 - whatever libp2p says, it is no
            await trio.sleep(0.1)


async def _loud(options: dict[str, Any]) -> None:
    import trio
    from libp2p.peer.id import ID

    from hal_drivers.p2p import host

    me, bootstrap = identity.Identity(peer(options["number"])._key), options["bootstrap"]
    ways = host.Ways(may_join=lambda _: True)
    async with host.running(me, ["/ip4/127.0.0.1/tcp/0"], ways, bootstrap=bootstrap) as net:
        while not net.listeners():  # noqa: ASYNC110 - libp2p has no event for it
            await trio.sleep(0.02)
        plane = ID.from_string(bootstrap[0].rpartition("/")[2])
        for word in _words(me) if options["what"] == "words" else ():
            await net.publish(word)
        peers._tell(begun=True)
        async with trio.open_nursery() as nursery:
            for _ in range(_STREAMS) if options["what"] == "streams" else ():
                nursery.start_soon(_open, net, plane)
            for serial in count(1000) if options["what"] == "flood" else ():
                await net.publish(said(me, serial=serial))
                if serial % 20 == 0:  # libp2p's own queue to a peer drops what comes faster
                    await trio.sleep(0.005)
        await trio.sleep_forever()


def main() -> None:
    import trio

    warnings.simplefilter("ignore")
    role, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if role == "liar":
        trio.run(_liar, folder, options)
    else:
        trio.run(_loud, options)


if __name__ == "__main__":
    main()
