# SPDX-License-Identifier: Apache-2.0
"""G13, S1: one table, one guard; a route without a rule does not start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AuthenticationResult
from litestar.middleware.authentication import AbstractAuthenticationMiddleware
from litestar.testing import AsyncTestClient

from control_plane.auth.access import (
    ACTIONS,
    PATH,
    check_routes,
    guard,
    may,
    may_anywhere,
    parse_permissions,
    permissions,
    require,
    tolerated,
    visible,
)
from control_plane.auth.errors import Forbidden, RouteWithoutRule, Unauthenticated
from control_plane.auth.principal import ROLES, Assignment, Principal, named, parse_role, pseudonym_of
from control_plane.policy.revision import load

# role: actions, in the order backend:read … whoami of ACTIONS sorted; x = allowed in a project where the role is held.
GOLDEN = """
                    auditor  finops  quantum-admin  quantum-engineer  quantum-user  (none)
account:own            x       x           x               x               x          x
accounting:read        x       x           x               x               x          .
backend:read           x       x           x               x               x          x
budget:read            x       x           x               x               x          .
budget:set             .       .           x               .               .          .
cost:manage            .       x           x               .               .          .
cost:read              x       x           x               x               .          .
delegation:own         x       x           x               x               x          x
evidence:read          x       .           x               x               x          .
job:approve            .       .           x               .               .          .
job:cancel             .       .           x               x               x          .
job:hold               .       .           x               x               x          .
job:read               x       .           x               x               x          .
job:settle             .       .           x               .               .          .
job:submit             .       .           .               x               x          .
ledger:checkpoint      x       x           x               x               x          x
ledger:read            x       .           x               .               .          .
network:enroll         .       .           x               .               .          .
network:propose        .       .           x               x               .          .
network:read           x       x           x               x               x          x
policy:push            .       .           x               .               .          .
policy:read            x       .           x               x               .          .
project:manage         .       .           x               .               .          .
project:read           x       x           x               x               x          .
rates:accept           .       .           x               .               .          .
rates:push             .       x           x               .               .          .
rates:read             x       x           x               x               .          .
reservation:cancel     .       .           x               x               .          .
reservation:create     .       .           x               x               .          .
reservation:read       x       .           x               x               x          .
result:read            x       .           .               x               x          .
retention:erase        .       .           x               .               .          .
retention:hold         x       .           x               .               .          .
retention:read         x       .           x               .               .          .
service:manage         .       .           x               .               .          .
service:read           x       .           x               x               .          .
tenant:export          .       .           x               .               .          .
tenant:manage          .       .           x               .               .          .
tenant:read            x       x           x               .               .          .
trust:read             x       x           x               x               x          x
user:manage            .       .           x               .               .          .
user:read              x       .           x               .               .          .
whoami                 x       x           x               x               x          x
"""


def person(*roles: Assignment) -> Principal:
    """Somebody with these roles."""
    alice = Principal("alice", "alice", "acme", "acme", "https://idp.example", "a-1")
    return alice.holding(roles)


def test_the_permission_matrix_is_the_one_that_was_agreed() -> None:
    """G13: role × action, whole; a change of the table shows here."""
    header, *rows = GOLDEN.strip("\n").splitlines()
    columns = header.split()
    assert {row.split()[0] for row in rows} == ACTIONS
    assert {*columns} == {*ROLES, "(none)"}
    for row in rows:
        action, *cells = row.split()
        for role, cell in zip(columns, cells, strict=True):
            holder = person() if role == "(none)" else person(Assignment(role, "p"))
            assert may(holder, action, "p") == (cell == "x"), (role, action)


@given(st.sampled_from(sorted(ROLES)), st.sampled_from(sorted(ACTIONS)))
def test_a_role_in_one_project_says_nothing_of_another_or_of_the_tenant(role: str, action: str) -> None:
    """G13: roles are per project; a tenant-wide question needs a tenant-wide role."""
    local, wide, nobody = person(Assignment(role, "p")), person(Assignment(role)), person()
    for elsewhere in ("q", "P", "p ", "", None):
        assert may(local, action, elsewhere) == may(nobody, action, elsewhere)
    assert may(wide, action, "q") == may(wide, action, None) == may(local, action, "p")
    assert may_anywhere(local, action) == may(local, action, "p")


@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.sampled_from(["p", "q", None])), max_size=6))
def test_what_is_visible_is_where_one_may(held: list[tuple[str, str | None]]) -> None:
    """G13: the list of projects and the single question never disagree; more roles never allow less."""
    who = person(*(Assignment(*one) for one in held))
    for action in ACTIONS:
        seen = visible(who, action)
        for project in ("p", "q", "r"):
            assert may(who, action, project) == (seen is None or project in seen)
            assert not may(person(*(Assignment(*one) for one in held[1:])), action, project) or may(
                who, action, project
            )


@pytest.mark.parametrize("action", ["", "job:*", "*", "JOB:READ", "job:read ", "public", "job:delete"])
def test_an_action_that_the_table_does_not_know_is_nobodys(action: str) -> None:
    """I5: undefined is no."""
    everything = person(*(Assignment(role) for role in ROLES))
    assert not may(everything, action, "p")
    assert visible(everything, action) == frozenset()
    with pytest.raises(Forbidden):
        require(everything, action, "p")


def test_a_role_that_the_plane_does_not_know_is_left_out() -> None:
    """G13: issuers list roles of other systems; none of them means anything here."""
    for text in (
        "admin",
        "quantum-admin ",
        "Quantum-Admin",
        "quantum-admin@",
        "quantum-admin@../p",
        "@p",
        "",
        "root@p@q",
    ):
        assert parse_role(text) is None
    assert parse_role("auditor@p.1") == Assignment("auditor", "p.1")
    assert person(Assignment("root"), Assignment("root", "p")).roles_in("p") == ()


def _broken(change: Any) -> bytes:
    table = json.loads(load().files[PATH])
    change(table["permissions"])
    return json.dumps(table).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["roles"].pop("auditor"),
        lambda t: t["roles"].update(root=["whoami"]),
        lambda t: t["roles"]["auditor"].append("job:delete"),
        lambda t: t["signed_in"].remove("whoami"),
        lambda t: t.update(extra=[]),
        lambda t: t.pop("decided_by_policy"),
        lambda t: t["roles"].update(auditor="job:read"),
        lambda t: t["decided_by_policy"].append("retention:erase"),
    ],
)
def test_a_broken_table_does_not_load(change: Any) -> None:
    """I5: a role, action or key too many or too few stops the start."""
    with pytest.raises(ValueError, match=r".+"):
        parse_permissions(_broken(change))
    assert parse_permissions(_broken(lambda _: None)) == permissions()


def test_a_table_of_another_release_grants_what_both_know() -> None:
    """I5: policies outlive a program; a new action is nobody's until somebody grants it, a lost one means nothing."""
    table = tolerated(_broken(lambda t: (t["roles"]["auditor"].append("mood:read"), t["signed_in"].remove("whoami"))))
    assert table.roles == permissions().roles
    assert table.signed_in == permissions().signed_in - {"whoami"}
    assert not tolerated(_broken(lambda t: t["roles"].pop("finops"))).roles["finops"]


