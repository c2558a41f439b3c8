# SPDX-License-Identifier: Apache-2.0
"""I5: whatever an engine says, the PDP answers with a sound decision or with `policy_unavailable`, never by
accident.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.policy.decision import CHECKS, REQUIRED, OtherRevision, PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, load
from ledger import canonical
from tests.control_plane.policy.sample import approval, document

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POLICIES = load()
QUOTA = CHECKS.index("quota")
PASSING: dict[str, Any] = {
    "checks": [{"name": name, "pass": True, "because": "it fits", "rule": f"{name}.allow"} for name in CHECKS],
    "reasons": [],
    "backends": ["aer"],
    "nodes": [],
    "obligations": [],
}
REASON = {
    "code": "quota_exceeded",
    "level": "hard",
    "message": "quota: too much",
    "rule": "quota.quota_exceeded",
    "want": "less",
    "have": "more",
    "fix": "ask for less",
}


class Says:
    """An engine that gives one answer."""

    name = "fake"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        return self.answer

    async def ready(self, policies: PolicySet) -> None:
        return None

    async def close(self) -> None:
        return None


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    answer = copy.deepcopy(PASSING)
    change(answer)
    return answer


def failing() -> dict[str, Any]:
    return changed(lambda a: (a["checks"][QUOTA].update({"pass": False}), a["reasons"].append(dict(REASON))))


async def test_all_checks_passed_is_an_allow_that_names_all_it_rests_on() -> None:
    decision = await Pdp(Says(PASSING), Held(POLICIES)).decide(document(), "d-1", NOW)
    assert decision.allow
    assert decision.backends == ("aer",)
    assert [check.name for check in decision.checks] == list(CHECKS)
    assert decision.checks[0].rule.startswith("access/roles.rego:")
    assert decision.policies_applied[3] == "classification-enforcement"
    assert decision.policy_revision == POLICIES.revision
    assert decision.input == canonical.dumps(document(limits=POLICIES.limits("demo", "blue", None)))
    assert decision.input_hash == "sha256:" + hashlib.sha256(decision.input).hexdigest()
    assert (decision.id, decision.decided_at, decision.engine) == ("d-1", NOW, "fake")


async def test_a_denial_explains_itself_and_allows_no_backend() -> None:
    decision = await Pdp(Says(failing()), Held(POLICIES)).decide(document(), "d-1", NOW)
    assert not decision.allow
    assert decision.backends == ()
    assert decision.reasons[0].fix == "ask for less"
    assert decision.reasons[0].rule == POLICIES.rules["quota.quota_exceeded"]
    assert [(c.name, c.because) for c in decision.checks if c.result == "fail"] == [("quota", "quota: too much")]


ADVICE = REASON | {"level": "advisory"}


async def test_advice_is_shown_and_denies_nothing() -> None:
    """Beside a passed check; beside a failed one it is no reason for that."""
    advised = changed(lambda a: a["reasons"].append(dict(ADVICE)))
    decision = await Pdp(Says(advised), Held(POLICIES)).decide(document(), "d-1", NOW)
    assert decision.allow
    assert [(reason.level, reason.denies) for reason in decision.reasons] == [("advisory", False)]
    alone = changed(lambda a: (a["checks"][QUOTA].update({"pass": False}), a["reasons"].append(dict(ADVICE))))
    with pytest.raises(PolicyUnavailable, match="checks failed"):
        await Pdp(Says(alone), Held(POLICIES)).decide(document(), "d-1", NOW)


async def test_a_soft_reason_denies_and_may_be_overridden_where_a_backend_is_left() -> None:
    soft = changed(
        lambda a: (a["checks"][QUOTA].update({"pass": False}), a["reasons"].append({**REASON, "level": "soft"}))
    )
    decision = await Pdp(Says(soft), Held(POLICIES)).decide(document(), "d-1", NOW)
    assert not decision.allow
    assert (decision.overridable, decision.backends) == (True, ("aer",))
    for hard in (soft | {"backends": []}, soft | {"reasons": [*soft["reasons"], {**REASON, "message": "another"}]}):
        decision = await Pdp(Says(hard), Held(POLICIES)).decide(document(), "d-1", NOW)
        assert (decision.allow, decision.overridable, decision.backends) == (False, False, ())


async def test_an_approval_has_checks_of_its_own_and_needs_no_backend() -> None:
    """Those of a job don't do for it, nor its own for a job."""
    own = [{"name": name, "pass": True, "because": "so", "rule": f"{name}.allow"} for name in REQUIRED["job:approve"]]
    answer = {**PASSING, "checks": own, "backends": []}
    decision = await Pdp(Says(answer), Held(POLICIES)).decide(approval(), "d-1", NOW)
    assert decision.allow
    assert decision.policies_applied == ("access-check", "separation-of-duties")
    for said, doc in ((PASSING, approval()), (answer, document())):
        with pytest.raises(PolicyUnavailable, match="required are"):
            await Pdp(Says(said), Held(POLICIES)).decide(doc, "d-1", NOW)


