# SPDX-License-Identifier: Apache-2.0
"""A plane with a network on which something goes wrong, and what can be seen of it: journal, ledger, evidence, memory.

All weights of the planner are 0, so that a job's first node is the one with the smallest id that may be used: `first`
is that node. Limits are short, probes happen once.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from control_plane.home import is_alive, started_at
from hal_drivers.p2p.faults import Fault, write_faults
from hal_drivers.p2p.ir import SERVICES
from hal_drivers.p2p.office import AskEvents, AskStanding, Event
from tests.faults.clocks import Clocks
from tests.hal_drivers.p2p.adverts import peer
from tests.hal_drivers.p2p.peers import Office
from tests.own_plane import OwnPlane, until

ROOT = Path(__file__).parents[2]
NETWORK = ROOT / "examples" / "network.qasm"
MEMORY_KB = 200_000
"""What a fault may cost the fabric at its worst moment, above what it had."""
_TRIES = 5
_WEIGHTS = ("latency", "failure", "infidelity", "entanglement", "load", "price")
SETTINGS = (
    "workers = 1\n[network]\nexecute_limit_s = 5.0\nreserve_limit_s = 1.0\ncontrol_limit_s = 0.5\nprobe_s = 86400\n"
    + "".join(f"weight_{name} = 0\n" for name in _WEIGHTS)
)
SLOW = Fault("slow", value=600.0, times=1)


class Stage:
    """One plane and its nodes; `homes` are theirs by id."""

    def __init__(self, plane: OwnPlane, homes: dict[str, Path], clocks: Clocks | None = None) -> None:
        self.plane, self.homes, self.clocks = plane, homes, clocks
        self._tokens = {who: plane.ask("login", "--as", who)["access_token"] for who in ("admin", "engineer")}
        self._socket = plane.status()["socket"]
        self._after = 0
        self._entries = 0
        self._fabric_kb = 0
        self._begun: dict[str, set[str]] = {}
        self.after: list[Callable[[], Any]] = []
        """What undoes this fault."""
        self.fabric = 0

    # ---- what can be asked

    def ask(self, *words: str, who: str = "engineer") -> Any:
        """A command as one of them."""
        self.plane.environment["QCOS_TOKEN"] = self._tokens[who]
        return self.plane.ask(*words)

    def office(self, ask: Any) -> Any:
        """What the fabric answers."""
        from control_plane.settings import located

        opened = Office(located({"home": str(self.plane.home)}, {}).fabric_socket)
        try:
            return opened.ask(ask)
        finally:
            opened.close()

    def http(self, method: str, path: str, body: Any = None, who: str = "engineer") -> Any:
        """One request over the API's Unix socket, which every network namespace reaches."""
        connection = _Unix(self._socket)
        sent = {"Authorization": f"Bearer {self._tokens[who]}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            found = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status < 300, found
        return found

    def known(self) -> list[str]:
        """Everybody who was ever enrolled."""
        return [one["peer_id"] for one in self.http("GET", "enrollment/peers")]

    def usable(self) -> list[str]:
        """Who may get work, by id: those who were found good in all that they offer."""
        found = [one for one in self.http("GET", "discovery/peers") if one["state"] == "online"]
        return sorted(
            one["peer_id"] for one in found if all(offer["verified"] is not None for offer in one["services"])
        )

    @property
    def first(self) -> str:
        """Whom the next job asks first."""
        return self.usable()[0]

    # ---- what can be done

    def begin(self) -> None:
        """Everything is well; what comes from here on belongs to this fault."""
        for home in self.homes.values():
            write_faults(home / "faults.json", ())
        until(lambda: self.homes.keys() <= set(self.usable()), "all nodes are online", 120.0)
        until(lambda: any(b["id"] == "p2p" and b["state"] == "online" for b in self.ask("backends", "list")), "offered")
        self._after = self.office(AskStanding()).events_last
        ((self._entries,),) = self.plane.query("SELECT coalesce(max(index), 0) FROM ledger.entry")
        self._begun = {name: self._begun_at(name) for name in self.homes}
        self.fabric = self.plane.pid("fabric")
        self._fabric_kb = _peak_kb(self.fabric)

    def undo(self) -> None:
        """Whatever this fault left behind."""
        while self.after:
            self.after.pop()()

    def spoil(self, *faults: Fault, node: str | None = None) -> str:
        """From now on this node, the first where none is named, does so; who it is."""
        found = node or self.first
        write_faults(self.homes[found] / "faults.json", faults)
        return found

    def submit(self) -> str:
        """A job of one fragment, planned for the first node: a worker's view of the network is a second old at most."""
        first = self.first
        for _ in range(_TRIES):
            job = str(self.ask("submit", str(NETWORK))["job_id"])
            if until(partial(self._primary, job), "it is planned") == first:
                return job
            self.ended(job)
        raise AssertionError(f"no job is planned for {first}")

    def _primary(self, job_id: str) -> str | None:
        rows = self.plane.query(f"SELECT plan FROM network.plan WHERE job_id = '{job_id}'")
        return str(rows[0][0]["assignments"][0]["primary"]) if rows else None

    def working(self, node: str) -> None:
        """Wait until this node has begun the fragment."""

        until(lambda: self._begun_at(node) - self._begun[node], "it works")

    def _begun_at(self, node: str) -> set[str]:
        """The attempts there that began and have not ended."""
        found = (self.homes[node] / "answers").glob("*.json")
        return {path.name for path in found if json.loads(path.read_bytes())["answer"] is None}

    def pid(self, node: str) -> int:
        """Of a node of the plane's own."""
        return self.plane.pid(self.homes[node].name)

    def signal(self, node: str, number: signal.Signals) -> None:
        """Send it to the node's process."""
        os.kill(self.pid(node), number)

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job once it is over."""

        def over() -> Any:
            found = self.http("GET", f"jobs/{job_id}")
            return found if found["state"] in ("COMPLETED", "FAILED", "CANCELED", "UNCERTAIN", "DENIED") else None

        job: dict[str, Any] = until(over, "the job ended", every_s=0.1)
        return job

    # ---- what can be seen

    def events(self) -> list[Event]:
        """The journal's, since this fault began."""
        return list(self.office(AskEvents(self._after, 5000)).events)

    def journal(self) -> set[str]:
        """What kinds they are, a reason after those that have one."""
        found = self.events()
        turned = (e for e in found if e.kind in ("advert:rejected", "peer:refused"))
        return {e.kind for e in found} | {f"{e.kind} {e.facts['reason']}" for e in turned}

    def ledger(self) -> set[str]:
        """Kinds of entries since this fault began."""
        return {kind for (kind,) in self.plane.query(f"SELECT kind FROM ledger.entry WHERE index > {self._entries}")}

    def verified(self, job_id: str, folder: Path) -> dict[str, str]:
        """The checks of the job's evidence, which is valid."""
        bundle, trust = folder / "bundle.json", folder / "trust.json"
        self.ask("evidence", "get", job_id, "-o", str(bundle))
        self.ask("trust", "export", "-o", str(trust))
        report = self.ask("verify", str(bundle), "--trust", str(trust))
        assert report["verdict"] == "valid", report["reason"]
        return {check["name"]: check["detail"] for check in report["checks"]}

    def grown_kb(self) -> int:
        """How much more memory the fabric had at its worst moment than when this fault began."""
        return _peak_kb(self.plane.pid("fabric")) - self._fabric_kb


class _Unix(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def _peak_kb(pid: int) -> int:
    """The most that a process has held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has ended")


def below(names: list[str]) -> int:
    """The number of a `peer` whose id comes before all of these: whom the planner asks first."""
    return next(number for number in range(200, 100_000) if peer(number).peer_id < min(names))


def enroll(stage: Stage, node: str) -> None:
    """As an administrator does it."""
    facts = {"organisation": "Lab", "region": "eu", "compliance_zone": "onprem", "sovereign": True, "currency": "USD"}
    prices = {"price_per_fragment": "0", "price_per_shot": "0"}
    stage.http("POST", "enrollment/peers", {"peer_id": node, **facts, **prices}, "admin")
    act(stage, node, "approve")


def act(stage: Stage, node: str, what: str) -> None:
    """Approve, suspend or revoke it."""
    stage.http("POST", f"enrollment/peers/{node}/action", {"action": what, "reason": None}, "admin")


LIAR = {"skills": {service: {"advertised": 0.995, "true": 0.995} for service in SERVICES}, "capacity": 4}


@contextmanager
def own_nodes(folder: Path, number: int, clocks: Clocks | None) -> Iterator[Stage]:
    """A plane with so many nodes of its own; with `clocks` each node and the fabric has a clock that can be set."""
    environment = clocks.environment if clocks is not None else {}
    plane = OwnPlane(folder / "home", config=SETTINGS, QCOS_NODES=str(number), **environment)
    with plane.running():
        homes = {}
        for place in range(1, number + 1):
            home = plane.home / "nodes" / f"node-{place}"
            homes[(home / "peer_id").read_text().strip()] = home
        yield Stage(plane, homes, clocks)


def gone(pid: int) -> Callable[[], bool]:
    """Whether the process that has this pid now has ended."""
    begun = started_at(pid)
    return lambda: not is_alive(pid, begun)
