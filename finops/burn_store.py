# SPDX-License-Identifier: Apache-2.0
"""The SQL of what budgets took a day (G7). Every function takes the caller's connection, which names the tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# A rolling budget has a window a day.
_CAPTURED = text("""
    SELECT budget_id, cast(window_key AS date) AS day, captured AS amount FROM finops.budget_window
    WHERE tenant = :tenant AND budget_id = ANY (:budgets) AND window_key >= :since""")
# Who is charged stands in a charge by pseudonym, and its workflow not at all: the hold says which budgets it touched,
# and what it counted in a quota, which a job's first line stands for.
_CHARGED = text("""
    SELECT b.budget_id, cast(c.charged_at AT TIME ZONE 'UTC' AS date) AS day,
           coalesce(sum(CASE b.counts WHEN 'shots' THEN h.used_shots WHEN 'jobs' THEN h.used_jobs ELSE c.amount END), 0)
               AS amount
    FROM finops.charge AS c JOIN finops.hold AS h ON h.tenant = c.tenant AND h.job_id = c.job_id
    JOIN finops.budget AS b ON b.tenant = c.tenant AND b.budget_id = ANY (h.budgets)
    WHERE c.tenant = :tenant AND c.charged_at >= :since AND c.category = 'usage' AND b.budget_id = ANY (:budgets)
      AND (c.line = 0 OR b.counts = 'money')
    GROUP BY b.budget_id, day""")


async def captured(
    conn: AsyncConnection, tenant: str, budgets: Sequence[str], since: date
) -> Mapping[str, dict[date, Decimal]]:
    """What rolling budgets captured on each UTC day on which its jobs were admitted, in their own unit."""
    values = {"tenant": tenant, "budgets": list(budgets), "since": since.isoformat()}
    return _by_budget((await conn.execute(_CAPTURED, values)).mappings()) if budgets else {}


async def charged(
    conn: AsyncConnection, tenant: str, budgets: Sequence[str], since: datetime
) -> Mapping[str, dict[date, Decimal]]:
    """What jobs that hold in these budgets were charged, or counted in a quota, on each UTC day."""
    values = {"tenant": tenant, "budgets": list(budgets), "since": since}
    return _by_budget((await conn.execute(_CHARGED, values)).mappings()) if budgets else {}


def _by_budget(rows: Any) -> Mapping[str, dict[date, Decimal]]:
    found: defaultdict[str, dict[date, Decimal]] = defaultdict(dict)
    for row in rows:
        found[row["budget_id"]][row["day"]] = row["amount"]
    return found
