# SPDX-License-Identifier: Apache-2.0
"""One run of one bench: its figures as a JSON file that grows, so that what was measured survives an interruption.

A bench is a module with `measure(run)`, which keeps figures under names, and `tables(figures)`, which makes Markdown
of them by name; its last line calls `main`. Every command takes `--quick` (seconds, for its shape only) and
`--out FOLDER`; `python -m bench` runs them all.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeAlias

from bench.machine import machine, versions

OUT = Path(".bench")
STOPS = (signal.SIGINT, signal.SIGTERM)
Figures: TypeAlias = dict[str, Any]


class Run:
    """What a bench is told and what it has found so far."""

    def __init__(self, name: str, folder: Path, *, quick: bool) -> None:
        """Figures go to FOLDER/NAME.json."""
        self.quick = quick
        self.path = folder / f"{name}.json"
        self.figures: Figures = {
            "bench": name,
            "quick": quick,
            "complete": False,
            "machine": machine(),
            "versions": versions(),
        }
        self._begun = time.monotonic()

    def keep(self, **figures: Any) -> None:
        """Add figures and write the file."""
        self.figures |= figures
        self.figures["seconds"] = round(time.monotonic() - self._begun, 1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        fresh.write_text(json.dumps(rounded(self.figures), indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.path)

    def say(self, line: str) -> None:
        """Progress, apart from the tables."""
        seconds = time.monotonic() - self._begun
        sys.stderr.write(f"[{self.figures['bench']} {seconds:5.0f} s] {line}\n")
        sys.stderr.flush()


def rounded(value: Any) -> Any:
    """Figures with as many digits as they are good for: five."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
        case _:
            return value


def table(head: str, rows: list[str]) -> str:
    """A Markdown table."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]) + "\n"


def taken(figures: Figures) -> str:
    """One line that says where and when a run was made."""
    m, v = figures["machine"], figures["versions"]
    parts = [f"{m['cores']} cores ({m['cpu']})", f"Linux {m['kernel']}", f"Python {v['python']}"]
    parts += [f"{label} {v[name]}" for name, label in (("postgresql", "PostgreSQL"), ("opa", "OPA")) if name in v]
    parts += [f"Qiskit {v['qiskit']}, Aer {v['qiskit-aer']}", f"commit {v['commit']}", m["at"]]
    parts.append(f"load before {m['load_before']}")
    rough = ["quick: shape only"] if figures["quick"] else []
    rough += [f"{figures['refused']} requests refused with 503 and asked again"] if figures.get("refused") else []
    rough += [] if figures["complete"] else ["interrupted: not all of it"]
    return ", ".join([*parts, *rough]) + ".\n"


def main(name: str, measure: Callable[[Run], None], tables: Callable[[Figures], dict[str, str]]) -> NoReturn:
    """Measure, print the tables, exit: 0 when whole, 1 when it broke, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, for its shape only")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"for {name}.json (default {OUT})")
    arguments = parser.parse_args()
    for number in STOPS:
        signal.signal(number, _interrupted)
    run = Run(name, arguments.out, quick=arguments.quick)
    code = 0
    try:
        measure(run)
        run.figures["complete"] = True
    except KeyboardInterrupt:
        run.say("interrupted; what was measured is kept")
        code = 130
    finally:
        run.keep()
        sys.stdout.write("".join(f"\n{text}" for text in tables(run.figures).values()) + "\n" + taken(run.figures))
        sys.stdout.flush()
    sys.exit(code)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    """The first polite end is an interruption: planes are stopped, figures kept, and no second one cuts that short."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
