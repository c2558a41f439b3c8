# SPDX-License-Identifier: Apache-2.0
"""What `qcos up` shows: a line when it has become true. A tick and colour on a terminal, `ok` elsewhere."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TextIO

from control_plane import __version__
from control_plane.home import PlaneRecord
from control_plane.settings import Settings

_LABEL = 12
_COLUMNS = 79


class Teller:
    """Writes the lines of a start to `out`; with `quiet` it writes none (`--json`)."""

    def __init__(self, out: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out = out or sys.stdout
        self._quiet = quiet
        self._begun = time.monotonic()
        terminal = self._out.isatty()
        self._tick = "✓" if terminal else "ok"
        if terminal and "NO_COLOR" not in os.environ:
            self._tick = "\x1b[32m✓\x1b[0m"

    def heading(self, settings: Settings) -> None:
        """Version, profile and home."""
        self._line(f"qcos {__version__} · profile {settings.profile} · {short(settings.home)}")

    def true(self, label: str, text: str, took_s: float | None = None) -> None:
        """One thing that has just become true."""
        line = f"{label:<{_LABEL}}{text}" if text else label
        took = "" if took_s is None else f"{took_s:.1f} s".rjust(max(_COLUMNS - 2 - len(line), 7))
        self._line(f"{self._tick} {line}{took}")

    def ready(self, record: PlaneRecord, *, dev: bool) -> None:
        """Where to go from here."""
        self._line(f"Ready in {time.monotonic() - self._begun:.1f} s.")
        self._line(f"  API       {record.url}        Socket    {short_text(record.socket)}")
        if dev:
            self._line("  Log in    qcos login --as engineer     Try       qcos submit examples/bell.json --wait")
        self._line("  Stop      Ctrl-C, or qcos down")
        if dev:
            self._line("Note: dev profile: all keys under one OS user. Not for production.")

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError:  # the reader has left (head, a closed terminal); the plane goes on
            self._quiet = True


def short(path: object) -> str:
    """A path below the working folder as `./…`, any other in full."""
    text, here = str(path), str(Path.cwd())
    return "./" + text[len(here) + 1 :] if text.startswith(here + "/") else text


def short_text(text: str) -> str:
    """`short` for what is a path already in text."""
    return short(text)
