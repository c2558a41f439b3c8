# SPDX-License-Identifier: Apache-2.0
"""G13, I7: every cell of `qcos access matrix` is what a running plane answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from control_plane.app import routes
from control_plane.auth.matrix import CALLERS, Cell, cells, rights, rules
from control_plane.policy.revision import load
from tests.e2e.plane import Answer
from tests.tenants.samples import SAMPLES, Sample, sample_of
from tests.tenants.world import NOBODY, World, world

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
RULES = rules(routes())
RIGHTS = rights(load().files)
HOW = "tests/tenants/samples.py says how each route is asked: add a Sample for it"


@pytest.fixture(scope="module")
def filled() -> Iterator[World]:
    with world() as made:
        yield made


def test_each_route_can_be_tried() -> None:
    """A route that nobody can try is one whose walls nobody has seen."""
    known = {f"{rule.method} {rule.path}" for rule in RULES}
    assert not [f"{rule.method} {rule.path}" for rule in RULES if sample_of(rule.method, rule.path) is None], HOW
    assert not SAMPLES.keys() - known, "samples of routes that aren't there"
    names = {name for rule in RULES for name in re.findall(r"{(\w+)}", rule.path) if rule.owner is not None}
    assert not names - NOBODY.keys() - {"name"}, (
        "tests/tenants/world.py: NOBODY and `fill` need an id of this parameter"
    )


@pytest.mark.tenants
@pytest.mark.timeout(600)
def test_every_cell_is_what_the_plane_answers(filled: World) -> None:
    """G13, I7: each route, role and relation; the list of differences is empty."""
    wrong = []
    for cell in cells(RULES, RIGHTS):
        sample = sample_of(cell.method, cell.path)
        assert sample is not None, HOW
        answer = ask(filled, cell, sample)
        if (got := (answer.status, code(answer))) != (want := wanted(cell, sample)):
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


def code(answer: Answer) -> str | None:
    """The code of a problem; None for an answer without one."""
    problem = answer.body and answer.headers.get("content-type") == "application/problem+json"
    return str(json.loads(answer.body)["code"]) if problem else None


def ask(world_: World, cell: Cell, sample: Sample) -> Answer:
    """Put a cell's question to the plane."""
    caller = next(one for one in CALLERS if (one.role, one.held) == (cell.role, cell.held))

    def named(match: re.Match[str]) -> str:
        if cell.answer == "allowed" and match.group(1) in sample.fresh:
            return sample.fresh[match.group(1)](world_)
        return world_.id_of(match.group(1), cell.relation)

    path = re.sub(r"{(\w+)}", named, cell.path) + sample.query
    method, headers = cell.method, dict(sample.headers)
    if method == "WEBSOCKET":
        method, headers = "GET", headers | HANDSHAKE
    body = None if sample.body is None else json.dumps(sample.body(world_, cell.relation)).encode()
    return world_.send(method, path, body, world_.caller(caller), headers)


def test_the_matrix_has_each_route_caller_and_relation_once() -> None:
    found = list(cells(RULES, RIGHTS))
    assert len({(one.method, one.path, one.role, one.held, one.relation) for one in found}) == len(found)
    grouped = itertools.groupby(found, lambda one: (one.method, one.path, one.relation))
    assert all(len(list(group)) == len(CALLERS) for _, group in grouped)
    assert {(one.method, one.path) for one in found} == {(rule.method, rule.path) for rule in RULES}
