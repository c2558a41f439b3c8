# SPDX-License-Identifier: Apache-2.0
"""An input document that every check allows, and ways to change it: shared by tests and by the golden
answers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Json = Any

BRAKET = {
    "id": "aws-braket",
    "provider": "aws-braket",
    "qubits": 32,
    "region": "us-east-1",
    "compliance_zone": "us-east",
    "sovereign": False,
    "price_micros": 300_000,
}
NETWORK = BRAKET | {"id": "p2p", "provider": "p2p", "region": "network", "compliance_zone": ""}


ALWAYS = {"purpose": "*", "always": True, "days": {}, "said": "always"}
BY_DAY = {
    "purpose": "*",
    "always": False,
    "days": {"mon": [{"begins": 480, "ends": 1080}]},
    "said": "mon 08:00-18:00",
}


def node(name: str, zone: str = "onprem", *, sovereign: bool = True) -> dict[str, object]:
    """An enrolled node as the policies see it."""
    return {"id": name, "organisation": "lab", "region": "eu", "compliance_zone": zone, "sovereign": sovereign}


def plan(*nodes: str) -> dict[str, object]:
    """A plan that may send work to these nodes."""
    return {"plan_id": "a" * 64, "mode": "whole", "fragments": 1, "nodes": list(nodes)}


def document(**changes: Json) -> dict[str, Json]:
    """The sample with values replaced; a key is a path joined by two underscores (`job__purpose`)."""
    sample: dict[str, Json] = {
        "action": "job:submit",
        "principal": {
            "subject": "s-1",
            "name": "engineer",
            "domain": "demo",
            "tenant": "demo",
            "roles": ["quantum-engineer"],
            "team": "blue",
            "department": None,
            "kind": "user",
        },
        "job": {
            "project": "demo",
            "cost_center": "CC-1",
            "classification": "internal-restricted",
            "purpose": "production-benchmark",
            "justification": None,
            "format": "QASM3",
            "shots": 1000,
            "executions": 1000,
            "qubits": 2,
            "max_depth": 100,
            "evidence_level": "full",
            "retention_days": 365,
            "allowed_providers": None,
            "backend": None,
        },
        "price": {"amount": "0.52", "currency": "USD", "micros": 520_000},
        "budgets": [
            {
                "scope": "project:demo",
                "period": "monthly",
                "limit": "5000",
                "held": "0",
                "captured": "0",
                "available": "5000",
                "currency": "USD",
                "available_micros": 5_000_000_000,
                "limit_micros": 5_000_000_000,
            }
        ],
        "usage": {"team_shots_today": 0, "project_shots_today": 0, "running_jobs": 0, "team_running_jobs": 0},
        "limits": {
            "max_qubits": 64,
            "max_shots": 100_000,
            "max_depth": 10_000,
            "max_running_jobs": 100,
            "project_shots_per_day": 1_000_000,
            "team": {
                "name": "blue",
                "shots_per_day": 50_000,
                "running_jobs": 50,
                "max_qubits": 1024,
                "max_depth": 1_000_000,
            },
            "department": {"name": None, "purposes": ["*"], "hours": [ALWAYS]},
            "regions": ["*"],
            "zones": ["*"],
            "budget_warning_percent": 100,
            "budget_approval_percent": 100,
        },
        "backends": [
            {
                "id": "aer",
                "provider": "aer",
                "qubits": 32,
                "region": "local",
                "compliance_zone": "onprem",
                "sovereign": True,
                "price_micros": 520_000,
            }
        ],
        "nodes": [],
        "plan": None,
        "time": {"now": "2026-11-21T02:00:00.000Z", "date": "2026-11-21", "weekday": "sat", "minute": 120},
    }
    for key, value in changes.items():
        sample = replaced(sample, tuple(int(p) if p.isdigit() else p for p in key.split("__")), value)
    return sample


def paths(value: Json, below: Path = ()) -> Iterator[Path]:
    """Every path of a document, the root's first."""
    yield below
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*below, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*below, index))


def numbers(value: Json) -> list[Path]:
    """The path of every whole number of a document."""
    found = []
    for path in paths(value):
        at = value
        for step in path:
            at = at[step]
        if type(at) is int:
            found.append(path)
    return found


