# SPDX-License-Identifier: Apache-2.0
"""docs/threat-model.md: each wall of identity and tenants names its place and a test that tries to get over it."""

from __future__ import annotations

import re

import pytest

from tests.docs.test_traceability import ROOT, functions_of, named

PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("<!-- identity-walls -->\n")[2].partition("<!-- /identity-walls -->")[0]
ROWS = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in TABLE.splitlines()[2:]]


def test_the_table_is_there() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_wall_stands_somewhere_and_has_its_test(row: list[str]) -> None:
    """G13, I7: a path that is gone, or a test that isn't there, fails here and not in front of a reader."""
    _, wall, tests = row
    places = named(wall)
    assert places
    assert not [place for place in places if not (ROOT / place).exists()]
    assert named(tests)
    for test in named(tests):
        file, _, function = test.partition("::")
        assert function in functions_of(ROOT / file), test
    assert re.fullmatch(r"(`[^`]+`\s*)+", tests), "tests alone stand in the last column"
