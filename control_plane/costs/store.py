# SPDX-License-Identifier: Apache-2.0
"""The SQL that costs need beside `finops`' own: who stands behind a charge, and what a charge was estimated at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from control_plane.db import Query

_ACTORS = "SELECT job_id, actor FROM jobs.job WHERE job_id = ANY (%(jobs)s::text[])"


def actors(job_ids: Sequence[str]) -> Query:
    """The query for who asked for each of the jobs; an erased person is named by pseudonym there too."""
    return _ACTORS, {"jobs": list(job_ids)}


JUDGED_JOBS = 200_000

_JUDGED = """
    SELECT backend, count(*) AS jobs,
           count(*) FILTER (WHERE promised) AS judged,
           count(*) FILTER (WHERE promised AND cost < low) AS below,
           count(*) FILTER (WHERE promised AND cost > high) AS above,
           count(*) FILTER (WHERE "of" = 'none') AS without,
           count(*) FILTER (WHERE "of" = 'card') AS certain,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY ((high - low) / nullif(cost, 0))::double precision)
               FILTER (WHERE promised) AS width
    FROM (SELECT backend, cost_amount AS cost, (estimate ->> 'low')::numeric AS low,
                 (estimate ->> 'high')::numeric AS high, estimate -> 'basis' ->> 'of' AS "of",
                 estimate -> 'basis' ->> 'of' IN ('backend', 'provider') AS promised
          FROM jobs.job
          WHERE submitted_at >= %(since)s AND final = 'COMPLETED' AND estimate IS NOT NULL AND cost_amount IS NOT NULL
            AND (%(projects)s::text[] IS NULL OR project = ANY (%(projects)s::text[]))
          ORDER BY submitted_at DESC LIMIT %(most)s) AS ended
    GROUP BY backend ORDER BY backend
"""


def judged(since: dt.datetime, projects: list[str] | None) -> Query:
    """The query for how the charges of completed jobs compare with their intervals, a row a backend."""
    return _JUDGED, {"since": since, "projects": projects, "most": JUDGED_JOBS}
