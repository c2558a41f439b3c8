# SPDX-License-Identifier: Apache-2.0
"""Pages whose tables are played by tests: each row of the page is a case of the test, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows(page: Path, columns: int) -> Iterator[tuple[str, ...]]:
    """The cells of each row of the page's tables with so many columns, headings apart."""
    heading = True
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        if not cells or set("".join(cells)) <= {"-", ":"}:
            heading = not cells
        elif len(cells) == columns and not heading:
            yield cells


def codes(cell: str) -> set[str]:
    """What stands in it between backticks."""
    return set(re.findall(r"`([^`]+)`", cell))
