# SPDX-License-Identifier: Apache-2.0
"""The SQL that costs need beside `finops`' own: who stands behind a charge."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.db import Query

_ACTORS = "SELECT job_id, actor FROM jobs.job WHERE job_id = ANY (%(jobs)s::text[])"


def actors(job_ids: Sequence[str]) -> Query:
    """The query for who asked for each of the jobs; an erased person is named by pseudonym there too."""
    return _ACTORS, {"jobs": list(job_ids)}
