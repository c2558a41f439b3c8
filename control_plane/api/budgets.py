# SPDX-License-Identifier: Apache-2.0
"""Budgets: show and set (G7). A change is a ledger entry in the transaction of the change (G5)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, put
from litestar.di import NamedDependency
from msgspec import UNSET, Meta, Struct, UnsetType

import finops.store
import ledger.store
from control_plane import crash
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Budget
from control_plane.auth.access import may, require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.jobs.store import numeric
from control_plane.notices import channels
from finops import money
from finops.budget import MAX_PER_CENT, MAX_THRESHOLDS, Mode, parse_scope
from ledger.chain import Pending


def _pattern(pattern: str) -> dict[str, str]:
    """For the schema alone: `finops` judges, with its own codes."""
    return {"pattern": pattern}


_SCOPE = (
    "^((project|cost_center|workflow|session|provider):[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}"
    "|user:[A-Za-z0-9][A-Za-z0-9._+-]{0,63}(@[a-z0-9][a-z0-9._-]{0,62})?|tenant:[!-~]([ -~]{0,126}[!-~])?)$"
)
_PERIOD = (
    "^(monthly|quarterly|total|concurrent|rolling:([1-9][0-9]{0,2}|[12][0-9]{3}|3([0-5][0-9]{2}|6([0-5][0-9]|60))))$"
)


PerCent = Annotated[int, Meta(ge=1, le=MAX_PER_CENT)]


class BudgetRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a budget shall be; the amount is a decimal string. What isn't given of the last three stays as
    it is; `notify` null is every table with `budgets = true`, as of a new budget.
    """

    scope: Annotated[str, Meta(extra_json_schema=_pattern(_SCOPE))]
    amount: Annotated[str, Meta(extra_json_schema=_pattern(r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$"))]
    currency: Annotated[
        str,
        Meta(description="A currency, `shots` or `jobs`.", extra_json_schema=_pattern("^([A-Z]{3}|shots|jobs)$")),
    ]
    period: Annotated[str, Meta(extra_json_schema=_pattern(_PERIOD))] = "monthly"
    mode: Mode | None = None
    thresholds: Annotated[tuple[PerCent, ...], Meta(description="Ascending.", max_length=MAX_THRESHOLDS)] | None = None
    notify: (
        Annotated[
            tuple[Annotated[str, Meta(extra_json_schema=_pattern("^[a-z0-9][a-z0-9-]{0,62}$"))], ...],
            Meta(description="Names of [[notify]] and [[mail]] tables that alerts go to.", max_length=16),
        ]
        | UnsetType
        | None
    ) = UNSET


_decoder = msgspec.json.Decoder(BudgetRequest)


@get(
    "/budgets",
    opt={"action": "budget:read", "answers": Answers({200: tuple[Budget, ...]})},
    summary="Budgets with what is held and captured",
)
async def show_budgets(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """The budgets that the caller may see, in their present window."""
    async with plane.transaction(request.user.tenant) as conn:
        views = await finops.store.show(conn, request.user.tenant, plane.now())
    return Response([_shown(view) for view in views if visible(request.user, view.scope)])


@put(
    "/budgets",
    opt={
        "action": "budget:set",
        "where": "project",
        "answers": Answers(
            {200: tuple[Budget, ...]},
            refusals=("amount_invalid", "budget_invalid", "currency_mismatch"),
            body=BudgetRequest,
        ),
    },
    summary="Set a budget",
)
async def set_budget(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Set a budget's limit, mode and thresholds; a limit below its spend is allowed and stops new holds."""
    asked = await asked_by(request, _decoder)
    scope = parse_scope(asked.scope)
    require(request.user, "budget:set", scope.name if scope.kind == "project" else None)
    now = plane.now()
    async with plane.transaction(request.user.tenant) as conn:
        changed = await finops.store.set_budget(
            conn,
            request.user.tenant,
            asked.scope,
            asked.period,
            money.parse(asked.amount, "amount"),
            asked.currency,
            mode=asked.mode,
            thresholds=asked.thresholds,
            notify=channels.known(plane.settings.channels, asked.notify) if asked.notify else asked.notify,
        )
        crash.point("budget.changed")
        entry = Pending(
            entry_id=str(uuid.uuid4()),
            tenant=request.user.tenant,
            kind="budget:set",
            actor=request.user.pseudonym,
            time=now,
            body=changed.body(),
        )
        await ledger.store.append(conn, [(entry, None)])
        crash.point("budget.told")
        views = await finops.store.show(conn, request.user.tenant, now)
    crash.point("budget.done")
    return Response([_shown(view) for view in views if view.scope == asked.scope])


def visible(principal: Principal, scope: str) -> bool:
    """Whether they may see budgets of this scope."""
    parsed = parse_scope(scope)
    return may(principal, "budget:read", parsed.name if parsed.kind == "project" else None)


def _shown(view: Any) -> dict[str, Any]:
    amounts = {name: numeric(getattr(view, name)) for name in ("limit", "held", "captured", "available")}
    return {
        "scope": view.scope,
        "period": view.period,
        **amounts,
        "currency": view.currency,
        "mode": view.mode,
        "thresholds": list(view.thresholds),
        "notify": None if view.notify is None else list(view.notify),
    }


HANDLERS = (show_budgets, set_budget)
