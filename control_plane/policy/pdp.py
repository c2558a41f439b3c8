# SPDX-License-Identifier: Apache-2.0
"""The policy decision point: the one caller of an engine (G2, I5).

A document without limits enters; the limits of the policies that decide are put into it here, so that a document and
its revision belong together however a push falls. A `Decision` leaves, or `PolicyUnavailable` is raised; there is no
third way. Allow is computed here and is never a field that an engine could set: every required check is there exactly
once and literally true, nothing speaks against the request (advice is said, and doesn't), and where the action needs
a backend, one of those offered is left. An answer that contradicts itself is no answer. The PDP reads no clock and
writes nothing: the caller records the decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Struct, field

from control_plane import telemetry
from control_plane.policy import duties
from control_plane.policy.decision import (
    PLACED,
    POLICY_NAMES,
    Check,
    Decision,
    Level,
    OtherRevision,
    PolicyUnavailable,
    Reason,
    required,
    softly,
)
from control_plane.policy.document import Backend, Document, Node
from control_plane.policy.held import Held
from control_plane.policy.revision import PolicySet
from control_plane.policy.standing import Standing
from ledger import canonical
from ledger.errors import LedgerError

_TRIES = 4
"""How often one decision follows an engine from one revision to the next: a push, the next push, and back."""


class Engine(Protocol):
    """Evaluates `data.qcos.main.decision`. All failures are `PolicyUnavailable`."""

    name: str

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        """The rule's value for one document by exactly these policies, as plain JSON values; undefined is an error.

        OtherRevision where the engine answered by others.
        """

    async def ready(self, policies: PolicySet) -> None:
        """Return only if the engine answers and would answer by exactly these; OtherRevision where it has others."""

    async def close(self) -> None:
        """Give up connections and threads; idempotent."""


@runtime_checkable
class Serving(Protocol):
    """An engine that answers by the policies that it has, not by those that it is asked for."""

    async def holds(self) -> str:
        """The revision by which it would answer now; raises PolicyUnavailable."""

    async def standing(self, in_force: str) -> Standing:
        """Which revision it has, beside the one in force, and what keeps it from that one."""


def _told_of(decision: Decision) -> dict[str, telemetry.Value]:
    """What a trace says of a decision; each reason of a denial counts once."""
    for code in sorted({reason.code for reason in decision.reasons}):
        telemetry.count("qcos.policy.denials", code=code)
    outcome = "allow" if decision.allow else "deny"
    return {"decision_id": decision.id, "outcome": outcome, "engine": decision.engine}


class Pdp:
    """Decides by one engine; safe to share between tasks of one event loop."""

    def __init__(self, engine: Engine, held: Held, demanded: Sequence[str] | None = None) -> None:
        """`demanded` replaces the checks that each action requires."""
        self.engine = engine
        self.held = held
        self._demanded = None if demanded is None else tuple(demanded)

    @property
    def revision(self) -> str:
        """`sha256:` of the policy files in force, as this process knows them."""
        return self.held.current.revision

    @telemetry.traced("policy.decide", _told_of)
    async def decide(self, doc: Mapping[str, object], decision_id: str, now: datetime) -> Decision:
        """Decide one document by the policies in force; raises PolicyUnavailable where no sound decision is had (I5).

        Where the engine is ahead or behind, by the ones that it has, if `held` knows them: with their limits.
        """
        policies = self.held.current
        for _ in range(_TRIES):
            try:
                return await self.judge(policies, _with_limits(policies, doc), decision_id, now)
            except OtherRevision as other:
                policies = await self.held.by(other.found)
        raise PolicyUnavailable("the engine's policies change faster than it decides")

    async def judge(self, policies: PolicySet, doc: Mapping[str, object], decision_id: str, now: datetime) -> Decision:
        """Decide a whole document, limits and all, by these policies and no others; raises PolicyUnavailable."""
        document, input_json = _read(doc)
        answer = _parse(await self.engine.evaluate(policies, input_json))
        checks = self._demanded or required(document.action)
        _demand(checks, answer)
        reasons = _reasons(policies, checks, answer)
        backends = _offered("backends", answer.backends, document.backends)
        nodes = _offered("nodes", answer.nodes, document.nodes)
        obligations = duties.read(answer.obligations, partial(_location, policies))
        backends, nodes, unmet = duties.narrow(obligations, document.backends, backends, nodes)
        reasons += unmet
        reasons += duties.approvals(obligations, reasons)
        denied = any(reason.denies for reason in reasons)
        placed = bool(backends) or document.action not in PLACED
        allow = all(check.passed for check in answer.checks) and not denied and placed
        if not allow and not denied:
            raise PolicyUnavailable("the policy denied without a reason")
        left = allow or softly(reasons)
        return Decision(
            id=decision_id,
            allow=allow,
            checks=_checks(policies, checks, answer, reasons),
            reasons=reasons,
            backends=backends if left else (),
            obligations=obligations if left else (),
            policies_applied=tuple(POLICY_NAMES.get(name, name) for name in checks),
            policy_revision=policies.revision,
            engine=self.engine.name,
            input_hash="sha256:" + hashlib.sha256(input_json).hexdigest(),
            decided_at=now,
            allowed_nodes=nodes if left else (),
            input=input_json,
        )

    async def deciding(self) -> str:
        """The revision by which a decision would be made now; raises PolicyUnavailable."""
        if isinstance(self.engine, Serving):
            return (await self.held.by(await self.engine.holds())).revision
        return self.held.current.revision

    async def ready(self) -> None:
        """Return only if a decision could be had now; raises PolicyUnavailable."""
        try:
            await self.engine.ready(self.held.current)
        except OtherRevision as other:
            await self.engine.ready(await self.held.by(other.found))

    async def standing(self) -> Standing:
        """How it stands with the engine's policies, and why it has no newer ones; raises PolicyUnavailable."""
        if isinstance(self.engine, Serving):
            return await self.engine.standing(self.revision)
        return Standing(self.revision, None, f"{self.engine.name} decides by what it is given")

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()


