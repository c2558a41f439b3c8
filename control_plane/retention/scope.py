# SPDX-License-Identifier: Apache-2.0
"""What a legal hold covers: a tenant, a project, a job, or all jobs of one actor. Pure."""

from __future__ import annotations

import re

from control_plane.errors import Refused
from control_plane.jobs.evidence import Row

PATTERN = r"^(tenant|(project|job|actor):[!-~]{1,128})$"
_SCOPE = re.compile(PATTERN)


def check(scope: str) -> str:
    """The scope, as it is written; Refused `request_invalid` where it is none."""
    if _SCOPE.fullmatch(scope) is None:
        wanted = "tenant, project:NAME, job:ID or actor:PSEUDONYM"
        raise Refused("request_invalid", f"scope: {wanted}", errors=({"field": "scope", "message": wanted},))
    return scope


def covering(job: Row) -> tuple[str, ...]:
    """The scopes of which any hold keeps this job."""
    return ("tenant", f"project:{job['project']}", f"job:{job['job_id']}", f"actor:{job['pseudonym']}")
