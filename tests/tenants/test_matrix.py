# SPDX-License-Identifier: Apache-2.0
"""G13, I7: every cell of `qcos access matrix` is what a running plane answers."""

from __future__ import annotations

import itertools

import pytest

from control_plane.auth.matrix import CALLERS, Cell, cells, rights
from control_plane.policy.revision import load
from tests.tenants.asking import RULES, ask, code, how
from tests.tenants.samples import Sample
from tests.tenants.world import World

RIGHTS = rights(load().files)


@pytest.mark.tenants
@pytest.mark.timeout(600)
def test_every_cell_is_what_the_plane_answers(filled: World) -> None:
    """G13, I7: each route, role and relation; the list of differences is empty."""
    wrong = []
    for cell in cells(RULES, RIGHTS):
        caller = next(one for one in CALLERS if (one.role, one.held) == (cell.role, cell.held))
        fresh = cell.answer == "allowed"
        answer = ask(filled, cell.method, cell.path, cell.relation, filled.caller(caller), fresh=fresh)
        if (got := (answer.status, code(answer))) != (want := wanted(cell, how(cell.method, cell.path))):
            wrong.append(f"{cell}: {got}, wanted {want}: {answer.body[:300]!r}")
    assert not wrong, "\n".join(wrong)


def wanted(cell: Cell, sample: Sample) -> tuple[int, str | None]:
    """Status and code that the matrix promises; where nothing keeps the caller out, what the sample leads to."""
    status, problem = cell.status, cell.code
    if cell.answer in ("public", "allowed"):
        status, problem = sample.good or (status, problem)
    elif problem == "policy_denied":
        status, problem = sample.denied or (status, problem)
    return (status, None if cell.method == "HEAD" else problem)


def test_the_matrix_has_each_route_caller_and_relation_once() -> None:
    found = list(cells(RULES, RIGHTS))
    assert len({(one.method, one.path, one.role, one.held, one.relation) for one in found}) == len(found)
    grouped = itertools.groupby(found, lambda one: (one.method, one.path, one.relation))
    assert all(len(list(group)) == len(CALLERS) for _, group in grouped)
    assert {(one.method, one.path) for one in found} == {(rule.method, rule.path) for rule in RULES}
