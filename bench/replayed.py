# SPDX-License-Identifier: Apache-2.0
"""Part of `make bench-policy`: recorded decisions replayed with a candidate, and a push until it is in force.

The documents are that of an ordinary job, of many people, projects and numbers of shots, some denied. What the shipped
policies answer is recorded first; then the candidate is asked, by the code of `qcos policy impact`, for another rule
(each decision is made again) and for another quota (what it can't change isn't). Reading from a plane is not in it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.plane import Plane
from bench.record import Figures, table
from bench.spread import in_ms
from control_plane.policy import many
from control_plane.policy.impact import Tally
from control_plane.policy.recorded import Recorded, Spoke
from control_plane.policy.replay import LIST, replay
from control_plane.policy.revision import PolicySet, default_folder, load, read

PAGE = 1000
SHOTS = (200, 500, 1000, 4000, 20_000)
PROJECTS = ("demo", "materials", "chemistry", "optics")
PEOPLE = 40
QUOTA = 2_000_000
PUSHES = 5


def rows(opa: Path, decisions: int) -> list[Figures]:
    """One row a candidate."""
    return asyncio.run(_rows(opa, decisions))


async def _rows(opa: Path, decisions: int) -> list[Figures]:
    policies = load()
    recorded = await _recorded(policies, opa, [_document(number) for number in range(decisions)])
    candidates = {"another rule": _other_rule(), "another quota": _other_quota()}
    return [await _row(name, one, recorded, policies, opa) for name, one in candidates.items()]


async def _row(name: str, candidate: PolicySet, recorded: list[Recorded], policies: PolicySet, opa: Path) -> Figures:
    async def pages() -> AsyncIterator[Sequence[Recorded]]:
        for at in range(0, len(recorded), PAGE):
            yield recorded[at : at + PAGE]

    async def find(revision: str) -> PolicySet | None:
        return policies if revision == policies.revision else None

    tally, begun = Tally(), time.monotonic()
    await replay(tally, pages(), candidate, opa, find)
    lasted = time.monotonic() - begun
    told = tally.told(candidate=candidate.revision, in_force=None, since=None, until=None)
    flips = told.let_in.count + told.kept_out.count
    return {"candidate": name, "decisions": len(recorded), "flips": flips, "replay_s": lasted}


def _document(number: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(__file__).parent / "policy_input.json").read_bytes())
    shots, project, person = SHOTS[number % 5], PROJECTS[number % 4], f"person-{number % PEOPLE}"
    team = f"team-{number % 7}"
    document["job"] |= {"project": project, "shots": shots, "executions": shots}
    document["job"]["purpose"] = "benchmark" if number % 11 else "production-run"
    document["principal"] |= {"name": person, "subject": person, "team": team}
    document["principal"]["roles"] = ["auditor"] if number % 20 == 0 else ["quantum-engineer"]
    document["budgets"][0]["scope"] = f"project:{project}"
    document["limits"] = _limits(document)
    day = number // 5000  # some 5,000 jobs a day
    document["time"]["date"] = f"2026-10-{day % 30 + 1:02}"
    today = number % 5000
    document["usage"] |= {"team_shots_today": today * 700, "project_shots_today": today * 1200}
    return document


def _limits(document: dict[str, Any]) -> dict[str, Any]:
    """The shipped slice of limits for this document."""
    who = document["principal"]
    return _SHIPPED.limits(document["job"]["project"], who["team"], who["department"], who["tenant"])


_SHIPPED = load()


async def _recorded(policies: PolicySet, opa: Path, documents: list[dict[str, Any]]) -> list[Recorded]:
    found: list[Recorded] = []
    async with many.opened(policies, opa) as engine:
        for at in range(0, len(documents), LIST):
            part = documents[at : at + LIST]
            answers = await engine.evaluate([msgspec.json.encode(one) for one in part])
            found += [
                _row_of(at + place, policies, one, said)
                for place, (one, said) in enumerate(zip(part, answers, strict=True))
            ]
    return found


def _row_of(number: int, policies: PolicySet, document: dict[str, Any], said: Any) -> Recorded:
    reasons = tuple(Spoke(one["code"], one["level"], one["message"], one["rule"]) for one in said["reasons"])
    allow = not any(reason.level != "advisory" for reason in reasons)
    return Recorded(
        decision_id=f"{number}",
        job_id=f"job-{number}",
        at=f"{document['time']['date']}T02:00:00.000Z",
        project=document["job"]["project"],
        allow=allow,
        reasons=reasons,
        backends=("aer",) if allow else (),
        policy_revision=policies.revision,
        state="COMPLETED" if allow else "DENIED",
        backend="aer" if allow else None,
        held=None,
        charged="0.38" if allow else None,
        currency="USD",
        gone=None,
        input=document,
    )


def _other_rule() -> PolicySet:
    """Production by administrators alone: another vocabulary, so that every decision is made again."""
    files = read(default_folder())
    vocabulary = json.loads(files["data/vocabulary.json"])
    vocabulary["vocabulary"]["purpose_roles"] = [{"prefix": "production", "roles": ["quantum-admin"]}]
    return PolicySet.of(files | {"data/vocabulary.json": json.dumps(vocabulary).encode()})


def _other_quota() -> PolicySet:
    """A day's shots of one team of seven cut: most documents keep their limits."""
    files = read(default_folder())
    limits = json.loads(files["data/limits.json"])
    limits["limits"]["default"]["team_shots_per_day"]["team-3"] = QUOTA
    return PolicySet.of(files | {"data/limits.json": json.dumps(limits).encode()})


def pushes() -> Figures:
    """Seconds from `qcos policy push` asked to in force, of a plane of its own; the command's own start isn't in it."""
    took = []
    with Plane() as plane:
        plane.cli("login", "--as", "admin")
        folder = plane.home.parent / "candidate"
        plane.cli("policy", "init", str(folder))
        file = folder / "data" / "limits.json"
        for number in range(PUSHES):
            limits = json.loads(file.read_bytes())
            limits["limits"]["default"]["max_shots"] = 500 + number
            file.write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")
            took.append(plane.cli("policy", "push", str(folder))["took_ms"] / 1000)
    return in_ms(took)


def tables(figures: Figures) -> dict[str, str]:
    """One line a candidate; one for the pushes."""
    lines = [
        f"| {row['candidate']} | {row['decisions']:,} | {row['flips']:,} | {row['replay_s']:.1f} s "
        f"| {row['decisions'] / row['replay_s']:,.0f} |"
        for row in figures.get("replayed", ())
    ]
    head = "| candidate | recorded decisions | flips | time | decisions/s |"
    found = {"policy-replay": table(head, lines)} if lines else {}
    if took := figures.get("pushes"):
        line = f"| {PUSHES} | {took['p50'] / 1000:.2f} s | {took['max'] / 1000:.2f} s |"
        found["policy-push"] = table("| pushes | p50 | longest |", [line])
    return found