class _Doorman(AbstractAuthenticationMiddleware):
    """Signs in whoever names roles in a header."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        text = connection.headers.get("x-roles")
        held = [] if text is None else [Assignment(*one.split("@")) for one in text.split()]
        return AuthenticationResult(user=None if text is None else person(*held), auth=None)


@get("/jobs", opt={"action": "job:read"})
async def read_jobs() -> str:
    return "jobs"


@post("/jobs", opt={"action": "job:submit"}, status_code=202)
async def submit() -> str:
    return "job"


@get("/health", opt={"action": "public"})
async def health() -> str:
    return "ok"


@get("/forgotten")
async def forgotten(request: Request[Any, Any, Any]) -> str:
    return "secret"


@get("/misspelt", opt={"action": "jobs:read"})
async def misspelt() -> str:
    return "secret"


@websocket("/events")
async def events(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()


def app(*handlers: BaseRouteHandler, guarded: bool = True) -> Litestar:
    """An API with these routes, errors answered by status."""
    return Litestar(
        route_handlers=list(handlers),
        guards=[guard] if guarded else [],
        middleware=[_Doorman],
        openapi_config=None,
        exception_handlers={Unauthenticated: _answer, Forbidden: _answer},
    )


def _answer(_: Any, error: Exception) -> Any:
    from litestar import Response

    return Response(
        content={"code": getattr(error, "code", "")},
        status_code=401 if isinstance(error, Unauthenticated) else 403,
    )


def test_a_plane_whose_routes_all_have_a_rule_starts() -> None:
    """G13: coverage is checked, automatic OPTIONS answers aside."""
    check_routes(app(read_jobs, submit, health))


@pytest.mark.parametrize("handler", [forgotten, misspelt, events], ids=["no rule", "unknown action", "websocket"])
def test_a_route_without_a_rule_does_not_start(handler: BaseRouteHandler) -> None:
    """G13: the error names the route."""
    with pytest.raises(RouteWithoutRule, match=r"/(forgotten|misspelt|events)"):
        check_routes(app(read_jobs, handler))


def test_a_route_outside_the_guard_does_not_start() -> None:
    """G13: a rule that nobody asks is none."""
    with pytest.raises(RouteWithoutRule, match="no guard"):
        check_routes(app(read_jobs, guarded=False))
    check_routes(app(health, guarded=False))


async def test_the_guard_at_the_door() -> None:
    """G13, S1: nobody 401, the wrong role 403, the right one in; a submission goes on to the policy engine."""
    async with AsyncTestClient(app(read_jobs, submit, health, forgotten)) as client:

        async def status(method: str, path: str, roles: str | None) -> int:
            headers = {} if roles is None else {"x-roles": roles}
            return (await client.request(method, path, headers=headers)).status_code

        assert await status("GET", "/health", None) == 200
        assert await status("GET", "/jobs", None) == 401
        assert await status("GET", "/jobs", "") == 403
        assert await status("GET", "/jobs", "finops") == 403
        assert await status("GET", "/jobs", "auditor") == 200
        assert await status("GET", "/jobs", "quantum-user@p") == 200
        # The policy engine decides and records it, so that a refusal has evidence; the door asks only who it is.
        assert await status("POST", "/jobs", None) == 401
        assert await status("POST", "/jobs", "auditor") == 202
        # Had `check_routes` not been called, the route would be shut all the same.
        assert await status("GET", "/forgotten", "quantum-admin") == 403
        assert await status("OPTIONS", "/jobs", None) == 204


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alice", "alice@acme"),
        ("alice@uni.example", "alice@uni.example"),
        ("Alice.B@UNI.example", "Alice.B@uni.example"),
        ("alice@other", "sub-"),
        ("alice@", "sub-"),
        ("@uni.example", "sub-"),
        ("alice\n", "sub-"),
        ("alice smith", "sub-"),
        ("alice@a@b.example", "sub-"),
        ("аlice", "sub-"),
        ("alice@uni..example", "sub-"),
        ("a" * 65, "sub-"),
    ],
)
def test_an_actor_is_plain_text_that_can_not_claim_another_tenant(text: str, shown: str) -> None:
    """G3, I7: `user:NAME@DOMAIN`; what could mislead a reader becomes a hash of the subject."""
    name, domain = named(text, tenant="acme", subject="s")
    assert f"{name}@{domain}".startswith(shown)
    assert domain == "acme" or "." in domain


def test_a_pseudonym_is_one_persons_and_says_nothing() -> None:
    """G3: stable per tenant, issuer and subject, whichever way the three are cut; different under another key."""
    key = bytes(32)
    first = pseudonym_of(key, tenant="a", issuer="b", subject="c")
    assert first == pseudonym_of(key, tenant="a", issuer="b", subject="c")
    others = [("a", "b", "d"), ("a", "bc", ""), ("ab", "", "c"), ("a", 'b","c', "")]
    assert first not in {pseudonym_of(key, tenant=t, issuer=i, subject=s) for t, i, s in others}
    assert first != pseudonym_of(bytes(31) + b"1", tenant="a", issuer="b", subject="c")
