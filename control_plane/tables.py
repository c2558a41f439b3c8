# SPDX-License-Identifier: Apache-2.0
"""How commands show rows: on a terminal columns without boxes, numbers to the right; piped, tabs and no heading."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

BAR = 20
_BLOCKS = "█▒░"
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
    sys.stdout.write(json.dumps(value, ensure_ascii=not _unicode()) + "\n")


def state(word: str) -> str:
    """A state as word and glyph on a terminal, the word alone elsewhere."""
    return f"{GLYPHS.get(word, '◌')} {word}" if sys.stdout.isatty() and _unicode() else word


def table(heading: Sequence[str], rows: Sequence[Sequence[Any]], drawn: Sequence[str] = (), legend: str = "") -> None:
    """Rows for people or for pipes; `drawn` has a picture of each row, shown on terminals that have room for it."""
    shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in shown)
        return
    if not shown:
        sys.stdout.write("nothing\n")
        return
    numeric = [all(_number(row[column]) for row in shown) for column in range(len(heading))]
    for column, right in enumerate(numeric):
        if right:
            _point(shown, column)
    lines = [list(heading), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    room = get_terminal_size().columns - sum(widths) - 2 * len(widths)
    fits = drawn and _unicode() and max(map(len, (legend, *drawn))) <= room
    pictures = [legend, *drawn] if fits else [""] * len(lines)
    for line, picture in zip(lines, pictures, strict=True):
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        sys.stdout.write("  ".join((*cells, picture)).rstrip() + "\n")


def apart() -> None:
    """An empty line on a terminal, between two tables; a pipe has rows alone."""
    if sys.stdout.isatty():
        sys.stdout.write("\n")


def bar(whole: float, *parts: float, width: int = BAR) -> str:
    """Parts of a whole, one after another, each in a lighter block: `width` of them are the whole.

    A first part above nothing has a block at least; what is above the whole is cut.
    """
    if whole <= 0:
        return ""
    drawn, reached = "", 0.0
    for block, part in zip(_BLOCKS, parts, strict=False):
        reached += max(part, 0.0)
        drawn += block * (round(width * min(1.0, reached / whole)) - len(drawn))
        if not drawn and part > 0 and block == _BLOCKS[0]:
            drawn = block
    return drawn


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """Name and value, one a line."""
    width = max(len(name) for name, _ in pairs) if sys.stdout.isatty() else 0
    for name, value in pairs:
        gap = "  " if width else "\t"
        sys.stdout.write(f"{name.ljust(width)}{gap}{'' if value is None else value}\n")


def _point(shown: list[list[str]], column: int) -> None:
    """Decimals of a column one below another: behind the shorter ones stands nothing."""
    texts = [row[column].removesuffix(" %") for row in shown]
    behind = [len(text) - len(text.partition(".")[0]) for text in texts]
    for row, length in zip(shown, behind, strict=True):
        row[column] += " " * (max(behind) - length)


def _unicode() -> bool:
    """Whether whoever reads reads UTF-8; other encodings have no blocks and not everybody's name."""
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"


def _number(text: str) -> bool:
    try:
        float(text.removesuffix(" %"))
    except ValueError:
        return text == ""
    return True
