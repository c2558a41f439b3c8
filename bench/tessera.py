# SPDX-License-Identifier: Apache-2.0
"""Tessera's POSIX log beside ours: `bench/tessera.go`, built for the moment where Go is, on this machine's disk.

Go's module proxy is asked once; checksums are verified. Where there is no Go, or the module can't be had, `Missing`
says why, and the published figure that stands in for it is cited as what it is: somebody else's, on another machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from bench.flight import Window
from bench.writers import SIZE

SOURCE = Path(__file__).with_suffix(".go")
MODULE, VERSION = "github.com/transparency-dev/tessera", "v1.0.2"
PUBLISHED = "pymerkle's own benchmark, row by row in SQLite: 1,207 entries/s"
BUILD_S, RUN_S = 300, 120


class MissingError(Exception):
    """Tessera can't be measured here; why."""


class Tessera:
    """The built programme, and a fresh log for each measurement; use as a context."""

    def __init__(self) -> None:
        """Build it: seconds, where the modules are here already."""
        if shutil.which("go") is None:
            raise MissingError("no Go here")
        self._folder = Path(tempfile.mkdtemp(prefix="qcos-tessera-"))
        self._program = self._folder / "tessera"
        shutil.copy(SOURCE, self._folder / "main.go")
        for words in (
            ("mod", "init", "bench"),
            ("mod", "edit", f"-require={MODULE}@{VERSION}"),
            ("build", "-mod=mod", "-o", str(self._program), "."),
        ):
            self._go(*words)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, in_flight: int, entries: int, ramp_s: float, window_s: float) -> Window:
        """`in_flight` writers that add so many entries at a time and wait for the checkpoint over the last of them."""
        log = tempfile.mkdtemp(dir=self._folder)
        words = [str(self._program), log, *map(str, (in_flight, entries, SIZE, ramp_s, window_s))]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=RUN_S)
        shutil.rmtree(log)
        if done.returncode:
            raise MissingError(done.stderr.strip()[-300:])
        said = json.loads(done.stdout)
        return Window(seconds=said["seconds"], done_s=said["done_s"] or [])

    def _go(self, *words: str) -> None:
        try:
            done = subprocess.run(
                ["go", *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=BUILD_S,
                cwd=self._folder,
                env=os.environ | {"GOFLAGS": ""},
            )
        except subprocess.TimeoutExpired:
            raise MissingError(f"go {words[0]} takes longer than {BUILD_S} s") from None
        if done.returncode:
            raise MissingError(f"go {words[0]}: {done.stderr.strip()[-300:]}")
