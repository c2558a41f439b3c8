# SPDX-License-Identifier: Apache-2.0
"""Commands that wait for a person to confirm them in a browser, as others use them (G13)."""

from __future__ import annotations

from control_plane.auth.devices.store import (
    INTERVAL_S,
    LASTS_S,
    Asked,
    Confirmation,
    Fetched,
    answer,
    begin,
    fetch,
    normal,
    waiting,
)

__all__ = [
    "INTERVAL_S",
    "LASTS_S",
    "Asked",
    "Confirmation",
    "Fetched",
    "answer",
    "begin",
    "fetch",
    "normal",
    "waiting",
]
