# SPDX-License-Identifier: Apache-2.0
"""What `qcos costs reconcile` makes of a file before it is sent, and of the findings that come back (G7)."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import hashlib
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from control_plane.client import Answered, Client
from control_plane.commands import _costs_reconcile as reconcile
from control_plane.errors import Refused
from finops.invoices import mapping
from finops.invoices.lines import read


def arguments(file: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reconcile.register(parser.add_subparsers())
    return parser.parse_args(["reconcile", str(file), *more])


def test_focus_as_parquet_is_sent_as_rows_with_the_files_hash(tmp_path: Path) -> None:
    """Decimals stay exact and moments have their zone."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    at = dt.datetime(2026, 10, 3, 10, tzinfo=dt.UTC)
    columns = {
        "ChargeCategory": ["Usage"],
        "BilledCost": pa.array([Decimal("1.4500000001")], pa.decimal128(28, 10)),
        "BillingCurrency": ["USD"],
        "ChargePeriodStart": pa.array([at], pa.timestamp("us", "UTC")),
        "ChargePeriodEnd": pa.array([at], pa.timestamp("us", "UTC")),
        "ResourceId": [None],
    }
    file = tmp_path / "focus.parquet"
    parquet.write_table(pa.table(columns), file)
    asked = reconcile._asked(arguments(file), file.read_bytes())
    assert (asked["format"], asked["mapping"]) == ("json", "focus")
    assert asked["original"] == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    (line,) = read(asked["invoice"], "json", mapping.shipped("focus")).lines
    assert (line.amount, line.start, line.vendor_id) == (Decimal("1.4500000001"), at, None)


def test_what_is_no_parquet_is_refused() -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(Refused, match="no Parquet"):
        reconcile._from_parquet(b"PAR1 and then nothing")


class _Small(Client):
    """A plane that takes little."""

    def __init__(self) -> None:
        pass

    def ask(self, *_args: Any, **_more: Any) -> Any:
        raise Answered(413, {"code": "body_too_large", "detail": "too large", "status": 413})


def test_a_file_that_is_too_large_is_refused_with_what_it_wants(tmp_path: Path) -> None:
    """By the plane's own setting as long as it is one that could be read at all; else before it is sent."""
    with pytest.raises(Answered, match=r"inv\.csv: have the plane's max_body_bytes raised to 14000$") as refused:
        reconcile._compared(_Small(), {"invoice": "x" * 4000}, Path("inv.csv"))
    assert refused.value.code == refused.value.document["code"] == "body_too_large"
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(Refused, match=r"large\.csv: has 200000000 bytes, and at most 16777216 are read"):
        reconcile._run(arguments(large))


def test_a_mapping_is_a_name_or_a_file(tmp_path: Path) -> None:
    file, own = tmp_path / "invoice.csv", tmp_path / "mine.json"
    own.write_text('{"version": 1}')
    assert reconcile._asked(arguments(file), b"a")["mapping"] == "plain"
    assert reconcile._asked(arguments(file, "--map", "aws"), b"a")["mapping"] == "aws"
    assert reconcile._asked(arguments(file, "--map", str(own)), b"a")["map"] == {"version": 1}
    own.write_text("[]")
    with pytest.raises(Refused, match="want a JSON object"):
        reconcile._asked(arguments(file, "--map", str(own)), b"a")


def test_variances_are_written_without_formulas_and_over_no_file(tmp_path: Path) -> None:
    found = dict.fromkeys(reconcile._COLUMNS) | {"class": "unknown_job", "lines": [2, 3], "user": "=cmd()"}
    found |= {"difference": "-1.45"}
    reconcile._write(tmp_path / "out.csv", [found])
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert (row["user"], row["difference"], row["lines"]) == ("'=cmd()", "-1.45", "2 3")
    with pytest.raises(Refused, match="File exists"):
        reconcile._write(tmp_path / "out.csv", [found])
