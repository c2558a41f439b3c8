# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every measured claim, one after the other, each in a process of its own with a limit of time.

`python -m bench [NAME…] [--quick] [--keep | --out FOLDER]`. A bench that breaks or hangs doesn't stop the next; what
each has measured by then stays in FOLDER/NAME.json. `--keep` writes where the documented figures lie, and makes the
tables of docs/performance.md from them. Exit code: 0 where every bench was whole.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.record import OUT
from bench.report import RESULTS, names

LIMIT_S = 1200
QUICK_LIMIT_S = 240
CLEAN_UP_S = 60


def main() -> int:
    """Run what was asked for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    known = names()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure; print tables; keep figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, for its shape only")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--keep", action="store_true", help="these are the figures that the documentation shows")
    place.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"for NAME.json (default {OUT})")
    arguments = parser.parse_args()
    wrong = [name for name in arguments.names if name not in known]
    if wrong:
        parser.error(f"no bench {wrong[0]}; there are {', '.join(known)}")
    folder = RESULTS if arguments.keep else arguments.out
    begun, ends = time.monotonic(), {}
    for name in arguments.names or known:
        sys.stdout.write(f"\n## {name}\n")
        sys.stdout.flush()
        ends[name] = run(name, folder, quick=arguments.quick)
        if ends[name] == "interrupted":
            break
    if arguments.keep:
        subprocess.run([sys.executable, "-m", "tests.docs.tables"], check=True)
    where = "bench/results and docs/performance.md" if arguments.keep else folder
    told = ", ".join(f"{name} {end}" for name, end in ends.items())
    sys.stdout.write(f"\n{told}; {time.monotonic() - begun:.0f} s in all; figures in {where}\n")
    return 0 if set(ends.values()) == {"whole"} else 1


def run(name: str, folder: Path, *, quick: bool) -> str:
    """`whole`, or what became of it. Its planes are its own: it is asked to end, so that it stops them."""
    words = ["--quick"] if quick else []
    child = subprocess.Popen([sys.executable, "-m", f"bench.{name}", *words, "--out", str(folder)])
    try:
        code = child.wait(QUICK_LIMIT_S if quick else LIMIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as cause:
        child.send_signal(signal.SIGTERM)  # where a terminal has told it too, this one is ignored
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(CLEAN_UP_S)
        child.kill()
        child.wait()
        return "interrupted" if isinstance(cause, KeyboardInterrupt) else "over its time"
    return "whole" if code == 0 else f"broke (exit {code})"


if __name__ == "__main__":
    sys.exit(main())
