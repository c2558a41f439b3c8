# SPDX-License-Identifier: Apache-2.0
"""I5 in the rules themselves: no lost key and no value of another type turns a denial into an allow.

Judged on the raw answer, before the PDP's own reading of the document, which would refuse most of these
anyway. A change that yields another valid document is not meant here: null is a value where the schema says
so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.document import Document
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.revision import load
from tests.control_plane.policy.sample import ALLOWED, DENIED, encoded, paths, replaced, without

POLICIES = load()
OTHER_TYPES: tuple[Any, ...] = (None, True, -1, 2**53, "", "*", [], ["*"], {}, {"*": 10**9})


@pytest.fixture
async def engine() -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine(limit_s=30)
    yield made
    await made.close()


async def allowed(engine: EmbeddedEngine, doc: dict[str, Any]) -> bool:
    try:
        answer: Any = await engine.evaluate(POLICIES, encoded(doc))
    except PolicyUnavailable:
        return False
    against = [reason for reason in answer["reasons"] if reason["level"] != "advisory"]
    return all(check["pass"] is True for check in answer["checks"]) and not against and bool(answer["backends"])


def is_valid(doc: dict[str, Any]) -> bool:
    try:
        msgspec.convert(doc, Document)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", DENIED)
async def test_no_lost_key_turns_a_denial_into_an_allow(engine: EmbeddedEngine, name: str) -> None:
    """I5: a quarter of the keys in turn, so that four denials together lose them all."""
    keys = [path for path in paths(DENIED[name]) if path and isinstance(path[-1], str)]
    for path in keys[list(DENIED).index(name) % 4 :: 4]:
        assert not await allowed(engine, without(DENIED[name], path)), path


@pytest.mark.parametrize("name", DENIED)
async def test_no_value_of_another_type_turns_a_denial_into_an_allow(engine: EmbeddedEngine, name: str) -> None:
    """I5: each place gets some of the types in turn, so that all denials together try them all."""
    turn = list(DENIED).index(name)
    for number, path in enumerate([path for path in paths(DENIED[name]) if path][turn % 8 :: 8]):
        value = OTHER_TYPES[(turn + number) % len(OTHER_TYPES)]
        doc = replaced(DENIED[name], path, value)
        if not is_valid(doc):
            assert not await allowed(engine, doc), (path, value)


NO_NUMBERS: tuple[Any, ...] = (None, "many", [])
NUMBERS = (
    ("job", "qubits"),
    ("job", "shots"),
    ("job", "executions"),
    ("usage", "team_shots_today"),
    ("usage", "project_shots_today"),
    ("usage", "running_jobs"),
    ("usage", "team_running_jobs"),
    ("limits", "max_qubits"),
    ("limits", "max_shots"),
    ("limits", "max_depth"),
    ("limits", "max_running_jobs"),
    ("limits", "project_shots_per_day"),
    ("limits", "team", "max_qubits"),
    ("limits", "team", "max_depth"),
    ("limits", "team", "shots_per_day"),
    ("limits", "team", "running_jobs"),
    ("price", "micros"),
    ("budgets", 0, "available_micros"),
    ("backends", 0, "qubits"),
)


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
async def test_no_number_of_another_type_is_allowed(engine: EmbeddedEngine, path: tuple[str | int, ...]) -> None:
    """I5: engines order values of different types differently, so a rule that only compares would let some pass."""
    sample = next(iter(ALLOWED.values()))
    for value in NO_NUMBERS:
        assert not await allowed(engine, replaced(sample, path, value)), value


async def test_the_named_documents_are_allowed_and_denied(engine: EmbeddedEngine) -> None:
    for name, doc in ALLOWED.items():
        assert is_valid(doc) and await allowed(engine, doc), name
    for name, doc in DENIED.items():
        assert is_valid(doc) and not await allowed(engine, doc), name
