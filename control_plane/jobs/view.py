# SPDX-License-Identifier: Apache-2.0
"""How a job is shown: the JSON of the outward contract (`submit`, `jobs show`, `jobs list`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from control_plane.jobs.admit import Admission, shown_state
from control_plane.jobs.evidence import Row
from finops import money
from ledger.canonical import timestamp

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})


def submitted(admission: Admission) -> dict[str, Any]:
    """A submission's answer."""
    shown: dict[str, Any] = {
        "job_id": admission.job_id or None,
        "state": admission.state,
        "decision": admission.decision.document() if admission.decision is not None else None,
        "cost": {
            "amount": plain(admission.amount),
            "currency": admission.currency,
            "rate_card": admission.rate_card,
            "basis": "upper_bound",
            "estimate": admission.estimate,
        },
        "evidence": None,
    }
    if admission.advisory:
        shown["advisory"] = True
        if (short := admission.short) is not None:
            budgets = [view.record() for view in short.budgets]
            shown["error"] = {"code": short.code, "detail": short.detail, "budgets": budgets}
        shown["route"] = [_line(msgspec.to_builtins(line) | {"attempt": 1}) for line in admission.route]
    return shown


def shown(row: Row) -> dict[str, Any]:
    """Everything that its owner may see of a job."""
    state = shown_state(row)
    history = [{"state": event["state"], "at": event["at"]} for event in row["history"]]
    if (row["state"] == "SEALING" and state != "SEALING") or (row["state"] == row["final"] and row["outcome_entry"]):
        history.append({"state": state, "at": history[-1]["at"]})
    names = ("id", "allow", "checks", "reasons", "policy_revision")
    told = {"allowed_nodes", "obligations"} & row["decision"].keys()
    decision = {name: row["decision"][name] for name in (*names, *told)}
    return {
        "job_id": row["job_id"],
        "state": state,
        "decision": decision,
        "cost": _cost(row),
        "evidence": _evidence(row, state),
        "attempt": row["attempt"],
        "backend": row["backend"],
        "history": history,
        "route": [_line(line) for line in row["route"]],
        "error": row["error"],
        "partial": row["partial"],
        "settlement": row["settlement"],
        "project": row["project"],
        "submitted_at": timestamp(row["submitted_at"]),
        "workflow": row["workflow"],
        "waiting": _waiting(row) if state == "QUEUED" else None,
    } | _told_apart(row)


def _waiting(row: Row) -> dict[str, Any] | None:
    """What a queued job waits for, as the last worker found that looked at it, or because of its tenant's limit."""
    if (limit := row.get("running_limit")) is not None:
        said = f"the tenant has {limit} jobs running, as many as may run at once"
        return {"code": "tenant_running_limit", "detail": said, "budgets": []}
    noted = row["waiting"]
    if noted is None or noted["seq"] != row["seq"]:
        return None
    return {name: noted[name] for name in ("code", "detail", "budgets")}


def _told_apart(row: Row) -> dict[str, Any]:
    """What only some jobs have."""
    shown: dict[str, Any] = {}
    if row["approval"] is not None:
        shown["approval"] = _approval(row)
    shown |= {name: row[name] for name in ("accounting", "ran_as") if row[name] is not None}
    if facts := outcome(row).get("facts"):
        shown["facts"] = facts
    if row["envelope"] is not None:
        shown["envelope"] = {name: row["envelope"][name] for name in ("form", "alg", "key_id")}
    return shown


def outcome(row: Row) -> dict[str, Any]:
    """The body of the entry that tells how the job ended; nothing until that is sealed."""
    if row.get("told") is None:
        return {}
    body: dict[str, Any] = msgspec.json.decode(row["told"])["body"]
    return body


def awaiting(row: Row) -> dict[str, Any]:
    """A job as who might approve it sees it."""
    return {
        "job_id": row["job_id"],
        "state": shown_state(row),
        "project": row["project"],
        "requested_by": row["actor"],
        "submitted_at": timestamp(row["submitted_at"]),
        "reasons": row["decision"]["reasons"],
        "held": plain(row["hold_amount"]),
        "currency": row["currency"],
        "approval": _approval(row),
    }


def _approval(row: Row) -> dict[str, Any]:
    """The approval with the approver's name, which entries don't have."""
    told = {name: value for name, value in row["approval"].items() if name != "kept"}
    return told | ({"answer": told["answer"] | {"by": row["approver"]}} if "answer" in told else {})


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a route; of several attempts each has its own."""
    failed = line.get("failed")
    return {
        "backend": line["backend"],
        "verdict": line["verdict"],
        "reason": f"{line['reason']}; it failed there: {failed['code']}: {failed['detail']}"
        if failed
        else line["reason"],
        "price": plain(line["price"]),
        "queue_s": line["queue_s"],
        "attempt": line.get("attempt", 1),
    }


def listed(row: Row) -> dict[str, Any]:
    """One line of `jobs list`."""
    tied = {"workflow": row["workflow"]} if row["workflow"] is not None else {}
    return tied | {
        "job_id": row["job_id"],
        "state": row["state"],
        "submitted_at": timestamp(row["submitted_at"]),
        "project": row["project"],
        "backend": row["backend"],
    }


def _cost(row: Row) -> dict[str, Any]:
    charged = row["cost_amount"] is not None
    amount = row["cost_amount"] if charged else row["hold_amount"]
    return {
        "amount": plain(amount) or "0",
        "currency": row["currency"],
        "rate_card": row["rate_card"],
        "basis": "charged" if charged else "held" if row["hold_amount"] is not None else "refused",
        "held": plain(row["hold_amount"]),
        "estimate": row["estimate"],
    }


def _evidence(row: Row, state: str) -> dict[str, Any]:
    return {
        "bundle_id": row["bundle_id"],
        # A job that never started rests on checkpoint and proof, whatever level was asked for.
        "level": row["level"] if row["token"] or state not in ENDED else "sealed",
        "state": "sealed" if state in ENDED and row["ready"] else "waiting",
    }


def plain(amount: Decimal | str | None) -> str | None:
    """The one text form of an amount, as budgets and evidence have it."""
    return None if amount is None else money.text(Decimal(amount))