def replaced(value: dict[str, Json], path: Path, new: Json) -> dict[str, Json]:
    """A copy with another value at a path."""
    changed = copy.deepcopy(value)
    holder: Json = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = new
    return changed


def without(value: dict[str, Json], path: Path) -> dict[str, Json]:
    """A copy without the key at a path."""
    changed = copy.deepcopy(value)
    holder: Json = changed
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return changed


def encoded(value: Json) -> bytes:
    """The bytes that an engine gets."""
    return json.dumps(value, ensure_ascii=False).encode()


def ordered(answer: Json) -> Json:
    """A raw answer with its sets in one order: engines may list them in any."""
    return {
        **answer,
        "reasons": sorted(answer["reasons"], key=lambda reason: json.dumps(reason, sort_keys=True)),
        "backends": sorted(answer["backends"]),
        "nodes": sorted(answer["nodes"]),
    }


RESEARCH = {
    "principal__department": "research",
    "limits__department": {"name": "research", "purposes": ["benchmark"], "hours": [ALWAYS]},
}


SPENT = {"budgets__0__available": "1000", "budgets__0__available_micros": 1_000_000_000}
"""Four fifths of the sample's budget."""


def reservation(**changes: Json) -> dict[str, Json]:
    """The sample as a window of node `a` without a job, with values replaced."""
    window = {"node": "a", "services": ["cnot"], "starts_in_ms": 0, "duration_ms": 60_000}
    facts = {"action": "reservation:create", "window": window, "usage__windows": 1, "limits__max_windows": 2}
    asked = {"job__shots": 0, "job__executions": 0, "job__allowed_providers": ["p2p"]}
    free = {"price": {"amount": "0", "currency": "USD", "micros": 0}}
    return document(**facts | asked | free | {"backends": [NETWORK], "nodes": [node("a")]} | changes)


def approval(**changes: Json) -> dict[str, Json]:
    """The sample as an override of somebody else's denial, with values replaced."""
    asked = {
        "requested_by": {"subject": "s-1", "name": "engineer", "domain": "demo"},
        "reasons": ["quota_exceeded"],
        "justification": "the review is tomorrow",
        "lasts_s": 86_400,
    }
    who = {"principal__subject": "s-2", "principal__name": "admin", "principal__roles": ["quantum-admin"]}
    return document(**{"action": "job:approve", "approval": asked} | who | changes)


DENIED: dict[str, dict[str, Json]] = {
    "user-submits-production": document(principal__roles=["quantum-user"]),
    "auditor-submits": document(principal__roles=["auditor"]),
    "stranger-submits": document(principal__roles=[]),
    "research-submits-production": document(**RESEARCH),
    "too-many-shots": document(job__shots=100_001, job__executions=100_001, usage__team_shots_today=0),
    "too-many-runs-of-few-shots": document(job__shots=999, job__executions=100_001, usage__team_shots_today=0),
    "too-many-qubits": document(job__qubits=65),
    "too-deep": document(job__max_depth=10_001),
    "other-provider": document(job__allowed_providers=["ibm-quantum"]),
    "no-backend": document(backends=[]),
    "restricted-in-the-cloud": document(backends=[BRAKET]),
    "restricted-pinned-to-the-cloud": document(job__backend="aws-braket", backends=[BRAKET, document()["backends"][0]]),
    "classified-not-sovereign": document(job__classification="classified", backends__0__sovereign=False),
    "unknown-classification": document(job__classification="secret"),
    "team-quota": document(usage__team_shots_today=49_001),
    "project-quota": document(usage__project_shots_today=999_001),
    "running-jobs": document(usage__running_jobs=100),
    "running-jobs-of-the-team": document(usage__team_running_jobs=50),
    "too-many-qubits-for-the-team": document(limits__team__max_qubits=1),
    "too-deep-for-the-team": document(limits__team__max_depth=99),
    "outside-of-its-hours": document(limits__department__hours=[BY_DAY], time__weekday="mon", time__minute=1080),
    "without-hours": document(limits__department__hours=[]),
    "outside-of-its-regions": document(limits__regions=["eu"]),
    "outside-of-its-zones": document(limits__zones=["sovereign"]),
    "network-outside-of-its-regions": document(backends=[NETWORK], nodes=[node("a")], limits__regions=["local"]),
    "beyond-the-threshold": document(**SPENT, limits__budget_approval_percent=80),
    "budget-exceeded": document(budgets__0__available="0.10", budgets__0__available_micros=100_000),
    "budget-overrun": document(budgets__0__available="-1", budgets__0__available_micros=-1_000_000),
    "budget-missing": document(budgets=[]),
    "budget-of-another": document(budgets__0__scope="project:other"),
    "other-currency": document(budgets__0__currency="EUR"),
    "no-price": document(price=None),
    "network-without-nodes": document(backends=[NETWORK]),
    "network-in-the-cloud": document(backends=[NETWORK], nodes=[node("a", "us-east"), node("b", sovereign=False)]),
    "plan-outside": document(backends=[NETWORK], nodes=[node("a"), node("b", "us-east")], plan=plan("a", "b")),
    "plan-of-strangers": document(backends=[NETWORK], nodes=[node("a")], plan=plan("c")),
    "plan-of-nothing": document(backends=[NETWORK], nodes=[node("a")], plan=plan()),
    "two-nodes-of-one-id": document(backends=[NETWORK], nodes=[node("a"), node("a", "us-east")]),
    "other-action": document(action="job:delete"),
    "user-reserves": reservation(principal__roles=["quantum-user"], job__purpose="research"),
    "stranger-reserves": reservation(principal__roles=[]),
    "admin-reserves-for-production": reservation(principal__roles=["quantum-admin"]),
    "too-many-windows": reservation(usage__windows=2),
    "window-outside-of-the-zone": reservation(nodes=[node("a", "us-east")]),
    "window-on-nobody": reservation(nodes=[]),
    "window-without-a-budget": reservation(budgets=[]),
    "hard-reason-overridden": approval(),
    "own-override": approval(principal__subject="s-1", principal__name="engineer"),
    "engineer-overrides": approval(principal__roles=["quantum-engineer"]),
    "service-overrides-for-ever": approval(principal__kind="service", approval__lasts_s=10**9),
}