class _Who(Struct, frozen=True):
    tenant: str
    team: str | None
    department: str | None


class _Where(Struct, frozen=True):
    project: str


class _Asked(Struct, frozen=True):
    """Of a document, what its limits depend on."""

    principal: _Who
    job: _Where


class _Check(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    because: str
    rule: str
    passed: bool = field(name="pass")


class _Reason(Struct, frozen=True, forbid_unknown_fields=True):
    code: str
    level: Level
    message: str
    rule: str
    want: str
    have: str
    fix: str


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    checks: tuple[_Check, ...]
    reasons: tuple[_Reason, ...]
    backends: tuple[str, ...]
    nodes: tuple[str, ...]
    obligations: tuple[duties.Said, ...]


def _demand(checks: Sequence[str], answer: _Answer) -> None:
    names = sorted(check.name for check in answer.checks)
    if names != sorted(checks):
        raise PolicyUnavailable(f"the policy answered checks {names}, required are {sorted(checks)}")


def _reasons(policies: PolicySet, checks: Sequence[str], answer: _Answer) -> tuple[Reason, ...]:
    """In the order of the checks. A reason that denies is there for each failed check and for no other."""
    failed = {check.name for check in answer.checks if not check.passed}
    explained = {_package(reason.rule) for reason in answer.reasons if reason.level != "advisory"}
    if failed != explained:
        raise PolicyUnavailable(f"checks failed: {sorted(failed)}, reasons are given for {sorted(explained)}")
    strange = {_package(reason.rule) for reason in answer.reasons} - set(checks)
    if strange:
        raise PolicyUnavailable(f"reasons are given for checks that are not required: {sorted(strange)}")
    order = {name: position for position, name in enumerate(checks)}
    found = sorted(answer.reasons, key=lambda reason: (order[_package(reason.rule)], reason.code, reason.message))
    return tuple(
        Reason(
            code=reason.code,
            level=reason.level,
            message=reason.message,
            rule=_location(policies, reason.rule),
            want=reason.want,
            have=reason.have,
            fix=reason.fix,
        )
        for reason in found
    )


def _checks(
    policies: PolicySet, names: Sequence[str], answer: _Answer, reasons: tuple[Reason, ...]
) -> tuple[Check, ...]:
    by_name = {check.name: check for check in answer.checks}
    against = [reason for reason in reasons if reason.denies]
    checks = []
    for name in names:
        check = by_name[name]
        if check.passed:
            settled = _location(policies, check.rule)
            checks.append(Check(name=name, result="pass", because=check.because, rule=settled))
        else:
            first = next(reason for reason in against if reason.rule.startswith(name + "/"))
            checks.append(Check(name=name, result="fail", because=first.message, rule=first.rule))
    return tuple(checks)


def _with_limits(policies: PolicySet, doc: Mapping[str, object]) -> dict[str, object]:
    try:
        asked = msgspec.convert(doc, _Asked)
    except ValueError as fault:
        raise PolicyUnavailable(f"the input document is not sound: {fault}") from fault
    who = asked.principal
    return {**doc, "limits": policies.limits(asked.job.project, who.team, who.department, who.tenant)}


def _location(policies: PolicySet, rule: str) -> str:
    location = policies.rules.get(rule)
    if location is None:
        raise PolicyUnavailable(f"the policy named a rule that its files do not hold: {rule}")
    return location


def _read(doc: Mapping[str, object]) -> tuple[Document, bytes]:
    try:
        return msgspec.convert(doc, Document), canonical.dumps(doc)
    except (ValueError, TypeError, LedgerError) as fault:
        raise PolicyUnavailable(f"the input document is not sound: {fault}") from fault


def _parse(value: object) -> _Answer:
    try:
        return msgspec.convert(value, _Answer)
    except (ValueError, TypeError) as fault:
        raise PolicyUnavailable(f"the policy's answer has another shape: {fault}") from fault


def _offered(what: str, allowed: Sequence[str], offered: Sequence[Backend | Node]) -> tuple[str, ...]:
    named = tuple(sorted(allowed))
    if len(set(named)) != len(named) or not set(named) <= {one.id for one in offered}:
        raise PolicyUnavailable(f"the policy allowed {what} that were not offered: {list(named)}")
    return named


def _package(rule: str) -> str:
    return rule.partition(".")[0]
