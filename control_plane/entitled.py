# SPDX-License-Identifier: Apache-2.0
"""Whether who asked for a job may still have it run: their rights of now beside those that its decision judged (G13).

Enters the job's row and the principal of its recorded decision input. Leaves the roles that they still have in its
project, and why nothing of theirs may run at all. That a token or a session has expired, or that somebody logged out,
takes no right away: it was good when the job was asked for. A removal, a revoked key or delegation and a lost role do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from control_plane.auth.people import store
from control_plane.auth.principal import parse_role
from control_plane.db import Query

REMOVED = "who asked for it was removed from the tenant"
REVOKED = {
    "key": "the key that it was asked for with was revoked",
    "delegation": "the delegation that it was asked for by was revoked",
}


class Entitled(Struct, frozen=True):
    """The roles of the recorded ones that are left, and why there is no right left, if so."""

    roles: tuple[str, ...]
    shut: str | None = None


def asked(job: Mapping[str, Any]) -> Query:
    """The query for what is known now of who asked for the job, and of what they came with; one row."""
    return store.resting(job["tenant"], job["issuer"], job["subject"], job["credential"])


def entitled(row: Mapping[str, Any], job: Mapping[str, Any], recorded: Mapping[str, Any]) -> Entitled | None:
    """What is left of who asked for the job, by `asked`'s row; None where they have all that they had, or nothing is
    known of them.

    A role that came since is left out: what admitted the job still stands without it.
    """
    if job["issuer"] is None:  # admitted by a program that didn't keep it
        return None
    if row["person"] == "removed":
        return Entitled((), REMOVED)
    if row["revoked"] is not None:
        return Entitled((), REVOKED[row["revoked"]])
    if row["person"] is None and recorded["kind"] == "user":
        return None
    held = _held(row, job["project"])
    left = tuple(role for role in recorded["roles"] if role in held)
    return None if len(left) == len(recorded["roles"]) else Entitled(left)


def _held(row: Mapping[str, Any], project: str) -> set[str]:
    """The roles of now in the project: of this plane, of their groups, and as their provider said last."""
    given: Sequence[Sequence[str]] = (*(row["roles"] or ()), *(row["mapped"] or ()))
    held = {role for role, where in given if where in ("", project)}
    for said in map(parse_role, row["said"] or ()):
        if said is not None and said.project in (None, project):
            held.add(said.role)
    return held
