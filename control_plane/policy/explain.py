# SPDX-License-Identifier: Apache-2.0
"""A recorded decision, decided again by its own revision, and said in a sentence (G2).

What was recorded enters: the answer, and where it is still there the document that was judged. `sentence` and
`differences` are pure; `again` runs the revision on an engine of its own and `trace` has OPA tell how the deciding rule
came to its answer. Nothing here touches what the plane decides by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.policy import private, tools
from control_plane.policy.decision import Decision, PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import ENTRYPOINT, PolicySet

MOST_LINES = 60
"""Of a trace that isn't asked for in full."""

_LIMIT_S = 30.0
_THEN = datetime(1970, 1, 1, tzinfo=UTC)
_WEIGHT = {"hard": 0, "soft": 1, "advisory": 2}
_LINE = re.compile(r"^(\S+):(\d+)\s+((?:\| )*)(\w+) ?(.*)$")
_STEPS = frozenset({"Enter", "Eval", "Fail", "Exit"})


class Told(Struct, frozen=True):
    """What was recorded. `checks` and `reasons` are None where the record keeps only the outcome (a bundle)."""

    decision_id: str
    job_id: str | None
    at: str | None
    allow: bool
    policy_revision: str
    engine: str
    input: Mapping[str, Any] | None
    checks: tuple[Mapping[str, Any], ...] | None = None
    reasons: tuple[Mapping[str, Any], ...] | None = None


def sentence(told: Told) -> str:
    """Which rule denied, at which file and line, what was asked, and what would have been allowed."""
    what = f"job {told.job_id}" if told.job_id else f"decision {told.decision_id}"
    when = f" on {told.at[:10]}" if told.at else ""
    reason = deciding(told)
    if told.allow:
        checks = told.checks or ()
        advice = f"; advised: {reason['message']}" if reason else ""
        return f"{what} was allowed{when}: all {len(checks)} checks passed{advice}."
    if reason is None:
        return f"{what} was denied{when}; the record keeps no reasons, the replay below gives them."
    asked = f"; asked: {reason['have']}" if reason.get("have") else ""
    wanted = f"; what would have been allowed: {reason['want']}" if reason.get("want") else ""
    passing = f" ({reason['fix']})" if reason.get("fix") else ""
    others = sum(1 for one in told.reasons or () if one["level"] != "advisory") - 1
    more = f" ({others} more reason{'s' if others > 1 else ''} below)" if others > 0 else ""
    where = f"qcos/{reason['rule']} ({reason['code']}, {reason['level']})"
    return f"{what} was denied{when} by {where}: {reason['message']}{asked}{wanted}{passing}{more}."


def deciding(told: Told) -> Mapping[str, Any] | None:
    """The reason that weighs most; the first of those of equal weight, which stand in the order of the checks."""
    return min(told.reasons or (), key=lambda reason: _WEIGHT.get(reason["level"], 0), default=None)


def differences(told: Told, decision: Decision) -> list[str]:
    """In what the replay's answer is another than the recorded one."""
    found = []
    if decision.allow != told.allow:
        found.append(f"recorded {_word(told.allow)}, replayed {_word(decision.allow)}")
    now = decision.document()
    for name in ("checks", "reasons"):
        held = getattr(told, name)
        if held is None:
            continue
        before, after = [_plain(one) for one in held], [_plain(one) for one in now[name]]  # type: ignore[attr-defined]
        found += [f"only recorded: {one}" for one in before if one not in after]
        found += [f"only replayed: {one}" for one in after if one not in before]
    return found


async def again(told: Told, policies: PolicySet, opa: Path | None) -> Decision:
    """The decision made again from its document; raises PolicyUnavailable where no sound one can be had."""
    async with private.opened(policies, opa, _LIMIT_S) as engine:
        return await Pdp(engine, Held(policies)).judge(policies, told.input or {}, told.decision_id, _THEN)


