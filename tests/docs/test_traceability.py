# SPDX-License-Identifier: Apache-2.0
"""Every requirement has a row that says where it is built and which tests hold it, or that it isn't built."""

import ast
import difflib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IDS = {f"{set_}{n}" for set_, last in (("G", 15), ("N", 18), ("S", 9), ("I", 10)) for n in range(1, last + 1)}
NOT_BUILT = "not built"


def rows(page: str) -> list[list[str]]:
    """The cells of each row of a page that begins with an id."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if re.fullmatch(r"[GNSI]\d+", row[0])]


TRACED = {row[0]: row[1:] for row in rows("traceability.md")}


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The test functions of a file, methods of classes included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def named(cell: str) -> list[str]:
    """What a cell names in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def candidates(id_: str) -> str:
    """Tests whose text names the id: what a missing row could point to."""
    found = [
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and re.search(rf"\b{id_}\b", ast.get_docstring(node) or "")
    ]
    return "\n  ".join([f"tests that name {id_}:", *found]) if found else f"no test names {id_} yet"


@pytest.mark.parametrize("page", ["requirements.md", "traceability.md"])
def test_each_page_has_each_id_once(page: str) -> None:
    """The ids are G1–G15, N1–N18, S1–S9 and I1–I10."""
    ids = [row[0] for row in rows(page)]
    assert len(ids) == len(set(ids)), f"{page} has an id twice"
    assert set(ids) == IDS, f"{page} lacks {sorted(IDS - set(ids))}, has too many: {sorted(set(ids) - IDS)}"


def test_each_requirement_is_said_in_words() -> None:
    """An id without a sentence says nothing."""
    assert [row[0] for row in rows("requirements.md") if len(row) != 2 or len(row[1]) < 30] == []


@pytest.mark.parametrize("id_", sorted(IDS))
def test_a_row_is_not_built_or_names_code_and_tests(id_: str) -> None:
    """Nothing between: no code without a test, and no claim beside `not built`."""
    assert len(TRACED.get(id_, ())) == 3, f"{id_}: want the cells code, test, still missing\n{candidates(id_)}"
    code, tests, missing = TRACED[id_]
    if code == NOT_BUILT:
        assert (tests, missing) == ("", ""), f"{id_} is not built, so it names nothing else"
        return
    assert named(code), f"{id_} names no code; write `not built` or paths in backquotes"
    assert named(tests), f"{id_} names no test\n{candidates(id_)}"


@pytest.mark.parametrize("id_", sorted(IDS))
def test_what_a_row_names_exists(id_: str) -> None:
    """A moved file or a renamed test is found here, with what it may be called now."""
    code, tests = TRACED[id_][:2]
    for path in named(code):
        assert (ROOT / path).exists(), f"{id_}: there is no {path}"
        assert not path.startswith("tests/"), f"{id_}: {path} is a test, not the code"
    for test in named(tests):
        path, _, function = test.partition("::")
        assert (ROOT / path).is_file(), f"{id_}: there is no {path}"
        there = functions_of(ROOT / path)
        near = difflib.get_close_matches(function, there, 3, 0)
        assert function in there, f"{id_}: {path} has no {function}; the nearest are {near}"
