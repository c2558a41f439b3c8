# SPDX-License-Identifier: Apache-2.0
"""A job's hold, made right for the backend that will run it (design path step 5, I3, G7).

At admission nobody knows which provider will be paid, so only what the job's names touch is held. At the dispatch gate
the budgets of the chosen provider join, in the windows of the admission, those of a provider that failed leave, and
the amount becomes what the compiled job may cost there. The move that hands the job on makes the hold so, or doesn't
happen. What is looked at before it is a snapshot: it saves compiling for a backend that can't be afforded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import finops.store
from control_plane.context import Plane
from control_plane.jobs.routing import Candidate
from finops.books import Share
from finops.budget import QUOTAS, BudgetView, in_reach, share, windows
from finops.holds import Exceeded, Held

WORTH = 2  # a hold that is too large is made smaller alone where only one part in so many of it is needed


class NoRoom(Exception):
    """The hard budgets that don't hold what a job may cost at any backend that it may use now; it can wait for room."""

    def __init__(self, short: Exceeded) -> None:
        """Carry which, and with how much left."""
        super().__init__(short.detail)
        self.short, self.code, self.detail = short, short.code, short.detail


def remade(job: Mapping[str, Any], provider: str, amount: Decimal) -> Held | None:
    """The job's hold for this provider and amount; None where the one that it has will do."""
    now = job["hold"]
    ours, had = _sold_by(job, provider), dict(zip(now["budgets"], now["windows"], strict=True))
    moment = windows(job["submitted_at"])
    kept = {name: window for name, window in had.items() if name not in {one["id"] for one in job["providers"]}}
    joined = {one["id"]: had.get(one["id"], moment.of(one["period"])) for one in ours}
    held = Decimal(now["amount"])
    if kept | joined == had and amount <= held < WORTH * amount:
        return None
    quoted = now["shots"] is not None or any(one["unit"] in QUOTAS for one in ours)
    shares = tuple(Share(*pair) for pair in sorted((kept | joined).items(), key=lambda pair: pair[0].encode()))
    return Held(job["job_id"], amount, now["currency"], shares, Decimal(job["executions"] if quoted else 0))


def follow(job: dict[str, Any], held: Held) -> None:
    """The job as it is once its hold is made so."""
    job["hold"] = job["hold"] | {
        "amount": str(held.amount),
        "budgets": [one.id for one in held.budgets],
        "windows": [one.window for one in held.budgets],
        "shots": str(held.shots) if held.shots else None,
    }


async def short(
    plane: Plane, job: Mapping[str, Any], candidates: Sequence[Candidate]
) -> dict[str, tuple[str, Exceeded | None]]:
    """Backend → why a hold for it wouldn't be granted now, of those that would need another hold than the job has."""
    wanted = {one.id: remade(job, one.provider, one.price) for one in candidates if one.price is not None}
    if not any(wanted.values()):
        return {}
    named = sorted({one.id for held in wanted.values() if held is not None for one in held.budgets})
    (rows,) = await plane.read(job["tenant"], finops.store.named(job["tenant"], named, job["submitted_at"]))
    standing = {view.budget_id: view for view in finops.store.views(rows)}
    found: dict[str, tuple[str, Exceeded | None]] = {}
    for backend, held in wanted.items():
        if held is None:
            continue
        views = [standing[one.id] for one in held.budgets if one.id in standing]
        strange = sorted({view.scope for view in views if view.counts == "money" and view.currency != held.currency})
        if strange:
            found[backend] = f"prices here are in {held.currency}, not as the budget of {', '.join(strange)}", None
        elif lacking := _lacking(job, held, views):
            found[backend] = lacking.detail, lacking
    return found


def _lacking(job: Mapping[str, Any], held: Held, views: Sequence[BudgetView]) -> Exceeded | None:
    """As `finops.rehold` judges it."""
    now = job["hold"]
    lacking = []
    for view in views:
        asked, had = share(view.currency, held.amount, held.shots), Decimal(0)
        if view.budget_id in now["budgets"]:
            had = share(view.currency, Decimal(now["amount"]), Decimal(now["shots"] or 0))
            if asked <= had:
                continue
        if view.mode == "hard" and asked - had > view.available:
            lacking.append(view.refused(asked))
    return Exceeded(tuple(lacking)) if lacking else None


def _sold_by(job: Mapping[str, Any], provider: str) -> list[dict[str, Any]]:
    sold = [one for one in job["providers"] if one["scope"] == f"provider:{provider}"]
    return [one for one in sold if in_reach(one["mode"], one["unit"], job["hold"]["currency"])]
