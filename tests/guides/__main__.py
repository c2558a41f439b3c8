# SPDX-License-Identifier: Apache-2.0
"""`make test-guides`: types the walk of docs/guide-policy.md on a plane of its own (G2).

A quota is changed, its impact told with money on 10,000 decisions, pushed, seen in force without a restart, and a
denied job explained. Ends with 1 at the first command that fails or answers otherwise than the page says.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.guides import typed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide-policy.md"
HEADING = "## A change in five minutes"
DECISIONS = "10000"


def walk(decisions: str = DECISIONS) -> None:
    """Type it in a folder that is gone afterwards; whatever happens, the plane is stopped."""
    with tempfile.TemporaryDirectory(prefix="qcos-g-") as made:
        folder = Path(made)
        (folder / "examples").symlink_to(ROOT / "examples")
        try:
            typed.play(PAGE, HEADING, folder, {f"decisions {DECISIONS}": f"decisions {decisions}"})
        finally:
            down = [sys.executable, "-m", "control_plane.cli", "down"]
            given = typed.environment(folder)
            subprocess.run(down, cwd=folder, env=given, capture_output=True, check=False, timeout=typed.LIMIT_S)


def main() -> int:
    """Walk the guide."""
    parser = argparse.ArgumentParser(prog="python -m tests.guides")
    parser.add_argument("--decisions", default=DECISIONS, help="fewer than the page has, to look at its words only")
    begun = time.monotonic()
    try:
        walk(parser.parse_args().decisions)
    except typed.Mistold as fault:
        sys.stderr.write(f"guide: {fault}\n")
        return 1
    typed.told(f"docs/guide-policy.md: every command did what the page says, in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
