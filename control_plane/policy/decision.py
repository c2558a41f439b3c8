# SPDX-License-Identifier: Apache-2.0
"""A policy decision as a value (G2): what was checked, what spoke against it, and under which revision.

Pure: no clock, no I/O. A denial is a value that explains itself; the error for "no decision could be had" is
`PolicyUnavailable`, which is never an allow (I5). Only `pdp.Pdp` builds one from what an engine said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from control_plane.errors import QcosError

CHECKS: tuple[str, ...] = ("access", "attributes", "constraints", "classification", "residency", "quota", "budget")
"""The checks of a `job:submit`, in the order in which they are shown. Each is one Rego package."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "job:submit": CHECKS,
    "reservation:create": CHECKS,
    "job:approve": ("access", "separation"),
}
"""The checks that each action demands. The job's own aren't asked of who approves it: they are made again when it is
dispatched.
"""

PLACED = frozenset({"job:submit", "reservation:create"})
"""The actions that need a backend; an allow that leaves none is no allow."""

Level: TypeAlias = Literal["advisory", "soft", "hard"]
"""What a reason weighs: said and nothing more; denies, and a second person may override it; denies."""

POLICY_NAMES = {
    "access": "access-check",
    "attributes": "attribute-check",
    "constraints": "constraint-check",
    "classification": "classification-enforcement",
    "residency": "residency-check",
    "quota": "quota-check",
    "budget": "budget-check",
    "separation": "separation-of-duties",
}
"""What evidence calls the policies that were applied (G3: `policies_applied`)."""

_BUDGET_CODES = frozenset({"budget_exceeded", "budget_missing"})


class PolicyUnavailable(QcosError):  # a state of the world that callers name, like `Refused`
    """No decision could be had: engine down, slow, undefined, faulty, or an answer that isn't understood
    (I5).
    """

    code = "policy_unavailable"


class OtherRevision(PolicyUnavailable):
    """The engine answered by the revision `found` and not by the one that was asked for."""

    def __init__(self, found: str, wanted: str) -> None:
        """Name both."""
        super().__init__(f"the engine holds other policies than revision {wanted}: {found}"[:500])
        self.found = found


class Check(Struct, frozen=True):
    """One required check; `rule` is `package/file.rego:LINE` of the rule that settled it."""

    name: str
    result: Literal["pass", "fail"]
    because: str
    rule: str


class Reason(Struct, frozen=True):
    """One thing that speaks against the request, or is said of it; `want` is the rule's, `have` the request's, `fix`
    would pass.
    """

    code: str
    level: Level
    message: str
    rule: str
    want: str | None = None
    have: str | None = None
    fix: str | None = None

    @property
    def denies(self) -> bool:
        """Whether it speaks against the request; advice doesn't."""
        return self.level != "advisory"


class EvidenceLevel(Struct, frozen=True, tag_field="kind", tag="evidence_level"):
    """The job's evidence is at least of this level, whatever its spec asks."""

    value: Literal["standard", "full"]
    because: str
    rule: str


class BackendClass(Struct, frozen=True, tag_field="kind", tag="backend_class"):
    """Only these backends, which are the class `value`; the decision's `backends` are narrowed to them already."""

    value: str
    because: str
    rule: str
    backends: tuple[str, ...]


class Notify(Struct, frozen=True, tag_field="kind", tag="notify"):
    """The `[[notify]]` table of this name is told of the job."""

    value: str
    because: str
    rule: str


class SecondPerson(Struct, frozen=True, tag_field="kind", tag="approval"):
    """Somebody else approves before the job runs: it is a soft reason of the decision, and overridden as any."""

    value: Literal["second-person"]
    because: str
    rule: str


Obligation: TypeAlias = EvidenceLevel | BackendClass | Notify | SecondPerson
"""What an allowed job is bound to. A kind that isn't here is no decision: the plane goes on with nothing that it can't
fulfil.
"""

_KINDS = {EvidenceLevel: "evidence_level", BackendClass: "backend_class", Notify: "notify", SecondPerson: "approval"}


class Decision(Struct, frozen=True):
    """What policy said of one input document. `backends` and `allowed_nodes` are those it allows, `obligations` what it
    binds to: empty where a hard reason denies; of a denial that may be overridden what is left. A node that isn't one
    of them receives nothing of the job (I8).
    """

    id: str
    allow: bool
    checks: tuple[Check, ...]
    reasons: tuple[Reason, ...]
    backends: tuple[str, ...]
    obligations: tuple[Obligation, ...]
    policies_applied: tuple[str, ...]
    policy_revision: str
    engine: str
    input_hash: str
    decided_at: datetime
    allowed_nodes: tuple[str, ...] = ()
    input: bytes = b""
    """The canonical document as it was judged, limits included: what a caller records."""

    @property
    def overridable(self) -> bool:
        """Whether a second person may let it pass: denied for soft reasons alone, and a backend is left."""
        return not self.allow and bool(self.backends) and softly(self.reasons)

    def document(self) -> dict[str, object]:
        """The JSON of the outward contract: {id, allow, checks, reasons, policy_revision}; absent facts are
        left out, so `allowed_nodes` where no node is, and `obligations` where nothing is obliged.
        """
        shown: dict[str, object] = {"allowed_nodes": list(self.allowed_nodes)} if self.allowed_nodes else {}
        if self.obligations:
            shown["obligations"] = [obliged(one) for one in self.obligations]
        return shown | {
            "id": self.id,
            "allow": self.allow,
            "checks": [
                {"name": check.name, "result": check.result, "because": check.because, "rule": check.rule}
                for check in self.checks
            ],
            "reasons": [_reason(reason) for reason in self.reasons],
            "policy_revision": self.policy_revision,
        }


def obliged(one: Obligation) -> dict[str, object]:
    """An obligation as JSON: {kind, value, because, rule}, and of a class of backends which they are."""
    shown: dict[str, object] = {"kind": _KINDS[type(one)], "value": one.value, "because": one.because, "rule": one.rule}
    return shown | {"backends": list(one.backends)} if isinstance(one, BackendClass) else shown


def softly(reasons: Iterable[Reason]) -> bool:
    """Whether something denies, and nothing that a second person couldn't override."""
    return {reason.level for reason in reasons if reason.denies} == {"soft"}


def _reason(reason: Reason) -> dict[str, object]:
    shown: dict[str, object] = {
        "code": reason.code,
        "level": reason.level,
        "message": reason.message,
        "rule": reason.rule,
    }
    told = {"want": reason.want, "have": reason.have, "fix": reason.fix}
    return shown | {name: value for name, value in told.items() if value is not None}


def required(action: str) -> tuple[str, ...]:
    """The checks that the action demands; those of a job where it is an unknown one, which no rule allows."""
    return REQUIRED.get(action, CHECKS)


def problem_code(decision: Decision) -> str:
    """The outward code of a denial: that of the budget where nothing else speaks against it, else
    `policy_denied`.

    A missing budget goes before an exceeded one: without it the other can't be judged.
    """
    against = {reason.code for reason in decision.reasons if reason.denies}
    if not against or not against <= _BUDGET_CODES:
        return "policy_denied"
    return "budget_missing" if "budget_missing" in against else "budget_exceeded"
