# SPDX-License-Identifier: Apache-2.0
"""How far a receiver was told: a file for each in QCOS_HOME/siem, replaced as a whole.

No entry and no row tells of it: what reads the log to export it may write nothing into the database. A file that is
lost or unreadable begins the log anew, which a receiver sees by its indexes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from control_plane.home import make_folder


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """`read` entries of the log were looked at, and the indexes `sent` are those of the last events of it.

    `connected` says whether the receiver is there, `since` since when; `fault` is why it isn't.
    """

    read: int = 0
    sent: tuple[int, ...] = ()
    connected: bool = False
    since: str | None = None
    fault: str | None = None


def path(home: Path, name: str) -> Path:
    """Where a receiver's file lies."""
    return home / "siem" / f"{name}.json"


def load(home: Path, name: str) -> Place:
    """What was kept, or the beginning of the log."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path(home, name).read_bytes(), type=Place)
    return Place()


def keep(home: Path, name: str, place: Place) -> None:
    """Replace it; raises OSError."""
    target = path(home, name)
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.new")
    part.write_bytes(msgspec.json.encode(place))
    part.replace(target)
