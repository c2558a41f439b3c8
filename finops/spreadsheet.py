# SPDX-License-Identifier: Apache-2.0
"""CSV that a spreadsheet can open: no cell of it is a formula, whatever a provider wrote into an invoice (G7). Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


def cell(text: object) -> str:
    """The text, with an apostrophe before it where a spreadsheet would compute it; numbers stay numbers."""
    shown = "" if text is None else str(text)
    if shown.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(shown):
        return "'" + shown
    return shown


def written(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file (RFC 4180) of these rows."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(heading)
    writer.writerows([cell(one) for one in row] for row in rows)
    return out.getvalue()
