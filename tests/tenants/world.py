# SPDX-License-Identifier: Apache-2.0
"""A plane with two tenants and three projects, in each of which there is one of everything that a route can name.

The tests are the issuer here: they sign access tokens for whomever they want to be, with the development issuer's key.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from joserfc import jwt

from control_plane.auth.issuer import AUDIENCE
from control_plane.auth.keys import issuer_key
from control_plane.auth.matrix import Caller, Relation
from tests.control_plane.auth.test_tokens import generator
from tests.e2e import promised
from tests.e2e.plane import Answer, Plane, bell
from tests.own_plane import until

OWN, OTHER, FOREIGN = "matrix-own", "matrix-other", "matrix-foreign"
PLACES: Final[dict[str, tuple[str, str]]] = {
    "own_project": ("demo", OWN),
    "other_project": ("demo", OTHER),
    "other_tenant": ("other", FOREIGN),
}
PEER: Final = {
    "peer_id": "12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust",
    "organisation": "lab",
    "region": "eu",
    "compliance_zone": "eu-1",
    "sovereign": False,
    "price_per_fragment": "0",
    "price_per_shot": "0",
    "currency": "USD",
}
DEV: Final = "urn:qcos:issuer:dev"
INVOICE: Final = {
    "invoice": base64.b64encode(b"task,amount,currency,start\nt-1,1.45,USD,2026-10-03\n").decode(),
    "provider": "nobody",
}
NOBODY: Final = {
    "account": "nobody",
    "card_hash": "sha256:" + "0" * 64,
    "decision": str(uuid.UUID(int=7)),
    "name": "none.npy",
    "entry": str(uuid.UUID(int=7)),
    "hold_id": str(uuid.UUID(int=7)),
    "job_id": "qcos-job-2026-01-01-000000000000",
    "key_id": "A" * 43,
    "service_key": "0" * 24,
    "node_id": "12D3KooWNobodyNobodyNobodyNobodyNobodyNobodyNobodyNo",
    "peer_id": "12D3KooWNobodyNobodyNobodyNobodyNobodyNobodyNobodyNo",
    "backend_id": "nobody",
    "path": "9/000",
    "plan_id": "sha256:" + "0" * 64,
    "project": "matrix-nowhere",
    "reconciliation_id": str(uuid.UUID(int=7)),
    "reservation_id": "r-nobody",
    "revision": "sha256:" + "0" * 64,
    "user": "a-" + "0" * 32,
    "session_id": "0" * 24,
    "rule_id": "0" * 16,
    "delegation_id": "0" * 24,
}
"""An id of the right shape that names nothing."""


class World:
    """The plane, and the ids of what is in it, by relation to somebody of `demo` with a role in `OWN`."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.forger: Any = None
        self._connection = plane.connection()
        self._number = itertools.count(1)
        self._key = issuer_key(plane.home)
        self._tokens: dict[tuple[str, ...], str] = {}
        self.ids: dict[str, dict[str, str]] = {place: {} for place in PLACES}
        self.ids |= {"nobody": NOBODY, "own_tenant": {}, "plane": {}, "own": {}}

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def fill(self) -> None:
        """One of everything in each project."""
        (node,) = until(self._nodes, "the node is known, and verified")
        policy = self.ask("GET", "/policy", "demo", "quantum-admin").json
        self.ids["plane"] = {
            "backend_id": "aer",
            "node_id": node,
            "peer_id": node,
            "path": "0/000.p/1",
            "revision": policy["revision"],
            "provider": "nobody",
            "month": "9998-12",
        }
        assert self.ask("POST", "/enrollment/peers", "demo", "quantum-admin", PEER).status == 201
        for place, tenant in (("own_tenant", "demo"), ("other_tenant", "other")):
            added = {"issuer": DEV, "subject": "matrix-known", "reason": "a test"}
            self.ids[place]["user"] = self.ask("POST", "/users", tenant, "quantum-admin", added).json["user"]
            compared = self.ask("POST", "/costs/reconciliations", tenant, "quantum-admin", INVOICE)
            self.ids[place]["reconciliation_id"] = compared.json["reconciliation_id"]
        for number, (place, (tenant, project)) in enumerate(PLACES.items()):
            self._manage(tenant, project)
            budget = {"scope": f"project:{project}", "amount": "1000", "currency": "USD", "period": "monthly"}
            assert self.ask("PUT", "/budgets", tenant, "quantum-admin", budget).status == 200
            asked = self.network(project, number)
            ran = self.ask("POST", "/jobs?wait=60", tenant, "quantum-engineer", asked)
            assert ran.json["state"] == "COMPLETED", ran
            job = ran.json
            window = self.ask("POST", "/reservations", tenant, "quantum-engineer", self.window(project))
            assert window.status == 201, window
            (plan,) = self.plane_rows(f"SELECT plan_id FROM network.plan WHERE job_id = '{job['job_id']}'")
            self.ids[place] |= {
                "project": project,
                "job_id": job["job_id"],
                "decision": job["decision"]["id"],
                "entry": job["job_id"],
                "reservation_id": window.json["reservation_id"],
                "plan_id": plan[0],
            }
        self.ids["other_tenant"] |= {"hold_id": self.hold("other"), "account": self.account("other")}
        self.ids["own_tenant"]["account"] = self.account("demo")
        for place, tenant in (("own_tenant", "demo"), ("other_tenant", "other")):
            self.ids[place]["service_key"] = self.service_key(tenant)

    def _manage(self, tenant: str, project: str) -> None:
        """A project, and in it somebody and a group with a role."""
        held = {"issuer": DEV, "role": "auditor", "project": project, "reason": "a test"}
        for path, body in (
            ("/projects", {"project": project, "reason": "a test"}),
            ("/roles/grant", held | {"subject": "matrix-known"}),
            ("/groups/map", held | {"group": "matrix-group"}),
        ):
            assert self.ask("POST", path, tenant, "quantum-admin", body).status in (200, 201)

    def put(self, verb: str) -> str:
        """The own project, closed or opened first if it isn't yet."""
        self.ask("POST", f"/projects/{OWN}/{verb}", "demo", "quantum-admin", {"reason": "a test"})
        return OWN

    def person(self, verb: str) -> str:
        """Somebody of the own tenant, removed or restored first if they aren't yet."""
        user = self.ids["own_tenant"]["user"]
        self.ask("POST", f"/users/{user}/{verb}", "demo", "quantum-admin", {"reason": "a test"})
        return user

    def _nodes(self) -> list[str]:
        found = self.ask("GET", "/discovery/peers", "demo", "quantum-admin").json
        return [one["peer_id"] for one in found if all(service["verified"] for service in one["services"])]

    def plane_rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the plane's database, read as `audit`."""
        import psycopg

        from control_plane.db import Database, conninfo

        with psycopg.connect(conninfo(Database.of_home(self.plane.home / "db").audit)) as conn:
            return conn.execute(statement.encode()).fetchall()

    def network(self, project: str, number: int) -> dict[str, Any]:
        """A job for the network; each number is another circuit, and so another plan."""
        source = (
            "OPENQASM 3; qubit[2] q; bit[1] c; " + "bell_pair q[0], q[1]; " * (number + 1) + "measure q[0] -> c[0];"
        )
        return self.spec(project, circuit__source=base64.b64encode(source.encode()).decode(), backend="p2p")

    def spec(self, project: str, backend: str = "aer", **changes: Any) -> dict[str, Any]:
        """A job of a project."""
        return bell(governance__project=project, execution__backend_constraints={"backend": backend}, **changes)

    def window(self, project: str) -> dict[str, Any]:
        """A window of the node that nobody else asks for."""
        start = time.gmtime(time.time() + 120 + 30 * next(self._number))
        return {
            "node_id": self.ids["plane"]["node_id"],
            "services": ["cnot"],
            "duration_s": 10,
            "starts_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", start),
            "governance": bell()["governance"] | {"project": project},
        }

    def hold(self, tenant: str) -> str:
        """A fresh legal hold on a job that isn't there."""
        asked = {"scope": f"job:nothing-{next(self._number)}", "reason": "a test"}
        answer = self.ask("POST", "/retention/holds", tenant, "quantum-admin", asked)
        assert answer.status == 201, answer
        return str(answer.json["hold_id"])

    def new(self, what: str) -> str:
        """A name that nothing has."""
        return f"{what}-{next(self._number)}"

    def account(self, tenant: str) -> str:
        """A fresh service account."""
        name = self.new("account")
        answer = self.ask("POST", "/service-accounts", tenant, "quantum-admin", {"name": name, "reason": "a test"})
        assert answer.status == 201, answer
        return name

    def service_key(self, tenant: str) -> str:
        """The id of a fresh key of the tenant's service account."""
        account = self.ids["own_tenant" if tenant == "demo" else "other_tenant"]["account"]
        made = self.ask("POST", f"/service-accounts/{account}/keys", tenant, "quantum-admin", {"reason": "a test"})
        assert made.status == 201, made
        return str(made.json["key_id"])

    def token(self, subject: str, tenant: str, *roles: str, service: bool = False) -> str:
        """An access token of this person, as the plane's own issuer would sign it."""
        key = (subject, tenant, *roles, str(service))
        if key not in self._tokens:
            now = int(time.time())
            claims = {
                "iss": f"{self.plane.status['url']}/issuer",
                "aud": AUDIENCE,
                "sub": subject,
                "client_id": subject if service else "qcos-cli",
                "jti": str(uuid.uuid4()),
                "iat": now,
                "exp": now + 3600,
                "preferred_username": subject,
                "tenant": tenant,
                "roles": list(roles),
            }
            header = {"alg": "ES256", "typ": "at+jwt", "kid": self._key.thumbprint()}
            self._tokens[key] = jwt.encode(header, claims, self._key, algorithms=["ES256"])
        return self._tokens[key]

    def caller(self, caller: Caller) -> str | None:
        """The token of a caller of the matrix: somebody of `demo`; None for nobody."""
        if caller.role == "anonymous":
            return None
        service = caller.role == "service"
        role = "quantum-user" if service else caller.role
        held = [] if role == "none" else [role if caller.held == "tenant" else f"{role}@{OWN}"]
        return self.token(f"m-{caller.role}-{caller.held}", "demo", *held, service=service)

    def send(self, method: str, path: str, body: bytes | None, token: str | None, headers: Mapping[str, str]) -> Answer:
        """One request as it is given, a handshake too; what the OpenAPI document has is held against it."""
        sent = ({"Content-Type": "application/json"} if body is not None else {}) | dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        shaking = "Upgrade" in sent  # what follows on that connection is no HTTP
        connection = self.plane.connection() if shaking else self._connection
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, found, response.read())
        if shaking or response.will_close:
            connection.close()
        if promised.has(method, path):
            promised.hold(method, path, answer.status, answer.headers, answer.body)
        return answer

    def ask(self, method: str, path: str, tenant: str, role: str, body: Any = None) -> Answer:
        """A request below /api/v1 of somebody who holds a role in a whole tenant."""
        data = None if body is None else json.dumps(body).encode()
        return self.plane.http(method, f"/api/v1{path}", data, token=self.token(f"w-{role}", tenant, role))

    def id_of(self, parameter: str, relation: Relation) -> str:
        """What a path parameter is for a relation; KeyError where the world has none."""
        if relation in ("any", "plane"):
            return self.ids["plane"][parameter]
        return self.ids[relation].get(parameter) or NOBODY.get(parameter) or self.ids["own_project"][parameter]


