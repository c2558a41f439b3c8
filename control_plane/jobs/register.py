# SPDX-License-Identifier: Apache-2.0
"""The state that the register tells: jobs, what their rows hold, quotas, budgets, peers, windows, as a fold of entries.

Enters: entries in their order, or a state written before. Leaves: the canonical state, the same bytes on every node
that folded the same entries (S3, S4, I6), whether from the first on or from a state that was kept. A tenant's part of
it rests on the tenant's own entries alone, so that a tenant who reads nothing else has the same bytes of that part.
An entry that doesn't follow changes nothing and is told. Not here: reading entries, comparing with rows (`refold`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.errors import QcosError
from control_plane.jobs import state
from control_plane.jobs.state import JobState
from control_plane.jobs.store import usage_scopes
from control_plane.network import enrolment
from control_plane.reservations import asked as reservations
from control_plane.reservations.asked import Key
from finops import books
from finops.alert_store import FIRED
from finops.errors import FinopsError
from hal_drivers.p2p.reservation import State
from ledger.canonical import dumps, parse_time, sha256
from ledger.chain import Draft, Leaf
from ledger.erasure import ERASED

VERSION = 1
ADMITTED = frozenset({"job:admission:allowed", "job:admission:awaiting"})
_NEW: dict[str, Any] = {"statement_blob": None, "result_blob": None, "erased_at": None}


class Register:
    """What the entries folded so far say."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], JobState] = {}
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}
        self.used: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.pushed: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        """Rate cards in the order in which they were pushed, and whether that order is known."""
        self.accepted: defaultdict[str, set[str]] = defaultdict(set)
        self.books: defaultdict[str, books.Books] = defaultdict(books.Books)
        self.peers: dict[str, enrolment.Record] = {}
        self.windows: dict[Key, State] = {}
        self.reconciled: dict[tuple[str, str], dict[str, Any]] = {}
        self.alerts: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: list[str] = []

    def fold(self, entry: Draft | Leaf, body: dict[str, Any], where: str) -> None:
        """Apply one entry; `where` names it in `faults` if it doesn't follow."""
        tenant, kind = entry.tenant, entry.kind
        try:
            state.fold(self.jobs, tenant, kind, body)
            self._keep(entry, body)
            self._use(tenant, kind, body)
            if kind == "rates:pushed":
                self.pushed[tenant].pop(body["rate_card"], None)
                self.pushed[tenant][body["rate_card"]] = True
            if kind == "rates:accepted":
                self.accepted[tenant].add(body["rate_card"])
            if kind == "costs:reconciled":
                self.reconciled[tenant, body["reconciliation_id"]] = body
            if kind == FIRED:
                self.alerts[tenant, body["alert_id"]] = body
            enrolment.fold(self.peers, kind, body)
            reservations.fold(self.windows, tenant, kind, body)
            books.fold(self.books[tenant], kind, body, _named(entry))
        except (QcosError, FinopsError, KeyError, msgspec.ValidationError) as error:
            self.faults.append(f"{where} ({kind}) does not follow: {error}")

    def _keep(self, entry: Draft | Leaf, body: dict[str, Any]) -> None:
        """What a job's row holds beside its state: who, how much, by which card, and the contents it points to.

        A row that points to another job's result or spec would be served and run as if it were this one's.
        """
        if entry.kind == ERASED:
            self.kept[entry.tenant, body["job_id"]]["erased_at"] = body["at"]
        if not entry.kind.startswith("job:"):
            return
        row = self.kept.setdefault((entry.tenant, body["job_id"]), _NEW | {"history": []})
        row["history"] = [*row["history"], *body.get("events", ())]
        if entry.kind.startswith("job:admission:"):
            row |= {name: body[name] for name in ("team", "executions", "rate_card", "allowed")}
            row["retention_days"] = body.get("retention_days")  # before they were kept here no entry told them
            row |= {"pseudonym": entry.actor, "level": body["evidence_level"], "workflow": body.get("workflow")}
            row |= {"spec_blob": entry.commitments["spec"], "input_blob": entry.commitments["decision_input"]}
            for name in ("estimate", "rate_cards", "accounting"):
                if name in body:
                    row[name] = body[name]
            if "envelope" in body:
                row["envelope"] = body["envelope"] | {"blob": entry.commitments["envelope"]}
        if "vendor_tasks" in body:
            row["vendor_tasks"] = body["vendor_tasks"]
        if "approval" in body:
            row["approval"] = body["approval"]
        if "charge" in body and "accounting" in body:  # before there were charges, rows didn't keep it
            row["ran_as"] = body["accounting"]
        if "rate_card" in body:  # that of the backend that it was handed to
            row["rate_card"] = body["rate_card"]
        for name in ("statement", "result"):
            if name in entry.commitments:
                row[f"{name}_blob"] = entry.commitments[name]

    def _use(self, tenant: str, kind: str, body: dict[str, Any]) -> None:
        """What quotas count: the executions of admitted jobs, on the day of their first event."""
        if kind in ADMITTED:
            for scope in usage_scopes(body["team"], body["project"]):
                self.used[tenant, scope, body["events"][0]["at"][:10]] += body["executions"]

    def tenants(self) -> list[str]:
        """Whose entries were folded, in order."""
        return sorted(self.books)

    def part(self, tenant: str) -> dict[str, Any]:
        """What the tenant's own entries say."""
        return self._parts([tenant])[tenant]

    def document(self) -> dict[str, Any]:
        """The whole state."""
        return {
            "v": VERSION,
            "peers": [msgspec.to_builtins(self.peers[peer]) for peer in sorted(self.peers)],
            "tenants": self._parts(self.tenants()),
        }

    def _parts(self, tenants: list[str]) -> dict[str, dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {
            tenant: {
                "books": books.document(self.books[tenant]),
                "jobs": [],
                "rate_cards": sorted(self.pushed.get(tenant, ())),
                "reconciliations": [],
                "reservations": [],
                "usage": [],
            }
            for tenant in tenants
        }
        for tenant, part in parts.items():
            if (ordered := [name for name, known in self.pushed.get(tenant, {}).items() if known])[1:]:
                part["rate_cards_pushed"] = ordered
            if accepted := self.accepted.get(tenant):  # a state without any is as it was before there were any
                part["rate_cards_accepted"] = sorted(accepted)
        for tenant, job in sorted(self.jobs):
            if tenant in parts:
                told = msgspec.to_builtins(self.jobs[tenant, job])
                parts[tenant]["jobs"].append({"row": self.kept.get((tenant, job), {}), "state": told})
        for (tenant, _), alert in sorted(self.alerts.items()):
            if tenant in parts:
                parts[tenant].setdefault("alerts", []).append(alert)
        for (tenant, scope, day), count in sorted(self.used.items()):
            if tenant in parts:
                parts[tenant]["usage"].append([scope, day, count])
        for tenant, name in sorted(self.reconciled):
            if tenant in parts:
                parts[tenant]["reconciliations"].append(self.reconciled[tenant, name])
        for (tenant, name), window in sorted(self.windows.items()):
            if tenant in parts:
                parts[tenant]["reservations"].append([name, window])
        return parts

    def bytes(self) -> bytes:
        """The canonical state."""
        return dumps(self.document())

    def hashes(self) -> dict[str, str]:
        """The hash of each tenant's part."""
        return {tenant: sha256(dumps(part)) for tenant, part in self._parts(self.tenants()).items()}


def _named(entry: Draft | Leaf) -> books.Named:
    at = entry.time if isinstance(entry, Leaf) else parse_time(entry.time)
    return books.Named(entry.entry_id, at)


def restored(document: Mapping[str, Any]) -> Register:
    """The register that wrote this document; QcosError where it isn't one."""
    found = Register()
    try:
        if document["v"] != VERSION:
            raise QcosError(f"a state of version {document['v']}, where this release knows {VERSION}")
        found.peers = {told["peer_id"]: msgspec.convert(told, enrolment.Record) for told in document["peers"]}
        for tenant, part in document["tenants"].items():
            found.books[tenant] = books.restored(part["books"])
            if part["rate_cards"]:
                found.pushed[tenant] = dict.fromkeys(part["rate_cards"], len(part["rate_cards"]) == 1)
                for name in part.get("rate_cards_pushed", ()):  # a state of an earlier release has no order
                    del found.pushed[tenant][name]
                    found.pushed[tenant][name] = True
            if part.get("rate_cards_accepted"):
                found.accepted[tenant] = set(part["rate_cards_accepted"])
            for known in part.get("reconciliations", ()):  # a state of an earlier release has none
                found.reconciled[tenant, known["reconciliation_id"]] = known
            for job in part["jobs"]:
                told = msgspec.convert(job["state"], JobState)
                found.jobs[tenant, told.job_id] = told
                found.kept[tenant, told.job_id] = job["row"]
            for scope, day, count in part["usage"]:
                found.used[tenant, scope, day] = count
            for alert in part.get("alerts", ()):
                found.alerts[tenant, alert["alert_id"]] = alert
            for name, window in part["reservations"]:
                found.windows[tenant, name] = msgspec.convert(window, State)
    except (KeyError, TypeError, ValueError, FinopsError, msgspec.ValidationError) as error:
        raise QcosError(f"not a state of the register: {error}") from error
    return found
