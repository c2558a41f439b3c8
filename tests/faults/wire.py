# SPDX-License-Identifier: Apache-2.0
"""A cable between two network namespaces that can be cut, cut one way, slow or lossy while connections run over it.

`python -I -S wire.py ONE OTHER NAME`, in a namespace of its own: it makes two pairs of interfaces, gives the outer end
of each (`NAME`) to the namespaces of the processes ONE and OTHER, and carries frames between the inner ends by packet
sockets. What it does to them comes as lines of JSON on standard input: `{"there": {"delay": S, "drop": SHARE}, "back":
{…}}`, *there* being from ONE to OTHER. No kernel module beyond veth is needed, as `tc … netem` would; a frame that is
dropped leaves nothing behind: no FIN, no RST, no unreachable. The standard library alone.
"""

from __future__ import annotations

import array
import fcntl
import heapq
import json
import random
import select
import socket
import struct
import subprocess
import sys
import time
from itertools import count

_EVERY_PROTOCOL = 0x0003
_OUTGOING = 4
_SIOCETHTOOL = 0x8946
# Checksums and segments are made by the sender's kernel and not left to a card that isn't there.
_OFFLOADS = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
_MOST_HELD = 10_000


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)


def _no_offloads(name: str) -> None:
    with socket.socket() as any_socket:
        for command in _OFFLOADS.values():
            value = array.array("B", struct.pack("II", command, 0))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sP", name.encode(), value.buffer_info()[0]))


def _end(inner: str, outer: str, pid: str) -> socket.socket:
    _ip("link", "add", inner, "type", "veth", "peer", "name", outer)
    for name in (inner, outer):
        _no_offloads(name)
    _ip("link", "set", outer, "netns", pid)
    _ip("link", "set", inner, "up", "promisc", "on")
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    opened.bind((inner, _EVERY_PROTOCOL))
    return opened


class Wire:
    """Both directions and what is under way."""

    def __init__(self, one: socket.socket, other: socket.socket) -> None:
        self._ways = {one: ("there", other), other: ("back", one)}
        self._does = {"there": {"delay": 0.0, "drop": 0.0}, "back": {"delay": 0.0, "drop": 0.0}}
        self._held: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = count()
        self._chance = random.Random(20260109)

    def carry(self) -> None:
        """Until standard input ends."""
        while True:
            wait_s = max(0.0, self._held[0][0] - time.monotonic()) if self._held else None
            ready, _, _ = select.select([*self._ways, sys.stdin], [], [], wait_s)
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                for way, found in json.loads(line).items():
                    self._does[way] |= found
                sys.stdout.write("done\n")
                sys.stdout.flush()
            for source in self._ways:
                if source in ready:
                    self._take(source)
            while self._held and self._held[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(self._held)
                _send(to, frame)

    def _take(self, source: socket.socket) -> None:
        frame, sender = source.recvfrom(65_536)
        if sender[2] == _OUTGOING:  # what was put there by the line below
            return
        way, to = self._ways[source]
        does = self._does[way]
        if self._chance.random() < does["drop"] or len(self._held) >= _MOST_HELD:
            return
        if does["delay"]:
            heapq.heappush(self._held, (time.monotonic() + does["delay"], next(self._number), to, frame))
        else:
            _send(to, frame)


def _send(to: socket.socket, frame: bytes) -> None:
    try:
        to.send(frame)
    except OSError:
        return  # the other end is down: a frame lost, as on any cable


def main() -> None:
    one, other, name = sys.argv[1:]
    wire = Wire(_end("inner1", name, one), _end("inner2", name, other))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    wire.carry()


if __name__ == "__main__":
    main()
