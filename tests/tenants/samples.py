# SPDX-License-Identifier: Apache-2.0
"""How each route is asked, so that a test can try every cell of the access matrix.

A GET, HEAD or WebSocket route whose path names only what the `World` has needs no line here. Any other route needs one:
a body that is right in itself, so that nothing but the caller's rights decides the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from control_plane.auth.matrix import Relation
from tests.e2e.plane import bell
from tests.tenants.world import DEV, INVOICE, PEER, PLACES, World

Body = Callable[[World, Relation], Any]
Fresh = Callable[[World], str]


class Sample(Struct, frozen=True):
    """How a route is asked, and what it answers to somebody whom nothing keeps out.

    `good` is (status, code or None) where that isn't the route's good answer: the thing at hand may be in a state that
    refuses, which is said only to those who may see it. `denied` is the same where that is said before the policy
    engine is asked. `fresh` makes the thing that a path parameter names for each question that would use it up.
    """

    body: Body | None = None
    query: str = ""
    good: tuple[int, str | None] | None = None
    denied: tuple[int, str | None] | None = None
    fresh: Mapping[str, Fresh] = {}
    headers: Mapping[str, str] = {}


def plain(document: Any) -> Body:
    """The same body for everybody."""
    return lambda _world, _relation: document


def project_of(relation: Relation) -> str:
    """The name of a relation's project."""
    return PLACES[relation][1] if relation in PLACES else "matrix-nowhere"


REASON: Final = {"reason": "a test"}
_NONE: Final = (404, "not_found")


def _role(_: World, relation: Relation) -> dict[str, Any]:
    """A role that somebody holds in each project already."""
    place = {"issuer": DEV, "subject": "matrix-known", "role": "auditor", "project": project_of(relation)}
    return place | REASON


def _group(_: World, relation: Relation) -> dict[str, Any]:
    """A role that a group gives in each project already."""
    place = {"issuer": DEV, "group": "matrix-group", "role": "auditor", "project": project_of(relation)}
    return place | REASON


_ENDED: Final = (409, "transition_refused")

