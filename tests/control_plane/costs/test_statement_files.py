# SPDX-License-Identifier: Apache-2.0
"""A closed month's files in a stranger's hands: its signed statement with the lines, its table (G7)."""

from __future__ import annotations

import csv
import datetime as dt
import io
from pathlib import Path

import pytest

from control_plane.cli import main
from control_plane.commands import _costs_close
from control_plane.costs import judging

FOLDER = Path(__file__).parents[2] / "vectors" / "statements"
STATEMENT, TRUST = (FOLDER / "closed.json").read_bytes(), (FOLDER / "trust.json").read_bytes()
LINES = (FOLDER / "lines.jsonl").read_bytes().splitlines(keepends=True)
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


def test_a_statement_of_a_real_plane_is_valid_with_its_lines() -> None:
    report = judging.judge(STATEMENT, TRUST, NOW, lines=LINES)
    assert (report.verdict, report.reason) == ("valid", "every check passed")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([*LINES, LINES[-1]], f"line {len(LINES) + 1}: twice, or before the line that it follows"),
        ([LINES[1], LINES[0], *LINES[2:]], "line 2: twice, or before the line that it follows"),
        (LINES[1:], f"{len(LINES) - 1} lines, sha256:"),
    ],
)
def test_a_line_twice_or_in_another_place_is_told_by_its_number(lines: list[bytes], why: str) -> None:
    report = judging.judge(STATEMENT, TRUST, NOW, lines=lines)
    assert report.verdict == "invalid"
    assert report.reason.startswith(f"lines: {why}")


def test_no_name_of_a_cost_centre_is_a_formula_in_a_spreadsheet() -> None:
    """Who submits a job names its cost centre; nobody is to compute that. Amounts stay numbers."""
    figures = dict.fromkeys(_costs_close.BORNE, "-1.5") | {"currency": "USD"}
    names = ["=HYPERLINK(1)", "+1+1", "@a", "CC-1", None]
    written = _costs_close._csv([figures | {"cost_center": name} for name in names])
    heading, *rows = csv.reader(io.StringIO(written.decode()))
    assert tuple(heading) == _costs_close.BORNE
    assert [row[0] for row in rows] == ["'=HYPERLINK(1)", "'+1+1", "'@a", "CC-1", ""]
    assert {row[-1] for row in rows} == {"-1.5"}


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "october", "2026-10-01", "", "2026-10/../.."])
@pytest.mark.parametrize(
    "words", [("close",), ("close", "--dry-run"), ("statement", "-o", "x"), ("allocate", "--month")], ids=" ".join
)
def test_what_is_no_month_is_told_without_a_plane(
    words: tuple[str, ...],
    month: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unusable input ends with 2, as `costs show` does."""
    monkeypatch.chdir(tmp_path)
    assert main(["costs", *words, month]) == 2
    assert capsys.readouterr().err.startswith("period_invalid: month: want YYYY-MM")


def test_lines_are_not_written_over_their_statement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "statement", "2026-10", "-o", "x", "--lines", "x"]) == 2
    assert capsys.readouterr().err.startswith("usage: --lines")
