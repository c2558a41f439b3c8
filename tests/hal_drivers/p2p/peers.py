# SPDX-License-Identifier: Apache-2.0
"""Peers of the network as processes of their own: libp2p warns where it is imported, and lives in Trio.

`python -m tests.hal_drivers.p2p.peers ROLE FOLDER JSON`. Roles: `fabric` and `node`
(the real ones), `hesitant` (two hosts), and those that an attacker plays: `flooder`, `plaintext`, `stolen`. Each
writes a line once it runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from hal_drivers.frames import FragmentCall, Memory
from hal_drivers.p2p import identity
from hal_drivers.p2p.framing import _LENGTH
from hal_drivers.p2p.office import Ask, AskEvents, AskPeers, Event, Reply
from hal_drivers.p2p.workshop import RunLost
from tests.hal_drivers.p2p.adverts import peer, said

_reply: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class Peer:
    """A child process of a test; `with` ends it."""

    module = "tests.hal_drivers.p2p.peers"

    def __init__(self, role: str, folder: Path, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._log = (folder / "err").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, role, str(folder), json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def begun(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "err").read_text()[-3000:]
        told: dict[str, Any] = json.loads(line)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Office:
    """The plane's side of a fabric's socket, blocking."""

    def __init__(self, path: Path) -> None:
        import socket

        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))

    def ask(self, ask: Ask) -> Any:
        data = msgspec.json.encode(ask)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)
        return _reply.decode(self._exactly(_LENGTH.unpack(self._exactly(4))[0]))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            assert piece, "the fabric ended the connection"
            data += piece
        return data

    def close(self) -> None:
        self._socket.close()


class Network:
    """A fabric and who else a test starts."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack, self._peers = folder, stack, 0
        self.options: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        self.fabric = self._stack.enter_context(Peer("fabric", self.folder / "f", **self.options))
        told = self.fabric.begun()
        self.bootstrap = told["listen"]
        self.options["listen"] = self.bootstrap[0].split("/p2p/")[0]
        self.office = Office(self.folder / "f" / "fabric.sock")
        self._stack.callback(self.office.close)

    def again(self, **options: Any) -> None:
        """Kill the fabric and start it anew at the same place."""
        self.fabric.process.kill()
        self.fabric.process.wait()
        self.options |= options
        self.start()

    def add(self, role: str, **options: Any) -> Peer:
        self._peers += 1
        folder = self.folder / f"{role}{self._peers}"
        return self._stack.enter_context(Peer(role, folder, bootstrap=self.bootstrap, **options))

    def state(self, who: Any) -> Any:
        return next((p.state for p in self.office.ask(AskPeers()).peers if p.peer_id == who.peer_id), "unknown")

    def events(self) -> tuple[Event, ...]:
        found: tuple[Event, ...] = self.office.ask(AskEvents(0, 5000)).events
        return found

    def kinds(self, node_id: str | None = None) -> list[str]:
        return [e.kind for e in self.office.ask(AskEvents(0)).events if e.node_id == node_id]

    def refused(self, kind: str = "peer:refused") -> dict[str, int]:
        found: dict[str, int] = {}
        for event in self.office.ask(AskEvents(0)).events:
            if event.kind == kind:
                found[event.facts["reason"]] = found.get(event.facts["reason"], 0) + event.facts["count"]
        return found


def _tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def _fabric(folder: Path, options: dict[str, Any]) -> None:
    import trio

    from hal_drivers.p2p import fabric
    from hal_drivers.p2p.asking import Limits
    from hal_drivers.p2p.registry import Bounds

    me = identity.make(folder / "key.pem")
    made = fabric.FabricOptions(listen=(options.get("listen", "/ip4/127.0.0.1/tcp/0"),), heartbeat_s=0.2)
    made = msgspec.structs.replace(made, heartbeat_limit_s=options.get("heartbeat_limit_s", 5.0))
    made = msgspec.structs.replace(made, bounds=Bounds(**options.get("bounds", {})))
    limits = Limits(default_execute_s=20.0)
    async with fabric.running(me, made, limits, folder, folder / "fabric.sock") as running:
        _tell(peer_id=me.peer_id, listen=running.addresses())
        if options.get("breaks"):
            raise RuntimeError("it broke")
        await trio.sleep_forever()


