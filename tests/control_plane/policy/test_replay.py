# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions are made again by a candidate as the plane would make them, by the engine found here (G2, I5)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from control_plane.policy import many, private
from control_plane.policy import replay as replays
from control_plane.policy.choice import find_opa
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.impact import Impact, Tally
from control_plane.policy.pdp import Pdp
from control_plane.policy.recorded import Recorded, Spoke
from control_plane.policy.replay import replay
from control_plane.policy.revision import PolicySet, default_folder, read
from tests.control_plane.policy.sample import document

OPA = find_opa(None)
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
SHOTS = (10, 1000, 5000)


def shipped(**changed: str) -> PolicySet:
    """The shipped policies, with texts of data/limits.json replaced."""
    files = read(default_folder())
    text = files["data/limits.json"].decode()
    for old, new in changed.items():
        assert f'"{old}"' in text
        limits = json.loads(text)
        limits["limits"]["default"][old] = json.loads(new)
        text = json.dumps(limits)
    return PolicySet.of({**files, "data/limits.json": text.encode()})


async def recorded(policies: PolicySet, count: int, **changes: Any) -> list[Recorded]:
    """What these policies decide of the sample document with other numbers of shots, or with these changes."""
    found = []
    async with private.opened(policies, OPA) as engine:
        pdp = Pdp(engine, Held(policies))
        for number in range(count):
            shots = SHOTS[number % len(SHOTS)]
            asked = document(**({"job__shots": shots, "job__executions": shots} | changes))
            del asked["limits"]
            made = await pdp.decide(asked, f"{number}", NOW)
            found.append(_row(number, made.allow, made.reasons, policies, msgspec.json.decode(made.input)))
    return found


def _row(number: int, allow: bool, reasons: Sequence[object], by: PolicySet, judged: Mapping[str, object]) -> Recorded:
    return Recorded(
        decision_id=f"{number}",
        job_id=f"job-{number}",
        at="2026-11-20T10:00:00.000Z",
        project="demo",
        allow=allow,
        reasons=tuple(msgspec.convert(reason, Spoke, from_attributes=True) for reason in reasons),
        backends=("aer",) if allow else (),
        policy_revision=by.revision,
        state="COMPLETED" if allow else "DENIED",
        backend="aer",
        held=None,
        charged=None,
        currency="USD",
        gone=None,
        input=dict(judged),
    )


async def impact(rows: Sequence[Recorded], candidate: PolicySet, *known: PolicySet) -> Impact:
    """The report on these rows, given in pages of ten."""

    async def pages() -> AsyncIterator[Sequence[Recorded]]:
        for at in range(0, len(rows), 10):
            yield rows[at : at + 10]

    async def find(revision: str) -> PolicySet | None:
        return next((one for one in known if one.revision == revision), None)

    tally = Tally()
    await replay(tally, pages(), candidate, OPA, find)
    return tally.told(candidate=candidate.revision, in_force=None, since=None, until=None)


async def test_the_revision_itself_flips_nothing_and_another_limit_flips_what_it_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: what made the decisions makes them again; a candidate's own limits are what it judges by."""
    monkeypatch.setattr(replays, "LIST", 4)
    before = shipped(max_shots="1000")
    rows = await recorded(before, 24)
    same = await impact(rows, before, before)
    assert (same.let_in.count, same.kept_out.count, same.unclear.not_reproduced) == (0, 0, 0)
    assert (same.replayed, same.same.allowed, same.same.denied) == (24, 16, 8)
    assert 0 < same.control.checked == same.control.agreed
    wider = await impact(rows, shipped(max_shots="5000"), before)
    assert (wider.let_in.count, wider.kept_out.count, wider.unclear.unchecked) == (8, 0, 0)
    assert [line.name for line in wider.let_in.by_reason] == [rows[2].reasons[0].code]
    narrower = await impact(rows, shipped(max_shots="10"))
    assert (narrower.let_in.count, narrower.kept_out.count, narrower.unclear.unchecked) == (0, 8, 8)


