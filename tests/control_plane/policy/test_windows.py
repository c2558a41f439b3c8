# SPDX-License-Identifier: Apache-2.0
"""What a day's shots let expect of a replayed decision is a guess of what to ask, and changes no answer (G2)."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.policy import replay as replays
from control_plane.policy.windows import likely
from tests.control_plane.policy.sample import document
from tests.control_plane.policy.test_replay import impact, recorded, shipped

QUOTA = ("quota_exceeded",)


@pytest.mark.parametrize(
    ("used", "more", "counted", "codes", "expected"),
    [
        (0, 0, True, (), 0),
        (9_500, 0, True, (), -1),
        (9_000, 1, True, (), -1),
        (9_500, -500, False, QUOTA, 1),
        (9_500, 0, False, QUOTA, 0),
        (0, 0, False, (*QUOTA, "zone_required"), 0),
        (0, 0, False, (), 0),
    ],
)
def test_a_flip_is_expected_where_the_shots_decide(
    used: int, more: int, codes: tuple[str, ...], expected: int, *, counted: bool
) -> None:
    asked = document(job__shots=1000, job__executions=1000, usage__team_shots_today=used)
    asked["limits"]["team"]["shots_per_day"] = 10_000
    assert likely(asked, (more, 0), counted=counted, codes=codes) == expected


async def test_expecting_spares_asking_again_and_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "LIST", 4)
    before, wider = shipped(team_shots_per_day='{"*": 1000}'), shipped(team_shots_per_day='{"*": 2000}')
    rows = await recorded(before, 25, job__shots=300, job__executions=300, usage__team_shots_today=1000)
    asked = []
    answer = replays._Asking.answer

    async def counted(self: replays._Asking, said: list[replays._Said]) -> None:
        asked.append(len(said))
        await answer(self, said)

    monkeypatch.setattr(replays._Asking, "answer", counted)
    expected = await impact(rows, wider, before)
    assert sum(asked) == len(rows)  # each once
    monkeypatch.setattr(replays, "likely", lambda *_, **__: 0)
    found = await impact(rows, wider, before)
    assert msgspec.structs.replace(found, control=expected.control) == expected  # more was made again on the way
    assert sum(asked) > 2 * len(rows)
