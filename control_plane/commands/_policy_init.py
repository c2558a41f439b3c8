# SPDX-License-Identifier: Apache-2.0
"""`qcos policy init`: a folder of rules that OPA, regal, an editor and `qcos policy` work on at once.

From the revision in force where a plane answers, else the policies that this installation ships; which one it was is
said. Nothing that stands there already is touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_OWN = ("README.md", ".regal/config.yaml")
"""What the author gets besides a revision."""


def register(actions: Any) -> None:
    """Add the command."""
    init = actions.add_parser("init", help="make a folder of rules to change, with their tests and schemas")
    init.add_argument("folder", metavar="FOLDER", type=Path, help="made anew, or empty")
    source = init.add_mutually_exclusive_group()
    source.add_argument("--revision", metavar="REV", help="of a revision that was pushed, not the one in force")
    source.add_argument("--shipped", action="store_true", help="of the shipped policies, whatever is in force")
    init.add_argument("--json", action="store_true", help="one document")
    init.set_defaults(run=_init)


def _init(arguments: argparse.Namespace) -> None:
    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.policy import revision

    folder = arguments.folder
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise Refused("unusable_input", f"{folder}: is there already, and not an empty folder")
    shipped = revision.read(revision.default_folder())
    files, source = _files(arguments, shipped)
    files = {path: content for path, content in shipped.items() if path.startswith("schemas/")} | files
    own = {path: (revision.default_folder() / path).read_bytes() for path in _OWN}
    try:
        for path, content in sorted({**files, **own}.items()):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename}: {error.strerror}") from None
    made = revision.PolicySet.of(files).revision
    if arguments.json:
        tables.document({"folder": str(folder), "revision": made, "from": source, "files": sorted({**files, **own})})
        return
    tables.facts([("folder", folder), ("from", source), ("revision", made), ("next", f"qcos policy check {folder}")])


def _files(arguments: argparse.Namespace, shipped: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """The files of the revision asked for, and where they are from."""
    from control_plane.client import Answered, Client
    from control_plane.errors import NotSignedIn, Unreachable
    from control_plane.settings import located

    if arguments.shipped:
        return shipped, "the shipped policies"
    home = located().home
    if arguments.revision:
        return _pushed(Client(home), arguments.revision), f"revision {arguments.revision}"
    try:
        client = Client(home)
        current = client.ask("GET", "/api/v1/policy")["revision"]
        return _pushed(client, current), f"the revision in force, {current}"
    except Unreachable:
        return shipped, "the shipped policies: no plane answers"
    except (NotSignedIn, Answered) as error:
        return shipped, f"the shipped policies: the plane doesn't show its own ({error.code})"


def _pushed(client: Any, revision: str) -> dict[str, bytes]:
    from urllib.parse import quote

    from control_plane.errors import Refused
    from control_plane.policy import shape

    told = client.ask("GET", f"/api/v1/policy/revisions/{quote(revision, safe=':')}")
    files = {path: text.encode() for path, text in told["files"].items()}
    faults = [fault for path in files if (fault := shape.in_place(path))]
    if faults:  # a path that leads out of the folder is never written
        raise Refused("policy_refused", f"revision {revision}: {faults[0]}")
    return files
