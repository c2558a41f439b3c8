# SPDX-License-Identifier: Apache-2.0
"""The embedded engine answers as OPA did, whatever the texts, from any number of tasks; and its faults are no
allow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.revision import PolicySet, load
from tests.control_plane.policy.sample import ALLOWED, DENIED, document, encoded, ordered

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors/policy/golden.json").read_text("utf-8"))
POLICIES = load()


@pytest.fixture
async def engine() -> AsyncIterator[EmbeddedEngine]:
    made = EmbeddedEngine()
    yield made
    await made.close()


def with_module(source: str) -> PolicySet:
    """The policies with another decision."""
    modules = {"qcos/main/decision.rego": f"package qcos.main\n\n{source}\n"}
    return msgspec.structs.replace(POLICIES, modules=modules, revision=source)


def test_the_golden_answers_are_of_the_documents_that_are_tested() -> None:
    assert {row["name"]: row["input"] for row in GOLDEN} == {**ALLOWED, **DENIED}


async def test_golden_answers_of_opa_are_given_by_the_embedded_engine(engine: EmbeddedEngine) -> None:
    for row in GOLDEN:
        assert ordered(await engine.evaluate(POLICIES, encoded(row["input"]))) == row["answer"], row["name"]


async def test_answers_to_many_tasks_at_once_are_those_given_one_by_one() -> None:
    """A shared interpreter gave 36 wrong decisions in 6,000: here one thread owns it."""
    engine = EmbeddedEngine(limit_s=120)  # they wait for one another, on a busy machine too
    asked = [row for row in GOLDEN for _ in range(4)]
    try:
        answers = await asyncio.gather(*(engine.evaluate(POLICIES, encoded(row["input"])) for row in asked))
    finally:
        await engine.close()
    for row, answer in zip(asked, answers, strict=True):
        assert ordered(answer) == row["answer"], row["name"]


async def test_a_role_with_a_nul_in_it_is_no_role(engine: EmbeddedEngine) -> None:
    """C ends a text at NUL: `quantum-engineer\\0evil` once matched `quantum-engineer`."""
    answer: Any = await engine.evaluate(POLICIES, encoded(document(principal__roles=["quantum-engineer\0evil"])))
    assert [reason["code"] for reason in answer["reasons"]] == ["role_required"]


async def test_a_number_beyond_64_bits_does_not_wrap(engine: EmbeddedEngine) -> None:
    """2^64 + 5 must not be 5."""
    answer: Any = await engine.evaluate(POLICIES, encoded(document(job__shots=2**64 + 5)))
    assert "constraints.shots_exceeded" in {reason["rule"] for reason in answer["reasons"]}


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a": NaN}', b'{"a": 1.5}', b'{"a":\x00}', b"\xff", b"[" * 100_000])
async def test_input_that_is_no_document_is_unavailable(engine: EmbeddedEngine, raw: bytes) -> None:
    """I5."""
    with pytest.raises(PolicyUnavailable):
        await engine.evaluate(POLICIES, raw)


@pytest.mark.parametrize(
    "rule",
    [
        'decision := {"checks": count(input.nothing)} if input.never',
        "decision := 1 if input.never",
        "other := 1",
        "decision := count(5)",
        "decision := floor(input.action)",
        "decision := 1 / 0",
        "decision := 1 if true\n\ndecision := 2 if true",
    ],
    ids=["undefined", "no value", "no rule", "bad argument", "bad type", "division", "conflict"],
)
async def test_an_undefined_or_failing_rule_is_unavailable(rule: str) -> None:
    """I5: regopy calls some of these ok."""
    engine = EmbeddedEngine()
    with pytest.raises(PolicyUnavailable):
        await engine.evaluate(with_module(rule), encoded(document()))
    await engine.close()


async def test_policies_that_do_not_parse_are_never_ready() -> None:
    engine = EmbeddedEngine()
    with pytest.raises(PolicyUnavailable, match="compile"):
        await engine.ready(with_module("decision := [k | some k in]"))
    await engine.close()


@pytest.mark.parametrize(
    "call",
    [
        "http.send({})",
        "sprintf(`%s`, [1])",
        "time.now_ns()",
        "net.cidr_contains(`a`, `b`)",
        "nothing_such(1)",
    ],
)
async def test_a_built_in_that_is_not_listed_refuses_the_load(engine: EmbeddedEngine, call: str) -> None:
    """I5: a missing one would be undefined, and drop the rule that calls it."""
    with pytest.raises(PolicyUnavailable, match=r"decision.rego:3: dialect: main.decision: "):
        await engine.ready(with_module(f"decision := {call}"))


async def test_an_error_leaves_the_next_answer_right(engine: EmbeddedEngine) -> None:
    with pytest.raises(PolicyUnavailable):
        await engine.evaluate(POLICIES, b"null")
    row = GOLDEN[0]
    assert ordered(await engine.evaluate(POLICIES, encoded(row["input"]))) == row["answer"]


async def test_a_closed_engine_is_unavailable(engine: EmbeddedEngine) -> None:
    await engine.close()
    with pytest.raises(PolicyUnavailable):
        await engine.evaluate(POLICIES, encoded(document()))
    with pytest.raises(PolicyUnavailable):
        await engine.ready(POLICIES)


async def test_an_answer_past_the_limit_is_none() -> None:
    """I5: no decision is waited for without end."""
    engine = EmbeddedEngine(limit_s=0.0)
    with pytest.raises(PolicyUnavailable, match="longer"):
        await engine.evaluate(POLICIES, encoded(document()))
    await engine.close()


async def test_it_answers_by_the_policies_that_are_asked_for(engine: EmbeddedEngine) -> None:
    """G2: around a push two sets are asked for, and neither answers for the other."""
    for _ in range(2):
        for number in range(5):
            assert await engine.evaluate(with_module(f"decision := {number}"), b"{}") == number
