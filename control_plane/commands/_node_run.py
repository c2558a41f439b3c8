# SPDX-License-Identifier: Apache-2.0
"""`qcos node run`: a lab's service node, a process of its own (N1, N6, N14). docs/guide-node.md has all."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOME = ".qcos-node"
_ENVIRONMENT = "QCOS_NODE_"
_FIDELITY = 0.995


def add(parser: Any) -> None:
    """Its flags; each has a variable `QCOS_NODE_…`, lists separated by commas, that a flag replaces."""
    parser.add_argument("--home", metavar="DIR", help=f"key and what was done; {HOME}")
    parser.add_argument("--key", metavar="FILE", help="the identity, Ed25519 as PKCS8 PEM; made in the home otherwise")
    parser.add_argument("--listen", metavar="ADDRESS", action="append", help="/ip4/127.0.0.1/tcp/0")
    parser.add_argument("--bootstrap", metavar="ADDRESS", action="append", help="a plane: /ip4/…/tcp/…/p2p/ID")
    parser.add_argument("--plane", metavar="ID", action="append", help="who may ask; those of --bootstrap otherwise")
    parser.add_argument(
        "--service",
        metavar="NAME=FIDELITY[:TRUE]",
        action="append",
        help=f"what is offered, how good it is said to be and how good it is; all at {_FIDELITY} otherwise",
    )
    parser.add_argument("--qubits", metavar="N", help="the widest circuit; 20")
    parser.add_argument("--shots", metavar="N", help="the most shots of one circuit; 100000")
    parser.add_argument("--capacity", metavar="N", help="fragments at once; 1")
    parser.add_argument("--latency-ms", metavar="MS", help="waited before each answer; 0")
    parser.add_argument("--fault", metavar="NAME[:VALUE][@KIND][*TIMES]", action="append", help="misbehave on purpose")
    parser.add_argument("--fault-file", action="store_true", help="obey faults.json in the home while it runs")
    parser.add_argument("--refresh-s", metavar="S", help="how often it advertises; 5")
    parser.add_argument("--ttl-s", metavar="S", help="how long an advert holds; 30")
    parser.add_argument("--mdns", action="store_true", help="look for the planes of --plane on the local network")
    parser.add_argument("--json", action="store_true", help="one document when it serves")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import trio

    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.network.process import serve_node
    from hal_drivers.p2p import identity
    from hal_drivers.p2p.errors import IdentityInvalid, NetworkError
    from hal_drivers.p2p.workshop import RunLost

    given = _Given(arguments, os.environ)
    try:
        me = identity.make(Path(given.text("key") or given.home / "key.pem"))
        options = _options(given)
    except (IdentityInvalid, ValueError, OSError) as error:
        raise Refused("unusable_input", str(error)) from None

    def told(serving: Any) -> None:
        if arguments.json:
            listens = list(serving.listen_addrs)
            tables.document({"node_id": serving.peer_id, "listen_addrs": listens, "pid": os.getpid()})
        else:
            sys.stdout.write(f"node {serving.peer_id} at {', '.join(serving.listen_addrs)}\n")
        sys.stdout.flush()

    try:
        trio.run(serve_node, me, options, told)
    except* NetworkError as group:
        raise Refused("start_failed", str(_first(group))) from None
    except* RunLost as group:
        raise Refused("start_failed", str(_first(group))) from None


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


class _Given:
    """Flags before the environment."""

    def __init__(self, arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self._flags, self._environment = vars(arguments), environment

    @property
    def home(self) -> Path:
        """Where it keeps what lasts."""
        return Path(self.text("home") or HOME)

    def text(self, name: str) -> str | None:
        """One value, or None."""
        return self._flags.get(name) or self._environment.get(_ENVIRONMENT + name.upper()) or None

    def words(self, name: str) -> tuple[str, ...]:
        """A list."""
        found = self._flags.get(name) or self._environment.get(_ENVIRONMENT + name.upper(), "").split(",")
        return tuple(word.strip() for word in found if word.strip())

    def switch(self, name: str) -> bool:
        """On or off."""
        return bool(self._flags.get(name)) or self._environment.get(_ENVIRONMENT + name.upper(), "") in {"1", "true"}

    def number(self, name: str, low: float, high: float, otherwise: float) -> float:
        """A number within bounds; ValueError names it."""
        text = self.text(name)
        try:
            found = otherwise if text is None else float(text)
        except ValueError:
            found = float("nan")
        if not low <= found <= high:
            raise ValueError(f"--{name.replace('_', '-')} {text}: a number from {low:g} to {high:g} is wanted")
        return found


def _options(given: _Given) -> Any:
    import msgspec

    from hal_drivers.p2p.desk import NodeConfig
    from hal_drivers.p2p.faults import parse_fault
    from hal_drivers.p2p.identity import public_of
    from hal_drivers.p2p.node import NodeOptions

    bootstrap = given.words("bootstrap")
    if not bootstrap and not (given.switch("mdns") and given.words("plane")):
        raise ValueError(
            "--bootstrap: the address of a plane is wanted, as qcos up or GET bootstrap/libp2p tells it, "
            "or --mdns with --plane"
        )
    for address in bootstrap:
        if "/p2p/" not in address:
            raise ValueError(f"--bootstrap {address}: it lacks /p2p/ and the plane's peer id")
    planes = frozenset(given.words("plane")) or frozenset(address.rpartition("/")[2] for address in bootstrap)
    for plane in planes:
        public_of(plane)
    refresh_s = given.number("refresh_s", 0.05, 3600, 5)
    ttl_s = int(given.number("ttl_s", 1, 86_400, 30))
    if refresh_s >= ttl_s:
        raise ValueError(f"--refresh-s {refresh_s:g}: less than --ttl-s, {ttl_s}, or adverts are stale in between")
    config = NodeConfig(
        skills={},
        qubit_max=int(given.number("qubits", 1, 64, 20)),
        shots_max=int(given.number("shots", 1, 10_000_000, 100_000)),
        capacity=int(given.number("capacity", 1, 64, 1)),
        latency_s=given.number("latency_ms", 0, 60_000, 0) / 1000,
        ttl_s=ttl_s,
        faults=tuple(parse_fault(text) for text in given.words("fault")),
        control=given.switch("fault_file"),
    )
    given.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return NodeOptions(
        home=given.home,
        listen=given.words("listen") or ("/ip4/127.0.0.1/tcp/0",),
        bootstrap=bootstrap,
        planes=planes,
        config=msgspec.structs.replace(config, skills=_skills(given.words("service"))),
        refresh_s=refresh_s,
        children=config.capacity,
        mdns=given.switch("mdns"),
    )


def _skills(words: tuple[str, ...]) -> dict[Any, Any]:
    from hal_drivers.p2p.desk import Skill
    from hal_drivers.p2p.ir import SERVICES

    found: dict[Any, Any] = {}
    for word in words or tuple(f"{name}={_FIDELITY}" for name in SERVICES):
        name, _, numbers = word.partition("=")
        said, _, true = numbers.partition(":")
        try:
            skill = Skill(float(said), float(true or said))
        except ValueError:
            raise ValueError(f"--service {word}: NAME=FIDELITY[:TRUE] is wanted") from None
        if name not in SERVICES:
            raise ValueError(f"--service {word}: one of {', '.join(SERVICES)} is wanted")
        if not (0 < skill.advertised <= 1 and 0 < skill.true <= 1):
            raise ValueError(f"--service {word}: a fidelity lies between 0 and 1")
        found[name] = skill
    return found
