# SPDX-License-Identifier: Apache-2.0
"""Which tables hold what a tenant owns, and what of them is no part of an export (G11).

A test holds the two lists against the database: a new table with a tenant in it must be in one of them. Pure.
"""

from __future__ import annotations

from typing import Final

ROWS: Final[dict[str, tuple[str, ...]]] = {
    "auth.assignment": (),
    "auth.credential": ("digest",),
    "auth.group_role": (),
    "auth.person": ("digest",),
    "auth.project": (),
    "auth.service_account": (),
    "auth.signing_key": (),
    "auth.tenant": (),
    "auth.tenant_limit": (),
    "auth.workload_rule": (),
    "finops.alert": ("due_at",),
    "finops.allocation": (),
    "finops.budget": (),
    "finops.budget_window": (),
    "finops.charge": (),
    "finops.hold": (),
    "finops.month": (),
    "finops.rate_card": (),
    "finops.reconciliation": (),
    "jobs.denial": (),
    "jobs.job": ("handle", "lease_until", "token", "traceparent", "worker"),
    "jobs.legal_hold": (),
    "jobs.usage": (),
    "network.plan": (),
    "network.reservation": (),
}
"""Tables whose rows are exported, and the columns that are not: what proves a secret, and how this plane works."""

ELSEWHERE: Final[dict[str, str]] = {
    "ledger.blob": "opened, as contents/",
    "ledger.entry": "as ledger/entries/",
    "ledger.folded": "with the entries that fold them",
    "ledger.signature": "in each job's evidence",
    "ledger.document_signature": "of pages that are made anew from evidence",
    "jobs.document": "pages that are made anew from evidence",
    "ledger.inbox": "what isn't sealed yet: the next export has it",
    "ledger.unfolded": "what isn't sealed yet: the next export has it",
    "ledger.tenant_key": "the key stays; what it opens is exported",
    "auth.device": "logins that are going on",
    "auth.nonce": "which messages can't come again, until they expire",
    "auth.rate": "buckets of this second",
    "auth.saml_session": "logins that are going on",
    "auth.saml_used": "which answers can't come again, until they expire",
    "auth.used_token": "which tokens can't come again, until they expire",
    "jobs.idempotency": "keys of the last 24 hours",
    "jobs.notice": "messages on their way",
    "jobs.session": "what vendors hold open",
    "policy.shadow_seen": "the plane's, of its policies",
    "reporting.reader": "the name of a login of this database",
}
"""Tables whose rows are not exported as such, and why."""

TEXTS: Final[dict[str, str]] = {"finops.allocation": "document", "finops.rate_card": "document"}
"""Columns of bytes that are text."""
