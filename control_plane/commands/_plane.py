# SPDX-License-Identifier: Apache-2.0
"""The plane that a command speaks to, and the files that it is given; loaded when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from control_plane.client import Client


def plane() -> Client:
    """Of the plane in QCOS_HOME, or at QCOS_URL."""
    from control_plane.client import Client
    from control_plane.settings import located

    return Client(located().home)


def read(file: Path, most: int | None = None) -> bytes:
    """The file's bytes; raises Refused `unusable_input`, naming it, also for one of more than `most`."""
    from control_plane.errors import Refused

    try:
        if most is not None and (size := file.stat().st_size) > most:
            raise Refused("unusable_input", f"{file}: has {size} bytes, and at most {most} are read")
        return file.read_bytes()
    except OSError as error:
        raise _unusable(file, error) from None


def write(file: Path, data: bytes) -> int:
    """Write it whole, in place of what was there; how many bytes. Raises Refused `unusable_input`, naming it."""
    try:
        return file.write_bytes(data)
    except OSError as error:
        raise _unusable(file, error) from None


def _unusable(file: Path, error: OSError) -> Exception:
    from control_plane.errors import Refused

    return Refused("unusable_input", f"{file}: {error.strerror}")
