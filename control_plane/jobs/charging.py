# SPDX-License-Identifier: Apache-2.0
"""What a job was charged for, as member `charge` of the entry that tells of its cost (G6, G7). Pure.

Enters a job's row, its governance, and what ran or what somebody decided. Leaves the section whose lines come to
exactly what the hold captures. A job that delivered nothing is charged nothing and has none; one whose outcome nobody
knew has one once somebody who asked the vendor says what it cost: a line of no meter's, by that person's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from control_plane.jobs.evidence import Row
from control_plane.jobs.spec import Governance
from finops import charges, money
from finops.charges import Line, Section
from finops.facts import Fact
from finops.rates import Charge
from hal_drivers.base import Outcome
from ledger.canonical import timestamp

BY_HAND: Final = "settlement"
"""The meter of what somebody settled by hand."""


def result(
    job: Row,
    governance: Governance,
    outcome: Outcome,
    charged: Charge,
    facts: Sequence[Fact],
    places: Row,
) -> Section:
    """What a result cost; `places` has the `provider` and `region` of the backend that ran it."""
    return Section(
        lines=charges.lines(charged, facts),
        currency=charged.currency,
        provider=places["provider"],
        region=places["region"] or None,
        started_at=timestamp(outcome.started_at),
        ended_at=timestamp(outcome.ended_at),
        rate_card=charged.card_hash,
        **_of(job, governance),
    )


def settled(job: Row, governance: Governance | None, amount: Decimal, by: str, places: Row) -> Section:
    """What somebody (`by`, a pseudonym) decided that a job cost whose outcome nobody knows.

    Without `governance`, for its content was erased, the line names neither cost centre nor purpose.
    """
    said = money.text(amount)
    line = Line(meter=BY_HAND, quantity="1", unit="Tasks", rate=said, amount=said, source="vendor", by=by)
    return Section(
        lines=(line,),
        currency=job["currency"],
        provider=places["provider"],
        region=places["region"] or None,
        rate_card=job["rate_card"],
        **_of(job, governance),
    )


def _of(job: Row, governance: Governance | None) -> dict[str, Any]:
    return {
        "job_id": job["job_id"],
        "project": job["project"],
        "team": job["team"],
        "pseudonym": job["pseudonym"],
        "backend": job["backend"],
        "cost_center": governance.cost_center if governance else None,
        "purpose": governance.purpose if governance else None,
        "classification": governance.classification if governance else None,
    }
