# SPDX-License-Identifier: Apache-2.0
"""`qcos costs export`: a month of charges as a FOCUS file (G7, G14)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from control_plane.commands._plane import plane

# As in finops.focus.columns, which isn't loaded for a help text; a test holds the two together.
FORMATS: Final = ("csv", "parquet")
VERSIONS: Final = ("1.2", "1.4")
_LIMIT_S: Final = 600.0


def register(costs: Any) -> None:
    """Add the command."""
    export = costs.add_parser("export", help="charges as a FOCUS file, each line with its ledger entry and card")
    export.add_argument("--month", metavar="YYYY-MM", help="the month in which lines count (UTC); this, or --since")
    export.add_argument("--since", metavar="TIME", help="charged from this day or moment on (UTC)")
    export.add_argument("--until", metavar="TIME", help="and before this one")
    export.add_argument("--project", metavar="NAME", help="its lines alone; all unless told")
    export.add_argument("--format", choices=FORMATS, default="csv", help="csv unless told")
    export.add_argument("--focus", choices=VERSIONS, default="1.2", help="which FOCUS; 1.2 unless told")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="a new file")
    export.add_argument("--json", action="store_true", help="one document")
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    import hashlib
    from urllib.parse import urlencode

    from control_plane import tables

    names = ("month", "since", "until", "project", "format", "focus")
    asked = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    file: Path = arguments.output
    size = plane().download(f"/api/v1/costs/export?{urlencode(asked)}", None, file, limit_s=_LIMIT_S)
    with file.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    told = {"file": str(file), "bytes": size, "sha256": f"sha256:{digest}"}
    if arguments.json:
        tables.document(told)
    else:
        tables.facts(list(told.items()))
