# SPDX-License-Identifier: Apache-2.0
"""A real OPA: golden answers, its revision, and that the embedded engine says the same of generated
documents.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.policy.decision import OtherRevision, PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.opa import OpaEngine
from control_plane.policy.pdp import Engine, Pdp
from control_plane.policy.revision import default_folder, load
from tests.control_plane.policy.opa_server import needs_opa, opa_server
from tests.control_plane.policy.sample import (
    ALLOWED,
    DENIED,
    document,
    encoded,
    numbers,
    ordered,
    paths,
    replaced,
    without,
)
from tests.control_plane.policy.test_embedded import GOLDEN

pytestmark = needs_opa
POLICIES = load()
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with opa_server(default_folder()) as served:
        yield served


@pytest.fixture
async def opa(url: str) -> AsyncIterator[OpaEngine]:
    engine = OpaEngine(url, limit_s=10)
    yield engine
    await engine.close()


async def test_golden_answers_are_what_opa_says(opa: OpaEngine) -> None:
    for row in GOLDEN:
        assert ordered(await opa.evaluate(POLICIES, encoded(row["input"]))) == row["answer"], row["name"]


async def test_decisions_allow_and_deny_as_named(opa: OpaEngine) -> None:
    """G2's examples, through the PDP."""
    pdp = Pdp(opa, Held(POLICIES))
    await pdp.ready()
    for name, doc in ALLOWED.items():
        assert (await pdp.judge(POLICIES, doc, "d", NOW)).allow, name
    for name, doc in DENIED.items():
        assert not (await pdp.judge(POLICIES, doc, "d", NOW)).allow, name


async def test_opa_is_ready_with_exactly_our_policies(opa: OpaEngine) -> None:
    await opa.ready(POLICIES)
    other = msgspec.structs.replace(POLICIES, modules={**POLICIES.modules, "qcos/x/x.rego": "package qcos.x\n"})
    with pytest.raises(PolicyUnavailable, match="other policies"):
        await opa.ready(other)


async def test_opa_with_one_changed_file_is_not_ready(tmp_path: Path) -> None:
    """I5: what decides is what the revision names."""
    folder = Path(shutil.copytree(default_folder(), tmp_path / "policies"))
    data = folder / "data/vocabulary.json"
    data.write_text(data.read_text().replace('"quantum-user"]', '"quantum-user", "auditor"]'))
    with opa_server(folder) as served:
        engine = OpaEngine(served)
        with pytest.raises(OtherRevision, match="other policies") as caught:
            await engine.ready(POLICIES)
        assert caught.value.found == load(folder).revision
        await engine.close()


WRITES = [
    ("PUT", "/v1/policies/more", b"package qcos.main\n\nimport rego.v1\n\ndecision := {}"),
    ("PUT", "/v1/policies/elsewhere", b"package elsewhere\n\nx := 1"),
    ("PUT", "/v1/data/data/vocabulary/actions/job:submit", b'["auditor"]'),
    ("PUT", "/v1/data/elsewhere", b"1"),
    ("PATCH", "/v1/data", b'[{"op": "add", "path": "/elsewhere", "value": 1}]'),
    ("PATCH", "/v1/data/data", b'[{"op": "remove", "path": "/vocabulary"}]'),
    ("DELETE", "/v1/data/data", None),
    ("PUT", "/v1/data/system/bundles/bundle/manifest/revision", b'"sha256:other"'),
    ("PUT", "/v1/policies/authz", b"package system.authz\n\nallow := true"),
]


async def test_what_reaches_opa_cannot_change_what_it_decides(opa: OpaEngine, url: str) -> None:
    """I5, S6: the bundle owns all paths; every write of policy or data is refused, and the answers stay."""
    row = GOLDEN[0]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=urlsplit(url).path)) as session:
        for method, path, body in WRITES:
            async with session.request(method, f"http://opa{path}", data=body) as answer:
                assert answer.status in {400, 403, 404}, (method, path, await answer.text())
        async with session.get("http://opa/v1/policies") as answer:
            held = [policy["id"] for policy in (await answer.json())["result"]]
        for policy in held:
            async with session.delete(f"http://opa/v1/policies/{quote(policy, safe='')}") as answer:
                assert answer.status in {400, 403, 404}, policy
    await opa.ready(POLICIES)
    assert ordered(await opa.evaluate(POLICIES, encoded(row["input"]))) == row["answer"]


async def test_an_error_in_a_built_in_is_no_dropped_rule(tmp_path: Path) -> None:
    """I5: without strict built-in errors `1 / 0` inside a deny rule is an allow."""
    (tmp_path / "qcos/main").mkdir(parents=True)
    source = "package qcos.main\n\ndeny contains 1 if 1 / input.zero == 1\n\ndecision := count(deny)\n"
    (tmp_path / "qcos/main/decision.rego").write_text(source)
    with opa_server(tmp_path) as served:
        engine, policies = OpaEngine(served), load(tmp_path)
        assert await engine.evaluate(policies, b'{"zero": 1}') == 1
        with pytest.raises(PolicyUnavailable, match="500"):
            await engine.evaluate(policies, b'{"zero": 0}')
        await engine.close()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.sampled_from([2**53, 2**63, 2**64 + 5, "", "a\0b", 'q"\\\n', "*", "ｐ", "İ", "onprem", "project:demo"])
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A named document with up to three values replaced by anything, or lost."""
    doc: dict[str, Any] = draw(st.sampled_from([*ALLOWED.values(), *DENIED.values()]))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in paths(doc) if path]))
        doc = without(doc, path) if draw(st.booleans()) else replaced(doc, path, draw(VALUES))
    return doc


async def said(engine: Engine, doc: dict[str, Any]) -> object:
    try:
        return ordered(await engine.evaluate(POLICIES, encoded(doc)))
    except PolicyUnavailable:
        return "unavailable"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(doc=documents())
async def test_both_engines_say_the_same_of_generated_documents(url: str, doc: dict[str, Any]) -> None:
    """NUL, quotes, 2^63, unicode, lost keys, wrong types: equal answers, or no answer from both."""
    opa, embedded = OpaEngine(url, limit_s=10), shared()
    try:
        assert await said(embedded, doc) == await said(opa, doc)
    finally:
        await opa.close()


NUMBERS = [*range(12), 99, 100, 999, 1_000, 1_001, 9_999, 10_000, 50_000, 99_999, 100_000, 100_001, 1_000_000]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_both_engines_count_alike(url: str, data: st.DataObject) -> None:
    """Numbers whose texts are in another order than they: an engine that takes them for texts allows too much."""
    doc = data.draw(st.sampled_from([*ALLOWED.values(), *DENIED.values()]))
    for path in numbers(doc):
        doc = replaced(doc, path, data.draw(st.sampled_from(NUMBERS)))
    opa, embedded = OpaEngine(url, limit_s=10), shared()
    try:
        assert await said(embedded, doc) == await said(opa, doc)
    finally:
        await opa.close()


_SHARED: list[EmbeddedEngine] = []


def shared() -> EmbeddedEngine:
    """One embedded engine for all examples: its thread belongs to no event loop."""
    if not _SHARED:
        _SHARED.append(EmbeddedEngine(limit_s=10))
    return _SHARED[0]


async def test_strange_texts_come_back_unharmed(opa: OpaEngine) -> None:
    project = 'a"b\\c\n\u2028\U0001f600'
    decision = await Pdp(opa, Held(POLICIES)).decide(document(job__project=project), "d", NOW)
    assert any(project in reason.message for reason in decision.reasons)
