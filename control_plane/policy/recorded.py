# SPDX-License-Identifier: Apache-2.0
"""A recorded decision as the plane hands it out (`GET /api/v1/policy/decisions`), read back. Pure.

Members that a later plane adds are left aside; one that is missing makes the page unusable, which is said.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class Spoke(Struct, frozen=True):
    """A reason of a recorded denial."""

    code: str
    level: str
    message: str
    rule: str


class Recorded(Struct, frozen=True):
    """A decision on a submission, the document that was judged, and the job's money.

    `input` is null where `gone` says why; `held` and `charged` are null where the job has neither.
    """

    decision_id: str
    job_id: str
    at: str
    project: str
    allow: bool
    reasons: tuple[Spoke, ...]
    backends: tuple[str, ...]
    policy_revision: str
    state: str
    backend: str | None
    held: str | None
    charged: str | None
    currency: str | None
    gone: str | None
    input: dict[str, Any] | None


page = msgspec.json.Decoder(list[Recorded])
"""Reads one page; raises msgspec.ValidationError."""