ALLOWED: dict[str, dict[str, Json]] = {
    "engineer-submits-production": document(),
    "user-submits-research": document(principal__roles=["quantum-user"], job__purpose="research"),
    "admin-submits-research": document(principal__roles=["quantum-admin", "auditor"], job__purpose="research"),
    "research-submits-benchmark": document(**RESEARCH, job__purpose="benchmark-q1"),
    "public-anywhere": document(job__classification="public", backends=[BRAKET, document()["backends"][0]]),
    "restricted-leaves-out-the-cloud": document(backends=[BRAKET, document()["backends"][0]]),
    "classified-on-premise": document(job__classification="classified"),
    "last-shots-of-the-day": document(usage__team_shots_today=49_000),
    "more-runs-than-shots": document(job__shots=999, job__executions=1_000),
    "last-cent-of-the-month": document(budgets__0__available_micros=520_000),
    "no-team": document(principal__team=None, limits__team__name=None, limits__team__shots_per_day=1000),
    "at-its-hours": document(limits__department__hours=[BY_DAY], time__weekday="mon", time__minute=480),
    "in-its-regions": document(limits__regions=["local"], limits__zones=["onprem"]),
    "under-the-threshold": document(limits__budget_warning_percent=1, limits__budget_approval_percent=1),
    "beyond-the-warning": document(**SPENT, limits__budget_warning_percent=80),
    "last-qubits-of-the-team": document(limits__team__max_qubits=2, limits__team__max_depth=100),
    "network-inside": document(backends=[NETWORK], nodes=[node("a"), node("b", "us-east")], plan=plan("a")),
    "network-and-no-plan-yet": document(backends=[NETWORK], nodes=[node("a"), node("b", "us-east")]),
    "network-beside-another": document(backends=[NETWORK, document()["backends"][0]], nodes=[node("b", "us-east")]),
    "public-network": document(
        job__classification="public", backends=[NETWORK], nodes=[node("a"), node("b", "us-east", sovereign=False)]
    ),
    "engineer-reserves": reservation(),
    "admin-reserves": reservation(principal__roles=["quantum-admin"], job__purpose="maintenance"),
    "reserves-with-all-jobs-running": reservation(usage__running_jobs=100),
    "odd-texts": document(principal__name='a"b\\c\0d\U0001f600', job__justification="line\nline\u2028"),
}
