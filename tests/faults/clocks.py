# SPDX-License-Identifier: Apache-2.0
"""Wrong clocks for real processes of a plane: a C file of 50 lines, compiled here and loaded before libc.

Each process named in `Clocks` reads its own offset, which may change while it runs; every other clock stays right,
PostgreSQL's too. Where there is no C compiler the test is skipped by that name.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class Clocks:
    """The offsets of some processes, in seconds; all right at first."""

    def __init__(self, folder: Path, *names: str) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("cc: a C compiler makes the wrong clock")
        self._folder = folder
        folder.mkdir(parents=True)
        library = folder / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_FOLDER": str(folder)}
        for name in names:
            self.shift(name, 0)

    def shift(self, name: str, seconds: float) -> None:
        """Set the clock of this process, running or yet to start, off by so much."""
        path = self._folder / name
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            file.write(struct.pack("<q", round(seconds * 1e9)))
