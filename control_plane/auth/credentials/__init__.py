# SPDX-License-Identifier: Apache-2.0
"""The secrets that the plane gave out, as others use them: `credentials.issue`, `find`, `revoke` (G13, S1)."""

from __future__ import annotations

from control_plane.auth.credentials.store import (
    Credential,
    Issued,
    find,
    held,
    issue,
    listed,
    principal_of,
    revoke,
    revoke_of,
    shorten,
    used,
)

__all__ = [
    "Credential",
    "Issued",
    "find",
    "held",
    "issue",
    "listed",
    "principal_of",
    "revoke",
    "revoke_of",
    "shorten",
    "used",
]
