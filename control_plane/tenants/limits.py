# SPDX-License-Identifier: Apache-2.0
"""What an operator may limit of a tenant, and how a command line says it (G11). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from control_plane.errors import Refused

MOST = 2**53 - 1
NONE = "none"


class Limits(Struct, frozen=True):
    """None is no limit; `waiting_jobs` 0 takes no new jobs."""

    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    waiting_jobs: int | None = None
    running_jobs: int | None = None
    shots_per_day: int | None = None


_SMALLEST = {"waiting_jobs": 0, "shots_per_day": 0, "running_jobs": 1}
_LARGEST = {"waiting_jobs": 2**31 - 1, "running_jobs": 2**31 - 1, "shots_per_day": MOST}


def changed(limits: Limits, said: Mapping[str, str]) -> Limits:
    """With what was said put in, `none` for no limit; raises Refused `unusable_input` naming the limit."""
    return replace(limits, **{name: _read(name, text) for name, text in said.items()})


def told(limits: Limits) -> dict[str, Any]:
    """As an entry has it: rates in strings, since an entry has no fractions."""
    return {name: str(value) if isinstance(value, float) else value for name, value in asdict(limits).items()}


def _read(name: str, text: str) -> float | int | None:
    if text == NONE:
        return None
    if name in _SMALLEST:
        if text.isascii() and text.isdigit() and _SMALLEST[name] <= int(text) <= _LARGEST[name]:
            return int(text)
        wanted = f"a whole number of {_SMALLEST[name]} or more"
    else:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and 1e-6 <= value <= MOST:
            return value
        wanted = "a number above 0"
    raise Refused("unusable_input", f"{name}: wanted {wanted}, or {NONE}")
