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

import pytest

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
