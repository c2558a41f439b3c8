# SPDX-License-Identifier: Apache-2.0
"""The SQL of recorded decisions: pages of them in the order in which they were made, or one.

Every query runs in a transaction that names the tenant; other tenants' decisions don't exist (I7).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from control_plane.db import Query

# The alias keeps the plan on `job_listed`: a page costs what it shows, however many jobs there are.
_COLUMNS = """
    SELECT j.job_id, j.decision_id, j.submitted_at, j.project, j.state, j.final, j.decision, j.allowed, j.backend,
           j.hold_amount, j.cost_amount, j.currency, j.input_blob
    FROM jobs.job j"""
_PAGE = f"""{_COLUMNS}
    WHERE (j.submitted_at, j.job_id) > (%(at)s, %(after)s) AND j.submitted_at < %(until)s
      AND (%(projects)s::text[] IS NULL OR j.project = ANY(%(projects)s::text[]))
    ORDER BY j.submitted_at, j.job_id LIMIT %(limit)s"""
_ONE = f"""{_COLUMNS} WHERE j.decision_id = %(decision)s::uuid LIMIT 1"""


def page(
    *,
    after: tuple[dt.datetime, str],
    until: dt.datetime,
    projects: Sequence[str] | None,
    limit: int,
) -> Query:
    """The query for the admissions' decisions after a place (time, job id) and before `until`, oldest first."""
    at, job = after
    wanted: dict[str, Any] = {"at": at, "after": job, "until": until, "limit": limit}
    return _PAGE, wanted | {"projects": None if projects is None else list(projects)}


def one(decision_id: str) -> Query:
    """The query for the job's row that an admission's decision of this id made."""
    return _ONE, {"decision": decision_id}
