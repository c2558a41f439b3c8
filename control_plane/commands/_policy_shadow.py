# SPDX-License-Identifier: Apache-2.0
"""`qcos policy shadow FOLDER|off|show`: a candidate decides beside the policies in force and acts on nothing (G2)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane

PATH = "/api/v1/policy/shadow"


def register(actions: Any) -> None:
    """Add the command."""
    shadow = actions.add_parser("shadow", help="let a candidate decide beside the policies in force, acting on nothing")
    shadow.add_argument("what", metavar="FOLDER|off|show", help="a folder of policies (./off for one of that name)")
    shadow.add_argument("--message", default="", help="why, for those who look")
    shadow.add_argument("--json", action="store_true", help="one document")
    shadow.set_defaults(run=_shadow)


def _shadow(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.commands._revisions import of_folder

    if arguments.what == "show":
        found = plane().ask("GET", PATH)
    elif arguments.what == "off":
        found = plane().ask("DELETE", PATH)
    else:
        files = of_folder(Path(arguments.what))
        found = plane().ask("POST", PATH, {"files": files, "message": arguments.message})
    if arguments.json:
        tables.document(found)
        return
    tables.facts(_facts(found))


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    if found["state"] == "off":
        return [("shadow", "off")]
    counts = found["counts"]
    facts = [("shadow", found["state"]), ("revision", found["revision"]), ("since", found["started_at"])]
    if found["stopped_at"]:
        facts.append(("stopped", f"{found['stopped_at']}{': ' + found['reason'] if found['reason'] else ''}"))
    return [
        *facts,
        ("decided", f"{counts['decided']}, of these {counts['same']} alike; {found['lag']} wait"),
        ("DENY to ALLOW", str(counts["deny_to_allow"])),
        ("ALLOW to DENY", str(counts["allow_to_deny"])),
        ("otherwise", str(counts["other"])),
        ("undecided", str(counts["undecided"])),
    ]