class _Nothing:
    """The workshop of a node that nothing is asked of but its word: seconds of starting Aer less."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}

    async def run(self, call: FragmentCall, limit_s: float) -> Memory:
        raise RunLost("crashed", f"this node computes nothing, {call.shots} shots in {limit_s} s least of all")


@asynccontextmanager
async def _closed(children: int) -> AsyncIterator[_Nothing]:
    assert children
    yield _Nothing()


async def _node(folder: Path, options: dict[str, Any]) -> None:
    from hal_drivers.p2p import node
    from hal_drivers.p2p.desk import NodeConfig

    if not options.get("computes", True):
        node.open_workshop = _closed  # type: ignore[attr-defined,assignment]
    me = identity.Identity(peer(options["number"])._key)
    made = node.NodeOptions(
        home=folder,
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=tuple(options["bootstrap"]),
        planes=frozenset(address.rsplit("/", 1)[1] for address in options["bootstrap"]),
        config=msgspec.convert(
            options.get("config", {"skills": {"cnot": {"advertised": 0.99, "true": 0.99}}}), NodeConfig
        ),
        refresh_s=0.5,
    )
    await node.run(me, made, lambda told: _tell(peer_id=told.peer_id, listen=told.listen_addrs))


async def _flooder(folder: Path, options: dict[str, Any]) -> None:
    """An enrolled peer that says too much: replays, another's adverts, garbage, and more than its share."""
    import trio

    from hal_drivers.p2p import host

    me, bootstrap = identity.Identity(peer(options["number"])._key), options["bootstrap"]
    async with host.running(
        me, ["/ip4/127.0.0.1/tcp/0"], host.Ways(may_join=lambda _: True), bootstrap=bootstrap
    ) as net:
        while not net.listeners():  # noqa: ASYNC110 - libp2p has no event for it
            await trio.sleep(0.02)
        for serial in range(1000, 1000 + options["flood"]):
            await net.publish(said(me, serial=serial))
            await trio.sleep(0.001)  # libp2p's own queue to a peer drops what comes faster
        bad = (said(me, serial=5), said(me, serial=4), b"garbage", said(peer(99)), said(me, fidelity=1.5))
        for word in () if options["flood"] else bad:
            await net.publish(word)
        _tell(done=True)
        await trio.sleep_forever()


async def _hesitant(folder: Path, options: dict[str, Any]) -> None:
    """A host that says no so many times and yes from then on, and one that dials it and speaks when listened to."""
    import trio

    from hal_drivers.p2p import host

    asked, noes, heard, joined = 0, int(options["noes"]), trio.Event(), trio.Event()

    def may_join(_: str) -> bool:
        nonlocal asked
        asked += 1
        return asked > noes

    def hears(_peer: str, _data: bytes) -> bool:
        heard.set()
        return True

    one, other = (identity.make(folder / f"{name}.pem") for name in ("one", "other"))
    door = host.Ways(may_join=may_join, heard=hears, joined=lambda _: joined.set(), listens=True)
    listen = ["/ip4/127.0.0.1/tcp/0"]
    async with host.running(one, listen, door) as plane:
        anybody = host.Ways(may_join=lambda _: True)
        async with host.running(other, listen, anybody, bootstrap=plane.addresses()) as node:
            while not (joined.is_set() and heard.is_set()):
                if node.listeners():
                    await node.publish(said(other))
                await trio.sleep(0.05)
            _tell(heard=True)


async def _intruder(folder: Path, options: dict[str, Any], *, plaintext: bool) -> None:
    """Claims the id of `victim`, whose public key it has: over plaintext, or over Noise with its own signature."""
    import trio
    from libp2p import create_yamux_muxer_option, new_host
    from libp2p.crypto.ed25519 import Ed25519PrivateKey, Ed25519PublicKey, create_new_key_pair
    from libp2p.crypto.keys import KeyPair
    from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
    from libp2p.custom_types import TProtocol
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
    from libp2p.security.noise.transport import PROTOCOL_ID, Transport
    from multiaddr import Multiaddr

    stolen = Ed25519PublicKey.from_bytes(identity.public_of(options["victim"]))

    class Thief(Ed25519PrivateKey):
        def get_public_key(self) -> Ed25519PublicKey:
            return stolen

    pair = KeyPair(Thief(create_new_key_pair(b"thief".ljust(32)).private_key.impl), stolen)  # type: ignore[attr-defined]
    noise = Transport(pair, noise_privkey=create_noise_key_pair().private_key)
    secure = (
        {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(pair)} if plaintext else {TProtocol(PROTOCOL_ID): noise}
    )
    host = new_host(key_pair=pair, sec_opt=secure, muxer_opt=create_yamux_muxer_option())
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        assert str(host.get_id()) == options["victim"]
        info = info_from_p2p_addr(Multiaddr(options["bootstrap"][0]))
        try:
            with trio.fail_after(20):
                await host.connect(info)
                await host.new_stream(info.peer_id, [TProtocol("/meshsub/1.1.0")])
        except Exception as error:  # noqa: BLE001 - whatever libp2p says, it is no
            _tell(refused=True, by=type(error).__name__)
        else:
            _tell(refused=False)


def main() -> None:
    import trio

    warnings.simplefilter("ignore")
    role, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    match role:
        case "fabric":
            trio.run(_fabric, folder, options)
        case "node":
            trio.run(_node, folder, options)
        case "flooder":
            trio.run(_flooder, folder, options)
        case "hesitant":
            trio.run(_hesitant, folder, options)
        case "plaintext" | "stolen":
            trio.run(lambda: _intruder(folder, options, plaintext=role == "plaintext"))
        case _:
            sys.exit(f"no role {role}")


def until(what: str, probe: Any, limit_s: float = 90.0) -> Any:
    """The first truthy answer of `probe`; waits by condition."""
    end = time.monotonic() + limit_s
    while not (found := probe()):
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)
    return found


if __name__ == "__main__":
    main()