async def trace(policies: PolicySet, document: Mapping[str, Any], rule: str | None, opa: Path) -> list[str]:
    """How a rule (`package/file.rego:LINE`) came to deny, a line a step; without one, all steps of the decision."""
    asked = msgspec.json.encode(document)
    query = f"data.qcos.{rule.partition('/')[0]}.deny" if rule else f"data.{ENTRYPOINT.replace('/', '.')}"
    files = {path: content for path, content in policies.files.items() if not path.startswith("schemas/")}
    async with tools.laid(files) as folder:
        options = ["--stdin-input", "--data", ".", "--format", "pretty", "--explain", "full", "--strict-builtin-errors"]
        done = await tools.run([opa, "eval", *options, query], folder, _LIMIT_S, asked)
    if done.timed_out or done.code:
        raise PolicyUnavailable(f"no trace: {tools.complaints(done, folder, 'opa eval')[0].message}")
    text = done.out.decode(errors="replace")
    if rule is None:
        return [line for line in text.splitlines() if _LINE.match(line)]
    sources = {path: source.splitlines() for path, source in policies.modules.items()}
    steps = _merged(_of_rule(list(_steps(text, rule)), rule))
    told = [_Step(step.place, step.depth, step.operation, _said(step, sources)) for step in steps]
    return [f"qcos/{step.place}\t{'  ' * step.depth}{step.word} {step.expression}" for step in _reached(told)]


class _Step(Struct, frozen=True):
    """One event of OPA's: where, how deep, what (`Enter`, `Eval`, `Fail`, `Exit`) and of which expression."""

    place: str
    depth: int
    operation: str
    expression: str

    @property
    def word(self) -> str:
        """The operation, in letters of one width."""
        return self.operation.lower().ljust(5)


def _steps(text: str, rule: str) -> Iterator[_Step]:
    """The steps in rules of the same package; what `values` and others did for them is left out."""
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and match[1].startswith(f"qcos/{rule.partition('/')[0]}/") and match[4] in _STEPS:
            yield _Step(f"{match[1].removeprefix('qcos/')}:{match[2]}", len(match[3]) // 2, match[4], match[5])


def _of_rule(steps: list[_Step], rule: str) -> list[_Step]:
    """The part of a trace in which the rule itself was tried; all of it where the rule isn't found."""
    begins = [at for at, step in enumerate(steps) if step.operation == "Enter" and step.place == rule]
    if not begins:
        return steps
    first = steps[begins[0]]
    kept = [first]
    for step in steps[begins[0] + 1 :]:
        if step.depth <= first.depth and step.place != rule:
            break
        kept.append(step)
    return kept


def _merged(steps: list[_Step]) -> list[_Step]:
    """What a line of source evaluates part by part is told once, with how it ended. Inside of a `not`, what fails is
    what lets it hold: only the fate of the whole is told.
    """
    lines: list[_Step] = []
    negated: set[str] = set()
    for step in steps:
        whole = step.expression.startswith("not ")
        if step.operation == "Exit" or (step.place in negated and not whole):
            continue
        if whole:
            negated.add(step.place)
        before = lines[-1] if lines else None
        if before is None or before.place != step.place or before.operation == "Enter" or step.depth > before.depth + 1:
            lines.append(step)
        elif step.operation == "Fail":
            lines[-1] = _Step(before.place, before.depth, "Fail", before.expression)
    return lines


def _reached(steps: list[_Step]) -> list[_Step]:
    """Up to where the rule held; how its words were put together is left out."""
    inside = steps[0].depth + 1 if steps else 0
    for at, step in enumerate(steps):
        if step.depth == inside and step.operation == "Eval" and step.expression.startswith(('"', "reason := {")):
            return steps[:at]
    return steps


def _said(step: _Step, sources: Mapping[str, list[str]]) -> str:
    """The line as its author wrote it; of a rule that is entered, its name."""
    if step.operation == "Enter":
        return step.expression.removeprefix("data.qcos.")
    path, _, line = step.place.rpartition(":")
    return sources[f"qcos/{path}"][int(line) - 1].strip()


def _plain(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {one[key]}" for key in sorted(one))


def _word(allow: bool) -> str:
    return "allow" if allow else "deny"