async def test_a_recorded_answer_that_its_revision_does_not_give_is_no_flip() -> None:
    before = shipped(max_shots="1000")
    rows = await recorded(before, 2)
    lied = [msgspec.structs.replace(row, allow=False, reasons=(Spoke("made_up", "hard", "", ""),)) for row in rows]
    report = await impact(lied, before, before)
    assert (report.let_in.count, report.unclear.not_reproduced, report.replayed) == (0, 2, 0)


async def test_what_cannot_be_replayed_is_told_apart() -> None:
    before = shipped()
    (row,) = await recorded(before, 1)
    older = {name: value for name, value in (row.input or {}).items() if name != "usage"}
    rows = [
        row,
        msgspec.structs.replace(row, input=None, gone="erased"),
        msgspec.structs.replace(row, input=older),
    ]
    report = await impact(rows, before, before)
    assert (report.replayed, report.unclear.erased, report.unclear.older_form) == (1, 1, 1)


async def test_lists_answer_as_single_documents_do() -> None:
    """I5: an error of one document, or no answer to it, is its own, and never another's."""
    policies = shipped()
    documents = [msgspec.json.encode(document(job__shots=shots)) for shots in SHOTS]
    broken = b'{"action":"job:submit"}'
    async with many.opened(policies, OPA) as engine:
        alone = [(await engine.evaluate([one]))[0] for one in documents]
        assert await engine.evaluate(documents) == alone
        *good, bad = await engine.evaluate([*documents, broken])
        assert good == alone
        (bad_alone,) = await engine.evaluate([broken])
        assert str(bad) == str(bad_alone)


async def test_a_candidate_that_answers_nothing_soundly_is_refused() -> None:
    before = shipped()
    rows = await recorded(before, 30)
    source = read(default_folder())["qcos/main/decision.rego"].decode()
    assert "decision := " in source
    mute = {**read(default_folder()), "qcos/main/decision.rego": source.replace("decision := ", "other := ").encode()}
    with pytest.raises(PolicyUnavailable, match="none of the first documents"):
        await impact(rows, PolicySet.of(mute))


async def test_a_day_s_shots_are_carried_on_from_each_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wider quota lets in as many as fit, one after the other, and not all that were ever denied."""
    monkeypatch.setattr(replays, "LIST", 4)
    before, wider = shipped(team_shots_per_day='{"*": 1000}'), shipped(team_shots_per_day='{"*": 2000}')
    asked = {"job__shots": 300, "job__executions": 300, "usage__team_shots_today": 1000}
    rows = await recorded(before, 25, **asked)
    assert not any(row.allow for row in rows)
    report = await impact(rows, wider, before)
    assert (report.let_in.count, report.same.denied, report.carried) == (3, 22, 24)
    assert (report.unclear.unsettled, report.unclear.not_reproduced) == (0, 0)


async def test_shots_that_a_flip_leaves_let_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept out uses nothing up: a job that was denied for the quota after it fits then."""
    monkeypatch.setattr(replays, "LIST", 2)
    before = shipped(team_shots_per_day='{"*": 1000}')
    narrower = shipped(team_shots_per_day='{"*": 1000}', max_shots="600")
    (first,) = await recorded(before, 1, job__shots=800, job__executions=800)
    (second,) = await recorded(before, 1, job__shots=300, job__executions=300, usage__team_shots_today=800)
    report = await impact([first, second], narrower, before)
    assert (first.allow, second.allow) == (True, False)
    assert (report.kept_out.count, report.let_in.count) == (1, 1)
    refused = msgspec.structs.replace(first, state="DENIED")  # by its hold: it never counted
    report = await impact([refused, second], narrower, before)
    assert (report.kept_out.count, report.let_in.count) == (1, 0)


async def test_where_rules_and_limits_are_the_same_there_is_nothing_to_decide() -> None:
    before, other = shipped(), shipped(team_shots_per_day='{"*": 10000000000, "green": 5}')
    rows = await recorded(before, 9)
    report = await impact(rows, other, before)
    assert (report.identical, report.replayed, report.same.allowed) == (9, 9, 9)
    assert report.control.checked == report.control.agreed == 1
    whole = await impact(rows, before, before)  # the control decides all of it again
    assert whole.identical == 0
