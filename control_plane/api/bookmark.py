# SPDX-License-Identifier: Apache-2.0
"""The cursor of a list that is sorted by names: those of a page's last row, as base64url of JSON. Pure.

It names nothing but a place: whoever makes one up is shown what they may see, from there on.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import msgspec
from litestar.params import QueryParameter

from control_plane.api.cursor import HEADER, PAGE, TOLD, Limit
from control_plane.errors import Refused

__all__ = ["HEADER", "PAGE", "TOLD", "Bookmark", "Limit", "following", "read"]

Bookmark = Annotated[
    str | None, QueryParameter(max_length=8192, pattern=r"^[A-Za-z0-9_-]{1,8192}$", description="Of the page before.")
]
_names = msgspec.json.Decoder(tuple[str, ...])


def following(rows: Any, limit: int, *columns: str) -> dict[str, str]:
    """The header of a page: its cursor where one row more than the page was found."""
    if len(rows) <= limit:
        return {}
    last = msgspec.json.encode([rows[limit - 1][column] for column in columns])
    return {HEADER: base64.urlsafe_b64encode(last).decode().rstrip("=")}


def read(cursor: str | None, many: int) -> tuple[str, ...] | None:
    """The names in a cursor; Refused `request_invalid` for one that this list never gave."""
    if cursor is None:
        return None
    try:
        names = _names.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        names = ()
    if len(names) != many or any("\0" in name for name in names):
        said = "none that this list gave"
        raise Refused("request_invalid", f"cursor: {said}", errors=({"field": "cursor", "message": said},))
    return names
