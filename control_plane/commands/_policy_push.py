# SPDX-License-Identifier: Apache-2.0
"""`qcos policy push|show|list`: put a folder's policies in force without a restart, and see which are (G2)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane

WAIT_S = 30.0
LOOK_S = 0.02


def register(actions: Any) -> None:
    """Add the commands."""
    push = actions.add_parser("push", help="put a folder's policies in force, and wait until they are")
    what = push.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="one that qcos policy init made")
    what.add_argument("--revision", metavar="REV", help="an earlier revision again: this is how to go back")
    push.add_argument("--base", metavar="REV", help="the revision that these were made from; refused if another stands")
    push.add_argument("--message", default="", help="why, for those who look at the list")
    push.add_argument("--json", action="store_true", help="one document")
    push.set_defaults(run=_push)
    show = actions.add_parser("show", help="the policies in force, and whether the engine decides by them")
    show.add_argument("--json", action="store_true", help="one document")
    show.set_defaults(run=_show)
    pushes = actions.add_parser("list", help="the last pushes, newest first")
    pushes.add_argument("--json", action="store_true", help="one document")
    pushes.set_defaults(run=_list)


def _push(arguments: argparse.Namespace) -> None:
    import time

    from control_plane import tables
    from control_plane.commands._revisions import full, of_folder

    client = plane()
    now = client.ask("GET", "/api/v1/policy")
    if arguments.revision:
        asked = full(client, arguments.revision)
        files = client.ask("GET", f"/api/v1/policy/revisions/{asked}")["files"]
    else:
        files = of_folder(arguments.folder)
    base = full(client, arguments.base) if arguments.base else now["revision"]
    body = {"files": files, "message": arguments.message, "base": base}
    begun = time.monotonic()
    kept = client.ask("POST", "/api/v1/policy/revisions", body)
    _wait(client, kept, begun)
    took_ms = round((time.monotonic() - begun) * 1e3)
    if arguments.json:
        tables.document(kept | {"state": "signed", "in_force": True, "took_ms": took_ms, "replaced": now["revision"]})
        return
    if kept["number"] == now["number"]:
        tables.facts([("revision", kept["revision"]), ("in force", "already: nothing changed")])
    else:
        said = f"after {took_ms / 1e3:.2f} s, push {kept['number']}"
        tables.facts([("revision", kept["revision"]), ("in force", said), ("replaced", now["revision"])])


def _wait(client: Any, kept: dict[str, Any], begun: float) -> None:
    import time

    from control_plane.errors import Refused

    while True:
        now = client.ask("GET", "/api/v1/policy")
        if now["number"] >= kept["number"] and now["engine"]["revision"] == now["revision"]:
            if now["number"] > kept["number"]:
                raise Refused("policy_moved", f"{kept['revision']} was in force, and push {now['number']} replaced it")
            return
        if time.monotonic() - begun > WAIT_S:
            break
        time.sleep(LOOK_S)
    told = client.ask("GET", "/api/v1/policy/revisions")
    state = next((one["state"] for one in told if one["number"] == kept["number"]), "pushed")
    if state == "refused":
        raise Refused("policy_unsigned", f"the sealer doesn't sign push {kept['number']}: entry {kept['entry_id']}")
    why = "; ".join(alarm["detail"] for alarm in now["alarms"]) or f"the engine has {now['engine']['revision']}"
    raise Refused("policy_unavailable", f"push {kept['number']} is {state} and not in force yet: {why}")


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/policy")
    if arguments.json:
        tables.document(found)
        return
    engine = found["engine"]
    decides = "decides by it" if engine["revision"] == found["revision"] else f"decides by {engine['revision']}"
    facts = [("revision", found["revision"]), ("pushed", f"{found['pushed_at']}, push {found['number']}")]
    tables.facts([*facts, (engine["name"], decides), *(("alarm", alarm["detail"]) for alarm in found["alarms"])])


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/policy/revisions")
    if arguments.json:
        tables.document(found)
        return
    rows = [
        [one["number"], one["revision"][:19], one["pushed_at"], one["pushed_by"], _state(one), one["message"]]
        for one in found
    ]
    tables.table(("push", "revision", "pushed_at", "pushed_by", "state", "message"), rows)


def _state(one: dict[str, Any]) -> str:
    return "in force" if one["in_force"] else str(one["state"])
