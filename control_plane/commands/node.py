# SPDX-License-Identifier: Apache-2.0
"""`qcos node run|enroll|list|show|approve|suspend|revoke`: the peers of the network (N14, N17)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands import _node_run
from control_plane.commands._plane import plane

ACTS = {
    "approve": "let a peer in, or in again",
    "suspend": "keep a peer out until it is approved again",
    "revoke": "keep a peer out for good: its key never comes back",
}


def register(groups: Any) -> None:
    """Add the commands."""
    node = groups.add_parser("node", help="nodes of the network").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    _node_run.add(node.add_parser("run", help="a service node, until stopped"))
    _enroll(node.add_parser("enroll", help="propose a peer, by what is agreed with its lab"))
    listing = node.add_parser("list", help="nodes, how each stands and what it offers")
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_list)
    one = node.add_parser("show", help="a node's enrolment, services and quality")
    one.add_argument("node", metavar="NODE", help="its peer id")
    one.add_argument("--json", action="store_true", help="one document")
    one.set_defaults(run=_show)
    for name, what in ACTS.items():
        act = node.add_parser(name, help=what)
        act.add_argument("node", metavar="NODE", help="its peer id")
        act.add_argument("--reason", metavar="TEXT", help="why; it stands in the ledger")
        act.add_argument("--json", action="store_true", help="one document")
        act.set_defaults(run=_act, asked=name)


def _enroll(parser: Any) -> None:
    parser.add_argument("node", metavar="NODE", help="its peer id (12D3Koo…)")
    for name, what in (
        ("organisation", "who runs it"),
        ("region", "where it stands"),
        ("zone", "its compliance zone, as policies name it"),
        ("price-per-fragment", "a decimal, such as 0.05"),
        ("price-per-shot", "a decimal, such as 0.0001"),
        ("currency", "such as USD"),
    ):
        parser.add_argument(f"--{name}", metavar="WORD", required=True, help=what)
    parser.add_argument("--sovereign", action="store_true", help="no foreign law reaches it")
    parser.add_argument("--json", action="store_true", help="one document")
    parser.set_defaults(run=_propose)


def _propose(arguments: argparse.Namespace) -> None:
    names = ("organisation", "region", "sovereign", "price_per_fragment", "price_per_shot", "currency")
    asked = {name: getattr(arguments, name) for name in names}
    asked |= {"peer_id": arguments.node, "compliance_zone": arguments.zone}
    _told(arguments, plane().ask("POST", "/api/v1/enrollment/peers", asked))


def _act(arguments: argparse.Namespace) -> None:
    asked = {"action": arguments.asked, "reason": arguments.reason}
    _told(arguments, plane().ask("POST", f"/api/v1/enrollment/peers/{_quoted(arguments.node)}/action", asked))


def _told(arguments: argparse.Namespace, found: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(found)
    else:
        tables.facts([(name.replace("_", " "), value) for name, value in found.items()])


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    client = plane()
    nodes = {one["peer_id"]: one for one in client.ask("GET", "/api/v1/discovery/peers")}
    own = _own()
    rows = []
    for enrolled in client.ask("GET", "/api/v1/enrollment/peers"):
        node_id = enrolled["peer_id"]
        seen = nodes.get(node_id, {"state": enrolled["state"], "services": []})
        services = sorted(one["service_type"] for one in seen["services"] if not one["stale"])
        state = seen["state"] if enrolled["state"] == "approved" else enrolled["state"]
        rows.append({"node_id": node_id, "state": state, "services": services, "pid": own.get(node_id)})
    if arguments.json:
        tables.document(rows)
        return
    tables.table(
        ("node", "state", "services", "pid"),
        [(row["node_id"], row["state"], ",".join(row["services"]), row["pid"]) for row in rows],
    )


def _own() -> dict[str, int]:
    """Peer id → process of the nodes that this machine's plane runs; each writes its id beside its key."""
    from control_plane.errors import QcosError
    from control_plane.home import running_record
    from control_plane.settings import located

    home = located().home
    try:
        processes = running_record(home).processes
    except QcosError:
        return {}
    found = {_peer_id(home / "nodes" / one.name / "peer_id"): one.pid for one in processes if one.pid}
    return {node_id: pid for node_id, pid in found.items() if node_id is not None}


def _peer_id(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    client, node = plane(), _quoted(arguments.node)
    found = {
        "enrollment": client.ask("GET", f"/api/v1/enrollment/peers/{node}"),
        "quality": client.ask("GET", f"/api/v1/metrics/fidelity/{node}"),
    }
    seen = [one for one in client.ask("GET", "/api/v1/discovery/peers") if one["peer_id"] == arguments.node]
    found["peer"] = seen[0] if seen else None
    if arguments.json:
        tables.document(found)
        return
    tables.facts([(name.replace("_", " "), value) for name, value in found["enrollment"].items()])
    spent = found["quality"]["spent"]
    cost = f"{spent['amount']} {spent['currency']}, the plane's own: {spent['probes']} probes, {spent['shots']} shots"
    tables.facts([("probes cost", cost + (f" since {spent['since']}" if spent["since"] else ""))])
    if not seen:
        return
    tables.facts([(name, seen[0][name]) for name in ("state", "connected", "latency_us", "load", "failures")])
    tables.table(
        ("service", "reported", "verified", "degraded", "qubits", "shots", "age"),
        [
            (
                one["service_type"],
                one["fidelity"],
                one["verified"],
                "yes" if one["degraded"] else "no",
                f"{one['qubit_min']}-{one['qubit_max']}",
                one["shots_max"],
                f"{one['age_s']} s" + (", stale" if one["stale"] else ""),
            )
            for one in seen[0]["services"]
        ],
    )


def _quoted(node: str) -> str:
    from urllib.parse import quote

    return quote(node, safe="")
