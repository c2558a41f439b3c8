# SPDX-License-Identifier: Apache-2.0
"""Both engines say the same of every built-in of the dialect, whatever its arguments: OPA's answers are committed, so
that the embedded engine is held to them where no OPA is; where one is, generated arguments go to both (G2, I5).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from control_plane.policy import dialect, private
from control_plane.policy.builtins import BUILTINS
from control_plane.policy.embedded import EmbeddedEngine
from tests.control_plane.policy.opa_server import OPA, needs_opa
from tests.control_plane.policy.parity import CASES, POLICIES, said

GOLDEN: dict[str, list[Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors/policy/builtins.json").read_text("utf-8")
)
Ask = Callable[[str, list[Any]], Any]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Ask, Ask]]:
    """Ask OPA, ask the embedded engine."""
    with asyncio.Runner() as runner:
        opa = private.opened(POLICIES, OPA)
        engine = runner.run(opa.__aenter__())
        embedded = EmbeddedEngine()
        yield (
            lambda name, arguments: runner.run(said(engine, name, arguments)),
            lambda name, arguments: runner.run(said(embedded, name, arguments)),
        )
        runner.run(embedded.close())
        runner.run(opa.__aexit__(None, None, None))


def test_each_built_in_has_its_case_and_its_golden_answers() -> None:
    assert set(BUILTINS) <= set(CASES)
    assert set(GOLDEN) == set(CASES)
    assert dialect.check(POLICIES.modules, {}) == ()


async def test_the_embedded_engine_gives_the_golden_answers() -> None:
    engine = EmbeddedEngine(limit_s=60)
    try:
        for name, rows in GOLDEN.items():
            for arguments, answer in rows:
                assert await said(engine, name, arguments) == answer, (name, arguments)
    finally:
        await engine.close()


@needs_opa
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, deadline=None, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**64))
def test_engines_agree(both: tuple[Ask, Ask], name: str, seed: int) -> None:
    arguments = CASES[name].arguments(Random(seed))
    opa, embedded = both
    assert embedded(name, arguments) == opa(name, arguments)
