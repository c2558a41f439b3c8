# SPDX-License-Identifier: Apache-2.0
"""How commands show rows: on a terminal columns without boxes, numbers to the right; piped, tabs and no heading."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

GLYPHS = {
    "COMPLETED": "●",
    "FAILED": "✗",
    "DENIED": "⊘",
    "CANCELED": "○",
    "UNCERTAIN": "?",
    "HELD": "‖",
}


def document(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def state(word: str) -> str:
    """A state as word and glyph on a terminal, the word alone elsewhere."""
    return f"{GLYPHS.get(word, '◌')} {word}" if sys.stdout.isatty() else word


def table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows for people or for pipes."""
    shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in shown)
        return
    if not shown:
        sys.stdout.write("nothing\n")
        return
    lines = [list(heading), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    numeric = [all(_number(row[column]) for row in shown) for column in range(len(heading))]
    for line in lines:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """Name and value, one a line."""
    width = max(len(name) for name, _ in pairs) if sys.stdout.isatty() else 0
    for name, value in pairs:
        gap = "  " if width else "\t"
        sys.stdout.write(f"{name.ljust(width)}{gap}{'' if value is None else value}\n")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == ""
    return True
