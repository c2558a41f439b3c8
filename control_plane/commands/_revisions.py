# SPDX-License-Identifier: Apache-2.0
"""What the policy commands share: a folder's files as a push has them, a revision by its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def of_folder(folder: Path) -> dict[str, str]:
    """The files of a policy folder as text; raises Refused, with file and line, for what can't be one."""
    from control_plane.errors import Refused
    from control_plane.policy import folder as folders

    found = folders.read(folder)
    if found.faults:
        raise Refused("policy_refused", str(found.faults[0]))
    try:
        return {path: content.decode() for path, content in found.files.items()}
    except UnicodeDecodeError:
        bad = next(path for path, content in found.files.items() if not _is_text(content))
        raise Refused("policy_refused", f"{bad}:1: not UTF-8") from None


def full(client: Any, revision: str) -> str:
    """The whole name of a revision of which the beginning was given; raises Refused `not_found`."""
    from control_plane.errors import Refused

    wanted = revision if revision.startswith("sha256:") else f"sha256:{revision}"
    if len(wanted) == len("sha256:") + 64:
        return wanted
    told = client.ask("GET", "/api/v1/policy/revisions")
    known = {one["revision"] for one in told if one["revision"].startswith(wanted)}
    if len(known) != 1:
        raise Refused("not_found", f"{len(known)} revisions begin with {revision!r:.80}; qcos policy list shows them")
    return str(known.pop())


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
