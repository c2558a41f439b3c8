# SPDX-License-Identifier: Apache-2.0
"""A restored plane beside the one that is there, and the switch from one to the other, never half.

What is restored grows in `QCOS_HOME/restoring`. Once it is whole and durable, a marker is written there; from then on
the switch is finished by whoever holds the home next, whatever was killed in between: each name is moved aside into
`QCOS_HOME/replaced-TIME`, then the new one into its place. Without the marker nothing outside `restoring` has changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from ledger.keys import sync_folder

NAMES = ("db", "keys", "dev-login", "qcos.toml", "head")
_MARKER = "whole"


def folder(home: Path) -> Path:
    """Where a restore grows."""
    return home / "restoring"


def decide(home: Path, aside: str) -> None:
    """The restored plane is whole: from here on it is this home's."""
    place = folder(home)
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_relative_to(place / "db" / "data"):  # the server has synced its own
            _sync(path)
        elif path.is_dir():
            sync_folder(path)
    part = place / f".{_MARKER}"
    part.write_text(aside, encoding="ascii")
    _sync(part)
    part.replace(place / _MARKER)
    sync_folder(place)


def finish(home: Path) -> None:
    """Finish a switch that was decided; take away a restore that wasn't. For whoever holds the home."""
    place = folder(home)
    try:
        aside = home / (place / _MARKER).read_text(encoding="ascii")
    except FileNotFoundError:
        discard(home)
        return
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in NAMES:
        new, old = place / name, home / name
        if new.exists():
            if old.exists():
                old.rename(aside / name)
                sync_folder(aside)
            new.rename(old)
            sync_folder(home)
    with contextlib.suppress(OSError):  # not empty, as it is wherever a plane was
        aside.rmdir()
    discard(home)


def discard(home: Path) -> None:
    """Take away what a restore left; the marker goes first, so that nothing half is ever switched to."""
    place = folder(home)
    if place.exists():
        (place / _MARKER).unlink(missing_ok=True)
        sync_folder(place)
        shutil.rmtree(place)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
