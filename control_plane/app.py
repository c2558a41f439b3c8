# SPDX-License-Identifier: Apache-2.0
"""Builds the Litestar app: the one place where an API process's parts are wired.

A request passes the door (identity, rights from the database, rate and byte limits), the guard (its route's action), a
thin handler, and on the way out one mapping of every error to RFC 9457. The same app serves TCP and the Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, Router, get
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig

from control_plane.answers import answer, methods_told
from control_plane.api import account as account_routes
from control_plane.api import accounting as accounting_routes
from control_plane.api import approvals as approval_routes
from control_plane.api import backends as backend_routes
from control_plane.api import budget_alerts, cost_estimates, cost_evidence, cost_export, events, results, submission
from control_plane.api import budgets as budget_routes
from control_plane.api import costs as cost_routes
from control_plane.api import credits as credits_routes
from control_plane.api import decisions as decision_routes
from control_plane.api import delegations as delegation_routes
from control_plane.api import device as device_routes
from control_plane.api import directory as directory_routes
from control_plane.api import enrollment as enrollment_routes
from control_plane.api import entries as entry_routes
from control_plane.api import envelopes as envelope_routes
from control_plane.api import exchange as exchange_routes
from control_plane.api import forecasts as forecast_routes
from control_plane.api import issuer as issuer_routes
from control_plane.api import jobs as job_routes
from control_plane.api import ledger as ledger_routes
from control_plane.api import login as login_routes
from control_plane.api import months as months_routes
from control_plane.api import network as network_routes
from control_plane.api import plane as plane_routes
from control_plane.api import policies as policy_routes
from control_plane.api import projects as project_routes
from control_plane.api import rates as rate_routes
from control_plane.api import reconciliations as reconciliation_routes
from control_plane.api import reservations as reservation_routes
from control_plane.api import retention as retention_routes
from control_plane.api import roles as role_routes
from control_plane.api import saml as saml_routes
from control_plane.api import services as service_routes
from control_plane.api import shadow as shadow_routes
from control_plane.api import sidecar as sidecar_routes
from control_plane.api import signing_keys as signing_key_routes
from control_plane.api import tenant as tenant_routes
from control_plane.api import users as user_routes
from control_plane.auth.access import check_routes, guard
from control_plane.auth.assertions import Assertions
from control_plane.auth.issuer import LocalIssuer
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.ldap.logins import LdapLogins
from control_plane.auth.logins import Logins
from control_plane.auth.oidc import Authenticator
from control_plane.auth.recognise import Recogniser
from control_plane.auth.saml.logins import SamlLogins
from control_plane.context import Plane, open_plane
from control_plane.db import FAULTS, Database
from control_plane.door import Door
from control_plane.environment import qcos_version
from control_plane.jobs.live import Live
from control_plane.network.fabric import Fabric
from control_plane.openapi import document_of
from control_plane.policy.offer import Offer
from control_plane.services.exchange import Desk
from control_plane.settings import Settings
from hal_drivers.p2p.reader import Reader

PREFIX = "/api/v1"
PARTS = ("plane", "live", "fabric", "reader", "offer", "desk", "logins", "directories", "saml")
"""What handlers ask for by name."""


def build(settings: Settings, database: Database) -> Litestar:
    """The app of one API process; refuses to be built with a route that has no rule."""
    url = settings.url or f"http://{settings.http_host}:{settings.http_port}"
    local = LocalIssuer.opened(settings.home, url=url, profile=settings.profile) if settings.local_issuer else None
    plane = open_plane(settings, database, connections=settings.database_connections, name="qcos-api")
    live = Live(plane, database.app)
    fabric = Fabric(settings)
    reader = Reader(settings.circuit_limits, require_walls=settings.profile != "dev")
    authenticator = Authenticator(
        settings.oidc,
        pseudonym_key=pseudonym_key(settings.home),
        local=local.trusted() if local is not None else None,
        leeway_s=settings.clock_skew_s,
    )
    door = Door(plane, Recogniser(plane.engine, authenticator, plane.now))
    assertions = Assertions(settings.oidc, leeway_s=settings.clock_skew_s)
    desk = Desk(plane, door.recogniser, assertions, pseudonym_key(settings.home))
    offer = Offer(plane.engine, plane.pdp.held)
    logins = Logins(settings, authenticator, pseudonym_key(settings.home))
    saml = SamlLogins(settings, pseudonym_key(settings.home), plane.now)
    parts = {"plane": plane, "live": live, "fabric": fabric, "reader": reader, "offer": offer, "desk": desk}
    directories = LdapLogins(settings, plane.engine, pseudonym_key(settings.home), plane.now)
    app = assemble(
        settings,
        door,
        parts | {"local": local, "logins": logins, "directories": directories, "saml": saml},
        [running(plane, live, fabric, reader, door, (logins, assertions, directories))],
    )

    def leave() -> None:
        live.leave()
        fabric.leave()
        offer.leave()

    app.state.leave = leave
    check_routes(app)
    return app


def assemble(settings: Settings, door: Any, parts: dict[str, Any], lifespan: list[Any]) -> Litestar:
    """Routes, limits, error mapping and OpenAPI around given parts; `openapi` builds it with none."""
    handlers: list[Any] = [
        *account_routes.HANDLERS,
        *device_routes.HANDLERS,
        *directory_routes.HANDLERS,
        *submission.HANDLERS,
        *job_routes.HANDLERS,
        *approval_routes.HANDLERS,
        *results.HANDLERS,
        *events.HANDLERS,
        *ledger_routes.HANDLERS,
        *entry_routes.HANDLERS,
        *budget_routes.HANDLERS,
        *rate_routes.HANDLERS,
        *cost_routes.HANDLERS,
        *budget_alerts.HANDLERS,
        *cost_estimates.HANDLERS,
        *cost_evidence.HANDLERS,
        *cost_export.HANDLERS,
        *accounting_routes.HANDLERS,
        *forecast_routes.HANDLERS,
        *reconciliation_routes.HANDLERS,
        *credits_routes.HANDLERS,
        *months_routes.HANDLERS,
        *backend_routes.HANDLERS,
        *decision_routes.HANDLERS,
        *delegation_routes.HANDLERS,
        *enrollment_routes.HANDLERS,
        *network_routes.HANDLERS,
        *reservation_routes.HANDLERS,
        *retention_routes.HANDLERS,
        *service_routes.HANDLERS,
        *exchange_routes.HANDLERS,
        *plane_routes.HANDLERS,
        *policy_routes.HANDLERS,
        *project_routes.HANDLERS,
        *role_routes.HANDLERS,
        *shadow_routes.HANDLERS,
        *sidecar_routes.HANDLERS,
        *tenant_routes.HANDLERS,
        *user_routes.HANDLERS,
        *signing_key_routes.HANDLERS,
        *envelope_routes.HANDLERS,
        openapi_document,
    ]
    api = Router(PREFIX, route_handlers=handlers)
    dependencies = {
        name: Provide(_given(part), sync_to_thread=False) for name, part in parts.items() if name != "local"
    }
    shown = [*login_routes.HANDLERS, *device_routes.PAGES, *directory_routes.PAGES]
    pages = Router("/auth", route_handlers=shown, include_in_schema=False)
    saml = Router("/auth/saml", route_handlers=list(saml_routes.HANDLERS), include_in_schema=False)
    routes: list[Any] = [plane_routes.root, api, pages, saml]
    if parts.get("local") is not None:
        routes += issuer_routes.handlers(parts["local"], settings.home)
    return Litestar(
        route_handlers=routes,
        dependencies=dependencies,
        guards=[guard],
        middleware=[door.middleware, methods_told] if door is not None else [],
        exception_handlers={Exception: answer},
        request_max_body_size=settings.max_body_bytes,
        # Litestar mounts its own pages beside the document; they are as public as it is, and out of the schema.
        openapi_config=OpenAPIConfig(
            title="QCOS",
            version=qcos_version(),
            render_plugins=[],
            use_handler_docstrings=True,
            openapi_router=Router("/openapi", route_handlers=[], include_in_schema=False, opt={"action": "public"}),
        ),
        lifespan=lifespan,
        logging_config=None,
        debug=False,
    )


def _given(part: Any) -> Any:
    def provide() -> Any:
        return part

    return provide


def running(plane: Plane, live: Live, fabric: Fabric, reader: Reader, door: Door, more: Sequence[Any]) -> Any:
    """What runs beside the requests of a process, and is closed after them, as `more` is."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        with contextlib.suppress(*FAULTS):
            await plane.sealing.look(plane)
        assert plane.watch is not None
        with contextlib.suppress(*FAULTS):
            await plane.watch.look()
        loops = (live.serve(), plane.sealing.serve(plane), plane.watch.serve(), fabric.serve())
        beside = [asyncio.create_task(loop) for loop in loops]
        try:
            async with reader:
                yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await door.recogniser.close()
            for one in more:
                await one.close()
            await plane.pdp.close()
            await plane.engine.dispose()

    return lifespan


@get(
    "/openapi.json",
    opt={"action": "public"},
    include_in_schema=False,
    summary="This API",
)
async def openapi_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The same bytes as docs/openapi.json; made once a process: anybody may ask, and it takes a tenth of a second."""
    state = request.app.state
    if "document" not in state:
        state["document"] = document_of(request.app)
    return Response(state["document"], media_type="application/json")


def routes() -> Litestar:
    """The app without a plane: its routes, of which each has a rule."""
    app = assemble(Settings(), None, dict.fromkeys(PARTS), [])
    check_routes(app)
    return app


def openapi() -> bytes:
    """The document without a plane: what `docs/openapi.json` holds."""
    return document_of(routes())


def create_app(settings: Settings, name: str) -> Litestar:
    """The app of the process `name`, which `up` has started."""
    del name  # every API process is alike
    return build(settings, Database.of_home(settings.home / "db"))
