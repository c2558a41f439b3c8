# SPDX-License-Identifier: Apache-2.0
"""`qcos policy diff`: what a folder, or an earlier revision, changes: rules line by line, data by key (G2)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane


def register(actions: Any) -> None:
    """Add the command."""
    diff = actions.add_parser(
        "diff", help="what differs between policies", description="Without a word: what the last push changed."
    )
    diff.add_argument("to", metavar="FOLDER|REV", nargs="?", help="what would come: a folder, or a revision")
    diff.add_argument("since", metavar="REV", nargs="?", help="what it is held against, else what is in force")
    diff.add_argument("--json", action="store_true", help="one document")
    diff.set_defaults(run=_diff)


def _diff(arguments: argparse.Namespace) -> None:
    import sys

    import msgspec

    from control_plane import tables
    from control_plane.policy import difference

    (name, before), (wanted, after) = _sides(arguments)
    found = difference.between(before, after)
    if arguments.json:
        tables.document({"from": name, "to": wanted, "files": msgspec.to_builtins(found)})
        return
    for change in found:
        for line in change.lines:
            sys.stdout.write(_plain(line) + "\n")
        if change.keys:
            sys.stdout.write(f"{change.path}\n")
        for key in change.keys:
            sys.stdout.write(_plain(f"  {key.key}: {_said(key.before)} → {_said(key.after)}") + "\n")
    if not found:
        tables.facts([("differs", "nothing")])


def _plain(line: str) -> str:
    """The line without what a terminal would obey."""
    return "".join(sign if sign.isprintable() or sign == "\t" else "\ufffd" for sign in line)


def _said(value: str | None) -> str:
    return "(none)" if value is None else value


Side = tuple[str, dict[str, str]]


def _sides(arguments: argparse.Namespace) -> tuple[Side, Side]:
    from control_plane.commands._revisions import of_folder

    client = plane()
    current = client.ask("GET", "/api/v1/policy")["revision"]
    if arguments.to is None:
        base = client.ask("GET", f"/api/v1/policy/revisions/{current}")["base"]
        return _side(client, base or current), _side(client, current)
    since = _side(client, arguments.since or current)
    if Path(arguments.to).is_dir():
        return since, (arguments.to, of_folder(Path(arguments.to)))
    return since, _side(client, arguments.to)


def _side(client: Any, revision: str) -> Side:
    from control_plane.commands._revisions import full

    named = full(client, revision)
    return named, client.ask("GET", f"/api/v1/policy/revisions/{named}")["files"]
