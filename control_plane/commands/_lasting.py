# SPDX-License-Identifier: Apache-2.0
"""How long something lasts, as commands are told it: 90s, 30m, 24h, 7d."""

from __future__ import annotations

import re

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TIME = re.compile(r"([0-9]{1,9})([smhd]?)")


def seconds(option: str, text: str) -> int:
    """The seconds; Refused `usage`, naming the option."""
    from control_plane.errors import Refused

    found = _TIME.fullmatch(text)
    if found is None:
        raise Refused("usage", f"{option} {text}: wanted a number with s, m, h or d, as 90s, 24h")
    return int(found[1]) * _UNITS[found[2]]
