# SPDX-License-Identifier: Apache-2.0
"""What of two decisions on one document differs: that on record, and a candidate's. Pure.

Compared is what a decision's entry tells: whether it allowed, the codes of its reasons, what it obliges to, and the
nodes that it left. Which rule said so, in which words, is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from control_plane.policy.decision import Decision, obliged

Sort: TypeAlias = Literal["deny_to_allow", "allow_to_deny", "other"]
SORTS: tuple[Sort, ...] = ("deny_to_allow", "allow_to_deny", "other")


class Said(Struct, frozen=True):
    """One decision as far as it is compared."""

    allow: bool
    reasons: tuple[str, ...]
    obligations: tuple[tuple[str, str], ...]
    nodes: tuple[str, ...]

    def shown(self) -> dict[str, Any]:
        """As an entry tells it."""
        obligations = [{"kind": kind, "value": value} for kind, value in self.obligations]
        told = {"obligations": obligations, "nodes": list(self.nodes)}
        return {"allow": self.allow, "reasons": list(self.reasons)} | {name: it for name, it in told.items() if it}


def recorded(body: Mapping[str, Any]) -> Said:
    """What the body of a decision's entry says."""
    obligations = sorted((one["kind"], one["value"]) for one in body.get("obligations", ()))
    nodes = sorted(body.get("allowed_nodes", ()))
    return Said(body["allow"], tuple(sorted(set(body["reasons"]))), tuple(obligations), tuple(nodes))


def decided(decision: Decision) -> Said:
    """What a candidate's decision says."""
    obligations = sorted((str(one["kind"]), str(one["value"])) for one in map(obliged, decision.obligations))
    codes = sorted({reason.code for reason in decision.reasons})
    return Said(decision.allow, tuple(codes), tuple(obligations), tuple(sorted(decision.allowed_nodes)))


def difference(was: Said, would: Said) -> Sort | None:
    """Of which sort the difference is; None where there is none."""
    if was == would:
        return None
    if was.allow == would.allow:
        return "other"
    return "deny_to_allow" if would.allow else "allow_to_deny"
