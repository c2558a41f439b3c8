# SPDX-License-Identifier: Apache-2.0
"""The state is a fold: kept anywhere and gone on from, it is the same bytes as from the first entry (S3, S4, I6)."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.errors import QcosError
from control_plane.jobs.register import Register, restored
from finops import money
from ledger.canonical import dumps, sha256
from ledger.chain import Draft, body_of, parse_pending

AT = "2026-11-21T10:00:00.000Z"
TENANTS = ("demo", "other", "_plane")
AMOUNTS = st.sampled_from(["0", "0.10", "1.5", "2.000", "0.000001"])


class Teller:
    """Makes entries that follow from those before, as the plane's writers do."""

    def __init__(self) -> None:
        self.told: list[Draft] = []

    def say(self, tenant: str, kind: str, body: dict[str, Any], commitments: dict[str, str] | None = None) -> None:
        entry = {"tenant": tenant, "kind": kind, "actor": "a-1", "time": AT, "body": body, "schema": 1}
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, str(len(self.told))))
        self.told.append(parse_pending(dumps(entry | {"entry_id": name, "commitments": commitments or {}})))

    def admit(self, tenant: str, job: str, amount: str, *, denied: bool) -> None:
        """Admitted with a hold, or denied."""
        body: dict[str, Any] = {
            "job_id": job,
            "project": "p",
            "team": "blue" if amount == "0" else None,
            "executions": 7,
            "rate_card": sha256(b"card"),
            "allowed": ["aer"],
            "evidence_level": "full",
            "workflow": None,
            "events": [{"seq": 1, "state": "DENIED" if denied else "QUEUED", "at": AT}],
        }
        if not denied:
            budgets = [{"id": f"b-{tenant}", "window": "2026-11"}]
            body["hold"] = {"job_id": job, "amount": amount, "currency": "USD", "budgets": budgets}
        kept = {name: sha256(job.encode() + name.encode()) for name in ("spec", "decision_input")}
        self.say(tenant, f"job:admission:{'denied' if denied else 'allowed'}", body, kept)

    def end(self, tenant: str, job: str, held: str, *, parked: bool) -> None:
        """Run and settled, or parked."""
        moves = ("COMPILING", "RESERVING", "EXECUTING", "SEALING")
        settle = {"job_id": job, "currency": "USD", "budgets": [{"id": f"b-{tenant}", "window": "2026-11"}]}
        settle |= {"parked": money.text(Decimal(held))} if parked else {"capture": held, "release": "0", "overrun": "0"}
        body: dict[str, Any] = {
            "job_id": job,
            "attempt": 1,
            "final": "UNCERTAIN" if parked else "COMPLETED",
            "events": [{"seq": n, "state": to, "at": AT} for n, to in enumerate(moves, start=2)],
            "cost": {"amount": held, "currency": "USD"},
            "settle": settle,
        }
        self.say(tenant, "job:outcome:ended", body, {"result": sha256(job.encode())})


@st.composite
def histories(draw: st.DrawFn) -> list[Draft]:
    """Entries of several tenants, mixed."""
    teller, running = Teller(), list[tuple[str, str, str]]()
    for tenant in TENANTS:
        limits = {"scope": "tenant:" + tenant, "period": "monthly", "limit": "100.00", "currency": "USD"}
        teller.say(tenant, "budget:set", {"budget_id": f"b-{tenant}"} | limits)
    for step in range(draw(st.integers(0, 25))):
        tenant, amount = draw(st.sampled_from(TENANTS)), draw(AMOUNTS)
        match draw(st.sampled_from(("admit", "deny", "end", "park", "card", "window", "odd"))):
            case "admit":
                teller.admit(tenant, f"j-{step}", amount, denied=False)
                running.append((tenant, f"j-{step}", amount))
            case "deny":
                teller.admit(tenant, f"j-{step}", amount, denied=True)
            case "end" | "park" as how if running:
                of, job, held = running.pop(draw(st.integers(0, len(running) - 1)))
                teller.end(of, job, held, parked=how == "park")
            case "card":
                teller.say(tenant, "rates:pushed", {"rate_card": sha256(amount.encode())})
            case "window":
                moves = [{"state": state, "at": AT} for state in ("REQUESTED", "PREPARED")]
                teller.say(tenant, "network:reservation:kept", {"reservation_id": f"r-{step}", "moves": moves})
            case _:
                teller.say(tenant, "tenant:noted", {"n": step})
    return teller.told


def folded(register: Register, entries: list[Draft]) -> Register:
    for entry in entries:
        register.fold(entry, body_of(entry), entry.entry_id)
    return register


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_a_kept_state_goes_on_as_if_from_the_first_entry(told: list[Draft], data: st.DataObject) -> None:
    whole = folded(Register(), told)
    assert whole.faults == []
    at = data.draw(st.integers(0, len(told)))
    kept = json.loads(folded(Register(), told[:at]).bytes())
    again = folded(restored(kept), told[at:])
    assert again.bytes() == whole.bytes()
    assert restored(json.loads(again.bytes())).hashes() == whole.hashes()


@settings(max_examples=30, deadline=None)
@given(histories())
def test_a_tenants_part_rests_on_its_own_entries_alone(told: list[Draft]) -> None:
    """I7: what others do changes no byte of it."""
    whole = folded(Register(), told)
    for tenant in whole.tenants():
        alone = folded(Register(), [entry for entry in told if entry.tenant == tenant])
        assert alone.part(tenant) == whole.part(tenant)
        assert alone.hashes()[tenant] == whole.hashes()[tenant]


def test_an_entry_that_does_not_follow_is_told_and_a_foreign_document_refused() -> None:
    teller = Teller()
    teller.end("demo", "j-1", "1", parked=False)
    assert "does not follow" in folded(Register(), teller.told).faults[0]
    for wrong in ({}, {"v": 2}, {"v": 1, "peers": [{}], "tenants": {}}, {"v": 1, "peers": [], "tenants": {"a": {}}}):
        with pytest.raises(QcosError):
            restored(wrong)
