# SPDX-License-Identifier: Apache-2.0
"""`make test-guides`: types the walks of the guides, each on a plane of its own (G2, G13).

Ends with 1 at the first command that fails or answers otherwise than its page says. A walk whose outside world this
machine lacks is skipped, by name.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.guides import typed
from tests.guides.walks import ROOT, WALKS, Walk

DECISIONS = "10000"


def walk(one: Walk, decisions: str = DECISIONS) -> None:
    """Type it in a folder that is gone afterwards; whatever happens, the plane is stopped."""
    with tempfile.TemporaryDirectory(prefix="qcos-g-") as made:
        folder = Path(made)
        (folder / "examples").symlink_to(ROOT / "examples")
        try:
            with one.around(folder) as stage:
                fewer = {f"decisions {DECISIONS}": f"decisions {decisions}"}
                typed.play(one.page, one.heading, folder, {**fewer, **stage.replaced}, stage.acts)
        finally:
            down = [sys.executable, "-m", "control_plane.cli", "down"]
            given = typed.environment(folder)
            subprocess.run(down, cwd=folder, env=given, capture_output=True, check=False, timeout=typed.LIMIT_S)


def main() -> int:
    """Walk the guides, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.guides")
    parser.add_argument("--decisions", default=DECISIONS, help="fewer than the page has, to look at its words only")
    names = [one.name for one in WALKS]
    parser.add_argument("--only", action="append", choices=names, help="this walk, and others that are named so")
    given = parser.parse_args()
    for one in WALKS:
        if given.only and one.name not in given.only:
            continue
        if why := one.lacking():
            typed.told(f"{one.name}: skipped: {why}")
            continue
        begun = time.monotonic()
        try:
            walk(one, given.decisions)
        except typed.Mistold as fault:
            sys.stderr.write(f"guide {one.name}: {fault}\n")
            return 1
        page = one.page.relative_to(ROOT)
        typed.told(f"{page}, {one.name}: every command did what it says, in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
