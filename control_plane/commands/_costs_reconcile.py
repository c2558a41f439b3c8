# SPDX-License-Identifier: Apache-2.0
"""`qcos costs reconcile`: a provider's invoice against the ledger (G7).

CSV and JSON go to the plane as they are. Parquet is read here, by the one who brings it, and goes as JSON: the plane
opens no file with a parser of another language that a stranger wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from control_plane.commands._plane import plane, read

if TYPE_CHECKING:
    from control_plane.client import Client

_COLUMNS: Final = (
    *("class", "lines", "job_id", "found_by", "vendor_id", "meter", "invoiced", "charged", "difference", "currency"),
    *("invoiced_quantity", "charged_quantity", "device", "at", "user", "candidates", "detail"),
)
_SHOWN: Final = (
    *("class", "lines", "job_id", "vendor_id", "meter"),
    *("invoiced", "charged", "difference", "currency", "detail"),
)


def register(costs: Any) -> None:
    """Add the command."""
    one = costs.add_parser("reconcile", help="a provider's invoice against what was charged")
    one.add_argument("file", metavar="FILE", type=Path, help="CSV, JSON, or FOCUS as CSV, JSON or Parquet")
    one.add_argument("--provider", metavar="PROVIDER", help="whose invoice it is, unless the mapping says")
    one.add_argument("--format", choices=("csv", "json", "focus"), help="how to read it; by the file's name")
    one.add_argument("--map", metavar="MAP", help="aws, azure, focus, ibm, plain, or a mapping file; plain or focus")
    one.add_argument("--month", metavar="YYYY-MM", help="which month it is of; those in which its lines begin")
    one.add_argument("--tolerance", metavar="AMOUNT", default="0", help="an amount so far off is rounding; 0")
    one.add_argument("--time-tolerance", metavar="SECONDS", type=int, default=0, help="around a line's times; 0")
    one.add_argument("--csv", metavar="OUT", type=Path, help="write all findings to a new file that spreadsheets open")
    one.add_argument("--json", action="store_true", help="one document")
    one.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import base64
    import sys

    from control_plane import tables
    from finops.findings import AGREED
    from finops.invoices.table import MAX_BYTES

    asked = _asked(arguments, read(arguments.file, MAX_BYTES))
    asked["invoice"] = base64.b64encode(asked["invoice"]).decode()
    found = _compared(plane(), asked, arguments.file)
    if arguments.csv is not None:
        _write(arguments.csv, found["found"])
    if arguments.json:
        tables.document(found)
        return
    sums = [
        (one["class"], one["count"], one["invoiced"], _amounts(one["charged"], found["currency"]))
        for one in found["classes"]
    ]
    total = ("all", len(found["found"]), found["invoiced"], _amounts(found["charged"], found["currency"]))
    tables.table(("class", "findings", f"invoiced {found['currency']}", f"charged {found['currency']}"), [*sums, total])
    open_ones = [one for one in found["found"] if one["class"] not in AGREED]
    if open_ones:
        tables.apart()
        tables.table(_SHOWN, [[_cell(one[name]) for name in _SHOWN] for one in open_ones])
    if {one["class"] for one in found["found"]} == {"unknown_job"}:
        sys.stderr.write(
            f"Note: no line fits a job of {found['provider']}: is it named as `qcos backends list` has it, "
            "and does the mapping read the right columns?\n"
        )


def _compared(client: Client, asked: dict[str, Any], file: Path) -> Any:
    """What the plane finds; where the file is too large for it, with how much it would have to take."""
    from control_plane.client import Answered

    try:
        return client.ask("POST", "/api/v1/costs/reconciliations", asked, limit_s=300.0)
    except Answered as refused:
        if refused.code == "body_too_large":
            wanted = len(asked["invoice"]) + 10_000  # and what stands beside it
            detail = f"{file}: have the plane's max_body_bytes raised to {wanted}"
            raise Answered(refused.status, refused.document | {"detail": detail}) from None
        raise


def _asked(arguments: argparse.Namespace, data: bytes) -> dict[str, Any]:
    import hashlib
    import json

    from control_plane.errors import Refused
    from finops.invoices.mapping import MAX_BYTES

    suffix = arguments.file.suffix.lower()
    form = arguments.format or ("json" if suffix == ".json" else "focus" if suffix == ".parquet" else "csv")
    name = arguments.map or ("focus" if form == "focus" else "plain")
    asked: dict[str, Any] = {"invoice": data, "format": form, "tolerance": arguments.tolerance}
    asked |= {"time_tolerance_s": arguments.time_tolerance}
    if data[:4] == b"PAR1":
        asked |= {"invoice": _from_parquet(data), "original": "sha256:" + hashlib.sha256(data).hexdigest()}
        asked["format"] = "json"
    if name.isalpha():
        asked["mapping"] = name
    else:
        try:
            asked["map"] = json.loads(read(Path(name), MAX_BYTES))
        except ValueError as error:
            raise Refused("unusable_input", f"{name}: {error}") from None
        if not isinstance(asked["map"], dict):
            raise Refused("unusable_input", f"{name}: want a JSON object")
    given = {"provider": arguments.provider, "month": arguments.month}
    return asked | {name: value for name, value in given.items() if value is not None}


def _from_parquet(data: bytes) -> bytes:
    import datetime as dt
    import json
    from decimal import Decimal

    from control_plane.errors import Refused

    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise Refused("unusable_input", "there is no pyarrow here; install it with the extra finops") from None

    def plain(value: Any) -> Any:
        match value:
            case Decimal():
                return format(value, "f")
            case dt.datetime():
                return value.isoformat()
            case dt.date():
                return value.isoformat()
            case None | bool() | str() | int():
                return value
            case _:  # a float has no exact amount, and what is nested no meaning here
                return repr(value) if isinstance(value, float) else json.dumps(value, default=str)

    try:
        rows = parquet.read_table(pa.BufferReader(data)).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise Refused("unusable_input", f"no Parquet: {str(error)[:200]}") from None
    return json.dumps([{name: plain(value) for name, value in row.items()} for row in rows]).encode()


def _write(file: Path, found: list[dict[str, Any]]) -> None:
    from control_plane.errors import Refused
    from finops import spreadsheet

    try:
        with file.open("x", encoding="utf-8", newline="") as out:
            out.write(spreadsheet.written(_COLUMNS, [[_cell(one[name]) for name in _COLUMNS] for one in found]))
    except OSError as error:
        raise Refused("unusable_input", f"{file}: {error.strerror}") from None


def _cell(value: Any) -> Any:
    return " ".join(str(one) for one in value) if isinstance(value, list) else value


def _amounts(charged: dict[str, str], currency: str) -> str:
    if set(charged) <= {currency}:
        return charged.get(currency, "0")
    return ", ".join(f"{amount} {name}" for name, amount in charged.items())
