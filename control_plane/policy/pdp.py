# SPDX-License-Identifier: Apache-2.0
"""The policy decision point: the one caller of an engine (G2, I5).

A document enters, a `Decision` leaves, or `PolicyUnavailable` is raised; there is no third way. Allow is
computed here and is never a field that an engine could set: every required check is there exactly once and
literally true, nothing speaks against the request, and at least one of the offered backends is left. An
answer that contradicts itself is no answer. The PDP reads no clock and writes nothing: the caller records the
decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec
from msgspec import Struct, field

from control_plane import telemetry
from control_plane.policy.decision import CHECKS, POLICY_NAMES, Check, Decision, PolicyUnavailable, Reason
from control_plane.policy.document import Backend, Document, Node
from control_plane.policy.revision import PolicySet
from ledger import canonical
from ledger.errors import LedgerError


class Engine(Protocol):
    """Evaluates `data.qcos.main.decision`. All failures are `PolicyUnavailable`."""

    name: str
    policies: PolicySet

    async def evaluate(self, input_json: bytes) -> object:
        """The rule's value for one input document, as plain JSON values; undefined is an error."""

    async def ready(self) -> None:
        """Return only if the engine answers and holds exactly `policies`."""

    async def close(self) -> None:
        """Give up connections and threads; idempotent."""


def _told_of(decision: Decision) -> dict[str, telemetry.Value]:
    """What a trace says of a decision; each reason of a denial counts once."""
    for code in sorted({reason.code for reason in decision.reasons}):
        telemetry.count("qcos.policy.denials", code=code)
    outcome = "allow" if decision.allow else "deny"
    return {"decision_id": decision.id, "outcome": outcome, "engine": decision.engine}


class Pdp:
    """Decides by one engine; safe to share between tasks of one event loop."""

    def __init__(self, engine: Engine, required: Sequence[str] = CHECKS) -> None:
        self.engine = engine
        self.required = tuple(required)

    @property
    def revision(self) -> str:
        """`sha256:` of the policy files that decide."""
        return self.engine.policies.revision

    @telemetry.traced("policy.decide", _told_of)
    async def decide(self, doc: Mapping[str, object], decision_id: str, now: datetime) -> Decision:
        """Decide one document; raises PolicyUnavailable where no sound decision could be had (I5)."""
        document, input_json = _read(doc)
        answer = _parse(await self.engine.evaluate(input_json))
        self._demand_required(answer)
        reasons = self._reasons(answer)
        backends = _offered("backends", answer.backends, document.backends)
        nodes = _offered("nodes", answer.nodes, document.nodes)
        allow = all(check.passed for check in answer.checks) and not reasons and bool(backends)
        if not allow and not reasons:
            raise PolicyUnavailable("the policy denied without a reason")
        return Decision(
            id=decision_id,
            allow=allow,
            checks=self._checks(answer, reasons),
            reasons=reasons,
            backends=backends if allow else (),
            obligations=(),
            policies_applied=tuple(POLICY_NAMES.get(name, name) for name in self.required),
            policy_revision=self.revision,
            engine=self.engine.name,
            input_hash="sha256:" + hashlib.sha256(input_json).hexdigest(),
            decided_at=now,
            allowed_nodes=nodes if allow else (),
        )

    async def ready(self) -> None:
        """Return only if a decision could be had now; raises PolicyUnavailable."""
        await self.engine.ready()

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()

    def _demand_required(self, answer: _Answer) -> None:
        names = sorted(check.name for check in answer.checks)
        if names != sorted(self.required):
            raise PolicyUnavailable(f"the policy answered checks {names}, required are {sorted(self.required)}")
        if answer.obligations:
            raise PolicyUnavailable(f"the policy set obligations that are not known: {sorted(answer.obligations)}")

    def _reasons(self, answer: _Answer) -> tuple[Reason, ...]:
        failed = {check.name for check in answer.checks if not check.passed}
        explained = {_package(reason.rule) for reason in answer.reasons}
        if failed != explained:
            raise PolicyUnavailable(f"checks failed: {sorted(failed)}, reasons are given for {sorted(explained)}")
        order = {name: position for position, name in enumerate(self.required)}
        found = sorted(answer.reasons, key=lambda reason: (order[_package(reason.rule)], reason.code, reason.message))
        return tuple(
            Reason(
                code=reason.code,
                level=reason.level,
                message=reason.message,
                rule=self._location(reason.rule),
                want=reason.want,
                have=reason.have,
                fix=reason.fix,
            )
            for reason in found
        )

    def _checks(self, answer: _Answer, reasons: tuple[Reason, ...]) -> tuple[Check, ...]:
        by_name = {check.name: check for check in answer.checks}
        checks = []
        for name in self.required:
            check = by_name[name]
            if check.passed:
                checks.append(Check(name=name, result="pass", because=check.because, rule=self._location(check.rule)))
            else:
                first = next(reason for reason in reasons if reason.rule.startswith(name + "/"))
                checks.append(Check(name=name, result="fail", because=first.message, rule=first.rule))
        return tuple(checks)

    def _location(self, rule: str) -> str:
        location = self.engine.policies.rules.get(rule)
        if location is None:
            raise PolicyUnavailable(f"the policy named a rule that its files do not hold: {rule}")
        return location


class _Check(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    because: str
    rule: str
    passed: bool = field(name="pass")


class _Reason(Struct, frozen=True, forbid_unknown_fields=True):
    code: str
    level: Literal["hard", "soft"]
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
    obligations: tuple[str, ...]


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
