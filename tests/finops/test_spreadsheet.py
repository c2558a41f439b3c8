# SPDX-License-Identifier: Apache-2.0
"""What a provider wrote is computed by no spreadsheet (G7)."""

from __future__ import annotations

import csv
import io

import pytest

from finops.spreadsheet import cell, written


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1", '=HYPERLINK("x")', "-", "%x"]
)
def test_a_formula_becomes_text(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-1.45", "+2", "0.30", "arn:aws:task/1", "", "a=b"])
def test_numbers_and_words_stay_as_they_are(text: str) -> None:
    assert cell(text) == text


def test_a_file_is_read_back_as_it_was_written() -> None:
    rows = list(csv.reader(io.StringIO(written(("a", "b"), [("=x", None), ('q"\n', "-1")]), newline="")))
    assert rows == [["a", "b"], ["'=x", ""], ['q"\n', "-1"]]
