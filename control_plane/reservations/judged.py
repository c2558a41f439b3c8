# SPDX-License-Identifier: Apache-2.0
"""A window without a job before policy: the document, the decision, and what a denial leaves behind (G2, I5).

The document is that of a job which runs nothing, would go to the network alone, and to this one node: so each rule on
roles, purposes, departments, zones and budgets holds for windows too. It costs nothing, for nothing is executed; what
bounds it is the number of windows that a project may have.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec

import finops.store
import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import denials, quote
from control_plane.jobs import store as jobs
from control_plane.jobs.admit import decided
from control_plane.jobs.pricing import cards_of, priced
from control_plane.jobs.vault import Sealed
from control_plane.policy.decision import Decision, Reason, problem_code
from control_plane.policy.document import time_judged
from control_plane.reservations import store
from control_plane.reservations.asked import Window, WindowAsked
from finops.budget import in_reach
from hal_drivers.p2p.plan import NodeFacts
from ledger.chain import Pending

ACTION = "reservation:create"


class Judged(msgspec.Struct, frozen=True):
    """An allowed window: the decision, its entry, and the sealed document that it was made on."""

    decision: Decision
    entry: Pending
    input: Sealed


async def judge(
    plane: Plane,
    who: Principal,
    reservation_id: str,
    asked: WindowAsked,
    window: Window,
    node: NodeFacts,
    at: dt.datetime,
) -> Judged:
    """What policy says; raises its denial, which is recorded, as Refused, PolicyUnavailable, or DenialQuota."""
    document = await _document(plane, who, asked, window, node, at)
    decision = await plane.pdp.decide(document, str(uuid.uuid4()), at)
    await plane.vault.ready(plane.engine, who.tenant)
    (sealed,) = plane.vault.seal(who.tenant, (decision.input,))
    about = {"action": ACTION, "reservation_id": reservation_id}
    entry = decided(who.tenant, who.pseudonym, about, decision, sealed.commitment, at)
    if decision.allow:
        return Judged(decision, entry, sealed)
    await denials.count(plane, who, ((entry, None),), (sealed.blob,), decision, at)
    async with plane.transaction(who.tenant) as conn:
        await ledger.store.append(conn, [(entry, None)], [sealed.blob])
    shown = decision.document()
    extras = {"decision_id": decision.id, "decision": shown, "reasons": shown["reasons"]}
    raise Refused(problem_code(decision), "; ".join(map(_why, decision.reasons)), extras=extras)


async def _document(
    plane: Plane, who: Principal, asked: WindowAsked, window: Window, node: NodeFacts, at: dt.datetime
) -> dict[str, Any]:
    governance = asked.governance
    tariff = await plane.known.tariff(plane.engine, who.tenant, at)
    rows = [row for row in await plane.known.backends(plane.engine) if row["provider"] == quote.NETWORK]
    candidates = priced(rows, cards_of(tariff, rows), 0, plane.settings.job_deadline_s, {}, 0, {})
    used, windows, budgets = await plane.read(
        who.tenant,
        jobs.usage(team=who.team, project=governance.project, at=at),
        store.live_of(governance.project),
        finops.store.applicable(
            who.tenant,
            project=governance.project,
            cost_center=governance.cost_center,
            user=who.called,
            provider=quote.NETWORK,
            at=at,
        ),
    )
    if used[0]["closed"]:
        raise quote.closed(governance.project)
    views = finops.store.views(budgets)
    currency = quote.currency_of(views, candidates)
    zone = {name: getattr(node, name) for name in ("organisation", "region", "compliance_zone", "sovereign")}
    return {
        "action": ACTION,
        "principal": quote.principal_judged(who, governance.project),
        "job": msgspec.structs.asdict(governance)
        | {
            "format": "",
            "shots": 0,
            "executions": 0,
            "qubits": asked.qubits,
            "max_depth": None,
            "evidence_level": "",
            "retention_days": 0,
            "allowed_providers": [quote.NETWORK],
            "backend": None,
            "services": sorted(set(asked.services)),
        },
        "price": {"amount": "0", "currency": currency, "micros": 0},
        **quote.budgets_judged([one for one in views if in_reach(one.mode, one.currency, currency)]),
        "usage": msgspec.to_builtins(jobs.used(used[0])) | {"windows": windows[0]["windows"]},
        "backends": [quote.backend_judged(candidate) for candidate in candidates],
        "nodes": [{"id": node.node_id, **zone}],
        "plan": None,
        "window": {
            "node": node.node_id,
            "services": sorted(set(asked.services)),
            "starts_in_ms": max(0, (window.starts_at - at) // dt.timedelta(milliseconds=1)),
            "duration_ms": (window.ends_at - window.starts_at) // dt.timedelta(milliseconds=1),
        },
        "time": time_judged(at),
    }


def _why(reason: Reason) -> str:
    text = f"{reason.message} ({reason.rule})"
    return f"{text}; {reason.fix}" if reason.fix else text