@contextlib.contextmanager
def world(**settings: str) -> Iterator[World]:
    """A plane of its own, filled; it is stopped afterwards. It trusts the issuer of the forged tokens' vectors, too."""
    plane = Plane(QCOS_WORKERS="1", QCOS_NODES="1", QCOS_QPY="true", **settings)
    with issuing() as forger:
        config = plane.folder / "qcos.toml"
        table = f'[[oidc]]\nissuer = "{forger.ISSUER}"\naudience = "{forger.AUDIENCE}"\ntenant = "demo"\n'
        config.write_text(table)
        plane.environment["QCOS_CONFIG"] = str(config)
        try:
            plane.start()
            made = World(plane)
            made.forger = forger
            with contextlib.closing(made):
                made.fill()
                yield made
        finally:
            plane.stop()


@contextlib.contextmanager
def issuing() -> Iterator[Any]:
    """The module that makes the forged tokens, for now and for an issuer that is there: its keys are served."""

    class Served(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"issuer": forger.ISSUER, "jwks_uri": f"{forger.ISSUER}/keys"}
            body = json.dumps(forger.jwks() if self.path.endswith("/keys") else found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    forger = generator()
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        forger.anew(int(time.time()), f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield forger
        finally:
            server.shutdown()
            thread.join()
