# SPDX-License-Identifier: Apache-2.0
"""The documented figures: from bench/results/*.json to the tables that docs/performance.md shows.

A bench is found by its module, one that has `measure` and `tables`; nobody keeps a list.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

from bench.record import taken

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FIRST = ("governed", "memory")  # what is read first; the others follow by name


def names() -> list[str]:
    """Every bench there is."""
    found = {path.stem for path in HERE.glob("*.py") if re.search(r"(?m)^    main\(\"", path.read_text("utf-8"))}
    return [*(name for name in FIRST if name in found), *sorted(found - set(FIRST))]


def tables() -> dict[str, str]:
    """Each table by its name, and by `NAME-taken` where and when the figures of that bench were made."""
    made: dict[str, str] = {}
    for name in names():
        path = RESULTS / f"{name}.json"
        if path.exists():
            figures = json.loads(path.read_text(encoding="utf-8"))
            made |= _module(name).tables(figures) | {f"{name}-taken": taken(figures)}
    return made


def _module(name: str) -> Any:
    return importlib.import_module(f"bench.{name}")