SAMPLES: Final[dict[str, Sample]] = {
    # The world's people came with tokens of their issuer: there is no provider of browsers, and no session of theirs.
    "GET /auth/callback/{provider}": Sample(good=(404, "not_found")),
    "POST /auth/backchannel/{provider}": Sample(good=(404, "not_found")),
    "POST /auth/saml/{provider}/acs": Sample(good=(404, "not_found")),
    "GET /auth/saml/{provider}/login": Sample(good=(404, "not_found")),
    "GET /auth/saml/{provider}/logout": Sample(good=(404, "not_found")),
    "GET /auth/saml/{provider}/metadata": Sample(good=(404, "not_found")),
    "POST /auth/logout": Sample(),
    "POST /auth/device": Sample(good=(403, "forbidden")),
    "POST /api/v1/auth/device": Sample(),
    "POST /api/v1/auth/device/token": Sample(plain({"device_code": "nobody's"}), good=(400, "expired_token")),
    "DELETE /api/v1/account/sessions": Sample(),
    "DELETE /api/v1/account/sessions/{session_id}": Sample(good=(404, "not_found")),
    "POST /api/v1/account/signing-keys": Sample(
        plain({"name": "a test", "jwk": {}, "proof": "a.b.c"}), good=(400, "request_invalid")
    ),
    "POST /api/v1/account/signing-keys/{key_id}/revoke": Sample(plain(REASON), good=(404, "not_found")),
    # The rights of what is in an envelope are those of its kind: see tests/e2e/test_signing.py.
    "POST /api/v1/envelopes": Sample(
        plain("no envelope"), good=(400, "envelope_invalid"), headers={"Content-Type": "application/jose"}
    ),
    "POST /api/v1/delegations": Sample(
        plain({"to": "robot", "actions": ["backend:read"], "expires_in_s": 60} | REASON)
    ),
    "DELETE /api/v1/delegations/{delegation_id}": Sample(good=(404, "not_found")),
    "POST /api/v1/actors/forget": Sample(plain({"actor": "user:nobody@nowhere"} | REASON), good=(404, "not_found")),
    # The world's jobs need no approval, and say so to whoever may see them.
    "GET /api/v1/approvals/{job_id}": Sample(good=(404, "not_found")),
    "POST /api/v1/jobs/{job_id}/approve": Sample(plain(REASON | {"expires_s": 60}), good=_ENDED, denied=_ENDED),
    "POST /api/v1/jobs/{job_id}/reject": Sample(plain(REASON), good=_ENDED, denied=_ENDED),
    "POST /api/v1/costs/reconciliations": Sample(plain(INVOICE)),
    "POST /api/v1/costs/evidence": Sample(plain({"jobs": ["nobody"]})),
    "POST /api/v1/costs/credits": Sample(
        plain({"project": "nobody", "amount": "1", "currency": "USD"} | REASON), good=(404, "not_found")
    ),
    "POST /api/v1/costs/refunds": Sample(plain({"job_id": "nobody"} | REASON), good=(409, "correction_invalid")),
    "POST /api/v1/costs/corrections": Sample(
        plain({"job_id": "nobody", "amount": "1", "currency": "USD"} | REASON), good=(409, "correction_invalid")
    ),
    "POST /api/v1/costs/shared": Sample(
        plain({"pool": "platform", "amount": "0", "currency": "USD"} | REASON), good=(400, "amount_invalid")
    ),
    "POST /api/v1/costs/months/{month}/close": Sample(plain(REASON), good=(409, "month_invalid")),
    "GET /api/v1/costs/months/{month}/statement": Sample(good=(404, "not_found")),
    "GET /api/v1/costs/months/{month}/lines": Sample(good=(404, "not_found")),
    "PUT /api/v1/costs/allocation": Sample(plain({"version": 1}), good=(400, "allocation_invalid")),
    "PUT /api/v1/budgets": Sample(
        lambda _, relation: {
            "scope": f"project:{project_of(relation) if relation.startswith('own') else 'matrix-budgeted'}",
            "amount": "1000",
            "currency": "USD",
            "period": "monthly",
        }
    ),
    "POST /api/v1/circuits/submit": Sample(lambda world, relation: world.spec(project_of(relation))),
    "POST /api/v1/jobs": Sample(lambda world, relation: world.spec(project_of(relation))),
    "POST /api/v1/enrollment/peers": Sample(
        plain(PEER),
        good=(200, None),  # the world has proposed it before
    ),
    "POST /api/v1/enrollment/peers/{peer_id}/action": Sample(plain(REASON | {"action": "approve"}), good=_ENDED),
    "POST /api/v1/jobs/{job_id}/cancel": Sample(good=(409, "too_late")),
    "POST /api/v1/jobs/{job_id}/hold": Sample(good=_ENDED),
    "POST /api/v1/jobs/{job_id}/resume": Sample(good=_ENDED),
    "POST /api/v1/jobs/{job_id}/settle": Sample(plain(REASON | {"outcome": "released"}), good=_ENDED),
    "POST /api/v1/jobs/{job_id}/erase": Sample(plain(REASON), good=(409, "retention_running")),
    "GET /api/v1/jobs/{job_id}/result/files/{name}": Sample(good=(404, "not_found")),
    "GET /api/v1/ledger/consistency": Sample(query="?from=1"),
    "POST /api/v1/plans": Sample(plain(bell())),
    "POST /api/v1/policy/revisions": Sample(
        plain({"files": {"a.rego": "package a"}, "message": "a test"}), good=(422, "policy_refused")
    ),
    "POST /api/v1/policy/shadow": Sample(plain({"files": {"a.rego": "package a"}}), good=(422, "policy_refused")),
    "DELETE /api/v1/policy/shadow": Sample(),
    "POST /api/v1/policy/log/opa": Sample(plain([])),
    # A card that is none; and no card of the world's rests on a disputed reading.
    "POST /api/v1/rates": Sample(plain({}), good=(400, "rate_card_invalid")),
    "GET /api/v1/rates/{card_hash}": Sample(good=_NONE),
    "POST /api/v1/rates/{card_hash}/accept": Sample(plain(REASON), good=_NONE),
    "POST /api/v1/reservations": Sample(lambda world, relation: world.window(project_of(relation))),
    "POST /api/v1/reservations/{reservation_id}/cancel": Sample(),
    "POST /api/v1/retention/holds": Sample(plain({"scope": "job:nothing"} | REASON)),
    "POST /api/v1/retention/holds/{hold_id}/release": Sample(
        plain(REASON), fresh={"hold_id": lambda world: world.hold("demo")}
    ),
    "POST /api/v1/auth/ldap": Sample(
        plain({"provider": "nowhere", "user": "ann", "password": "hers"}), good=(404, "not_found")
    ),
    "GET /auth/ldap/{provider}": Sample(good=(404, "not_found")),
    "POST /auth/ldap/{provider}": Sample(good=(403, "csrf_refused")),
    "POST /api/v1/projects": Sample(plain({"project": "matrix-own"} | REASON), good=(409, "conflict")),
    "PATCH /api/v1/projects/{project}": Sample(plain({"cost_center": "CC-1"} | REASON)),
    "POST /api/v1/projects/{project}/close": Sample(
        plain(REASON), fresh={"project": lambda world: world.put("reopen")}
    ),
    "POST /api/v1/projects/{project}/reopen": Sample(
        plain(REASON), fresh={"project": lambda world: world.put("close")}
    ),
    "POST /api/v1/roles/grant": Sample(_role, good=(409, "conflict")),
    "POST /api/v1/roles/revoke": Sample(
        lambda world, relation: _role(world, relation) | {"role": "finops"}, good=(404, "not_found")
    ),
    "POST /api/v1/groups/map": Sample(_group, good=(409, "conflict")),
    "POST /api/v1/groups/unmap": Sample(
        lambda world, relation: _group(world, relation) | {"role": "finops"}, good=(404, "not_found")
    ),
    "GET /api/v1/costs/export": Sample(query="?month=2026-11"),
    "POST /api/v1/tenant/export": Sample(plain(REASON)),
    "POST /api/v1/users": Sample(plain({"issuer": DEV, "subject": "matrix-known"} | REASON), good=(409, "conflict")),
    "POST /api/v1/users/{user}/remove": Sample(plain(REASON), fresh={"user": lambda world: world.person("restore")}),
    "POST /api/v1/users/{user}/restore": Sample(plain(REASON), fresh={"user": lambda world: world.person("remove")}),
    "POST /api/v1/auth/token": Sample(
        plain({}),
        good=(400, None),  # RFC 6749 wants its answer as plain JSON
    ),
    "POST /api/v1/service-accounts": Sample(lambda world, _: {"name": world.new("made")} | REASON),
    "POST /api/v1/service-accounts/{account}/remove": Sample(
        plain(REASON), fresh={"account": lambda world: world.account("demo")}
    ),
    "POST /api/v1/service-accounts/{account}/keys": Sample(
        plain(REASON), fresh={"account": lambda world: world.account("demo")}
    ),
    "POST /api/v1/service-accounts/{account}/keys/{service_key}/rotate": Sample(
        plain(REASON), fresh={"service_key": lambda world: world.service_key("demo")}
    ),
    "POST /api/v1/service-accounts/{account}/keys/{service_key}/revoke": Sample(
        plain(REASON), fresh={"service_key": lambda world: world.service_key("demo")}
    ),
    "POST /api/v1/workload-rules": Sample(
        # The world has no issuer of workloads.
        plain({"issuer": "https://ci.example", "account": "any", "claims": {"sub": "any"}} | REASON),
        good=(400, "request_invalid"),
    ),
    "POST /api/v1/workload-rules/{rule_id}/remove": Sample(plain(REASON), good=_NONE),
    "GET /openapi/{path}": Sample(good=(404, "not_found")),
}


def sample_of(method: str, path: str) -> Sample | None:
    """How a route is asked; None where nobody has written it down."""
    found = SAMPLES.get(f"{method} {path}")
    if found is None and method in ("GET", "HEAD", "WEBSOCKET"):
        return Sample()
    return found
