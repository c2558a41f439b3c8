# SPDX-License-Identifier: Apache-2.0
"""Sample documents for a set of policies, made from its own vocabulary and limits. Pure.

`ordinary` are jobs that a sensible policy lets somebody run: small, cheap, for each role, purpose, classification and
hour that the data names, most promising first. `nobodys` are the same jobs asked for by a principal without any role.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.document import (
    WEEKDAYS,
    Backend,
    Budget,
    Document,
    Job,
    Limits,
    Price,
    Principal,
    Time,
    Usage,
    time_judged,
)
from control_plane.policy.revision import PolicySet

_MOST = 40
_PURPOSES = ("research", "benchmark", "production", "development", "test", "education", "maintenance")
_CLASSIFICATIONS = ("internal", "public", "internal-restricted")
_ROLES = ("quantum-engineer", "quantum-user", "quantum-admin")
_MONDAY = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
_WEDNESDAY, _SATURDAY = _MONDAY + dt.timedelta(days=2, hours=10), _MONDAY + dt.timedelta(days=5, hours=2)


def ordinary(policies: PolicySet) -> Iterator[dict[str, Any]]:
    """Input documents, limits included; at most 40."""
    roles = _submitting(policies) or list(_ROLES)
    roles = sorted(roles, key=lambda role: _ROLES.index(role) if role in _ROLES else len(_ROLES))
    classifications = _words(policies, "classifications") or list(_CLASSIFICATIONS)
    purposes = [*_prefixes(policies), *_PURPOSES]
    choices = itertools.product(purposes, _times(policies), classifications, roles)
    for purpose, at, classification, role in itertools.islice(choices, _MOST):
        yield document(policies, (role,), purpose, classification, at)


def nobodys(policies: PolicySet) -> Iterator[dict[str, Any]]:
    """Documents of a principal who has no role."""
    for classification in _words(policies, "classifications") or list(_CLASSIFICATIONS):
        for purpose in (_PURPOSES[0], _PURPOSES[2]):
            yield document(policies, (), purpose, classification, _WEDNESDAY)


def document(
    policies: PolicySet, roles: tuple[str, ...], purpose: str, classification: str, at: dt.datetime
) -> dict[str, Any]:
    """A small job on one sovereign machine of the house, with a budget that holds it."""
    try:
        limits = msgspec.convert(policies.limits("demo", None, None), Limits)
    except msgspec.ValidationError as fault:
        raise PolicyUnavailable(f"data/limits.json: another shape: {fault}") from fault
    budget = Budget("project:demo", "monthly", "1000", "0", "0", "1000", "USD", 1_000_000_000, 1_000_000_000)
    job = Job(
        project="demo",
        cost_center=None,
        classification=classification,
        purpose=purpose,
        justification=None,
        format="QASM3",
        shots=1,
        executions=1,
        qubits=1,
        max_depth=1,
        evidence_level="full",
        retention_days=365,
        allowed_providers=None,
        backend=None,
    )
    made = Document(
        action="job:submit",
        principal=Principal("s-1", "sample", "demo", "demo", roles, None, None, "user"),
        job=job,
        price=Price(amount="0.01", currency="USD", micros=10_000),
        budgets=(budget,),
        usage=Usage(team_shots_today=0, project_shots_today=0, running_jobs=0),
        limits=limits,
        backends=(_backend(policies, classification, limits),),
        nodes=(),
        plan=None,
        time=msgspec.convert(time_judged(at), Time),
    )
    plain: dict[str, Any] = msgspec.to_builtins(made)
    absent = {field.name for field in msgspec.structs.fields(Principal) if not field.required}
    plain["principal"] = {key: value for key, value in plain["principal"].items() if key not in absent}
    return {key: value for key, value in plain.items() if key not in {"window", "approval", "envelope"}}


def _backend(policies: PolicySet, classification: str, limits: Limits) -> Backend:
    """One where the classification and the project's limits would have it, if they agree about a zone."""
    zone = _zone(policies, classification)
    if not {"*", zone} & set(limits.zones):
        zone = next(iter(limits.zones), zone)
    region = "local" if "*" in limits.regions else next(iter(limits.regions), "local")
    return Backend("aer", "aer", 32, region, zone, sovereign=True, price_micros=10_000)


def _times(policies: PolicySet) -> list[dt.datetime]:
    """A Wednesday's morning, a Saturday's night, and where hours begin for principals without a department."""
    lines = policies.limits("demo", None, None)["department"].get("hours", ())
    begins = {(day, spans[0]["begins"]) for line in lines for day, spans in line["days"].items()}
    moments = sorted(_MONDAY + dt.timedelta(days=WEEKDAYS.index(day), minutes=minute) for day, minute in begins)
    return [_WEDNESDAY, _SATURDAY, *moments[:8]]


def _submitting(policies: PolicySet) -> list[str]:
    vocabulary = policies.data.get("vocabulary")
    actions = vocabulary.get("actions") if isinstance(vocabulary, dict) else None
    held = actions.get("job:submit") if isinstance(actions, dict) else None
    return [role for role in held if isinstance(role, str)] if isinstance(held, list) else []


def _words(policies: PolicySet, key: str) -> list[str]:
    vocabulary = policies.data.get("vocabulary")
    held = vocabulary.get(key) if isinstance(vocabulary, dict) else None
    return [word for word in held if isinstance(word, str)] if isinstance(held, (list, dict)) else []


def _prefixes(policies: PolicySet) -> list[str]:
    """Beginnings of purposes that the limits name for principals without a department."""
    limits = policies.limits("demo", None, None)
    held = limits["department"]["purposes"] if isinstance(limits["department"], dict) else ()
    return [word for word in held if isinstance(word, str) and word not in {"*", *_PURPOSES}]


def _zone(policies: PolicySet, classification: str) -> str:
    vocabulary = policies.data.get("vocabulary", {})
    try:
        zones = vocabulary["classifications"][classification]["zones"]
        return next((zone for zone in zones if isinstance(zone, str) and zone != "*"), "onprem")
    except (KeyError, TypeError):
        return "onprem"