ODD: dict[str, object] = {
    "undefined": None,
    "true": True,
    "a bare allow": {"allow": True},
    "no checks": changed(lambda a: a["checks"].clear()),
    "a check lost": changed(lambda a: a["checks"].pop()),
    "a check twice": changed(lambda a: a["checks"].append(a["checks"][0])),
    "a check twice for another": changed(lambda a: a["checks"].__setitem__(1, a["checks"][0])),
    "a check that is not required": changed(lambda a: a["checks"].append({**a["checks"][0], "name": "mood"})),
    "pass is 1": changed(lambda a: a["checks"][0].update({"pass": 1})),
    "pass is a text": changed(lambda a: a["checks"][0].update({"pass": "true"})),
    "pass is lost": changed(lambda a: a["checks"][0].pop("pass")),
    "pass is null": changed(lambda a: a["checks"][0].update({"pass": None})),
    "failed without reason": changed(lambda a: a["checks"][0].update({"pass": False})),
    "reason against a passed check": changed(lambda a: a["reasons"].append(dict(REASON))),
    "reason of an unknown rule": changed(
        lambda a: (
            a["checks"][QUOTA].update({"pass": False}),
            a["reasons"].append({**REASON, "rule": "quota.mood"}),
        )
    ),
    "reason of an unknown level": changed(
        lambda a: (
            a["checks"][QUOTA].update({"pass": False}),
            a["reasons"].append({**REASON, "level": "none"}),
        )
    ),
    "reason without code": changed(
        lambda a: (
            a["checks"][QUOTA].update({"pass": False}),
            a["reasons"].append({k: v for k, v in REASON.items() if k != "code"}),
        )
    ),
    "no backend left": changed(lambda a: a["backends"].clear()),
    "a backend that was not offered": changed(lambda a: a["backends"].append("other")),
    "a backend twice": changed(lambda a: a["backends"].append("aer")),
    "a node that was not offered": changed(lambda a: a["nodes"].append("n")),
    "nodes lost": changed(lambda a: a.pop("nodes")),
    "an obligation": changed(lambda a: a["obligations"].append("ask again")),
    "a key too many": changed(lambda a: a.update({"allow": True})),
    "a key lost": changed(lambda a: a.pop("obligations")),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
async def test_an_odd_answer_is_no_answer(answer: object) -> None:
    """I5."""
    with pytest.raises(PolicyUnavailable) as caught:
        await Pdp(Says(answer), Held(POLICIES)).decide(document(), "d-1", NOW)
    assert caught.value.code == "policy_unavailable"


async def test_a_required_check_that_no_package_answers_is_unavailable() -> None:
    """I5: requiring more than the policies answer can't be met."""
    with pytest.raises(PolicyUnavailable, match="required are"):
        await Pdp(Says(PASSING), Held(POLICIES), demanded=(*CHECKS, "export")).decide(document(), "d-1", NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(part=st.sampled_from(["checks", "reasons", "backends", "nodes", "obligations"]), value=JSON)
async def test_no_generated_answer_is_an_allow(part: str, value: object) -> None:
    """I5: an answer with one part replaced by anything else allows nothing."""
    answer = {**PASSING, part: value}
    if answer == PASSING:
        return
    with pytest.raises(PolicyUnavailable):
        await Pdp(Says(answer), Held(POLICIES)).decide(document(), "d-1", NOW)


@pytest.mark.parametrize(
    "doc",
    [
        {},
        {**document(), "mood": 1},
        document(job__shots="1000"),
        document(job__shots=-1),
        document(job__shots=1.5),
        document(job__shots=2**63),
        document(principal__name="\ud800"),
        document(backends__0__sovereign=None),
    ],
    ids=["empty", "extra", "text", "negative", "fraction", "2^63", "surrogate", "null"],
)
async def test_an_unsound_document_never_reaches_an_engine(doc: dict[str, Any]) -> None:
    """I5: also what a caller in this process hands in is checked."""
    with pytest.raises(PolicyUnavailable):
        await Pdp(Says(PASSING), Held(POLICIES)).decide(doc, "d-1", NOW)


def other(shots: int) -> PolicySet:
    """The shipped policies with another limit of shots."""
    limits = json.loads(POLICIES.files["data/limits.json"])
    limits["limits"]["default"]["max_shots"] = shots
    return PolicySet.of({**POLICIES.files, "data/limits.json": json.dumps(limits).encode()})


class Serves(Says):
    """An engine that has one set, whichever is asked for."""

    def __init__(self, has: PolicySet) -> None:
        super().__init__(PASSING)
        self.has = has
        self.judged: list[bytes] = []

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        if policies.revision != self.has.revision:
            raise OtherRevision(self.has.revision, policies.revision)
        self.judged.append(input_json)
        return self.answer


async def test_an_engine_behind_decides_by_what_it_has_with_the_limits_of_that() -> None:
    """G2: OPA hears of a push later than a process does; document and revision belong together all the same."""
    pushed = other(7)
    held = Held(POLICIES)
    held.take(pushed)
    decision = await Pdp(engine := Serves(POLICIES), held).decide(document(), "d-1", NOW)
    assert decision.policy_revision == POLICIES.revision
    assert json.loads(decision.input)["limits"]["max_shots"] == POLICIES.data["limits"]["default"]["max_shots"]
    engine.has = pushed
    decision = await Pdp(engine, held).decide(document(), "d-2", NOW)
    assert decision.policy_revision == pushed.revision
    assert json.loads(decision.input)["limits"]["max_shots"] == 7
    assert [decision.input] == engine.judged[1:]


async def test_an_engine_ahead_is_believed_once_its_revision_was_learnt() -> None:
    """G2: OPA hears of a push before a process does, which looks it up; what it can't find, no engine may answer by."""
    pushed, asked = other(7), []

    held = Held(POLICIES)

    async def learn(revision: str) -> None:
        asked.append(revision)
        if revision == pushed.revision:
            held.take(pushed)

    held.ask(learn)
    decision = await Pdp(Serves(pushed), held).decide(document(), "d-1", NOW)
    assert (decision.policy_revision, asked) == (pushed.revision, [pushed.revision])
    assert held.current is pushed
    with pytest.raises(PolicyUnavailable, match="other policies"):
        await Pdp(Serves(other(8)), held).decide(document(), "d-2", NOW)


async def test_the_last_good_policies_decide_for_so_long_and_no_longer() -> None:
    """I5: an engine that never takes up a push may not go on for ever."""
    now = [0.0]
    held = Held(POLICIES, max_age_s=60, clock=lambda: now[0])
    held.take(other(7))
    held.take(other(8))
    now[0] = 59.9
    assert (await held.by(POLICIES.revision)).revision == POLICIES.revision
    now[0] = 60.0
    with pytest.raises(PolicyUnavailable, match="other policies"):
        await held.by(POLICIES.revision)
    held.take(POLICIES)
    assert (await held.by(POLICIES.revision)) is held.current


async def test_an_engine_that_never_settles_is_no_engine() -> None:
    """I5: following it from one revision to the next has an end."""
    sets = [POLICIES, other(7)]
    held = Held(POLICIES)
    held.take(sets[1])

    class Flips(Serves):
        async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
            raise OtherRevision(next(one.revision for one in sets if one.revision != policies.revision), "x")

    with pytest.raises(PolicyUnavailable, match="faster"):
        await Pdp(Flips(POLICIES), held).decide(document(), "d-1", NOW)


def test_limits_of_another_shape_are_no_limits() -> None:
    """I5: a push with broken data would be unavailable, never unlimited."""
    broken = PolicySet.of({**POLICIES.files, "data/limits.json": b'{"limits": {"default": {}, "projects": []}}'})
    with pytest.raises(PolicyUnavailable, match=r"limits\.json"):
        broken.limits("demo", None, None)
