# SPDX-License-Identifier: Apache-2.0
"""The cursor of a list that goes from the newest on: when the last one of a page was made, in microseconds, and its id.

Pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

from litestar.params import QueryParameter
from sqlalchemy import RowMapping

PAGE = 100
HEADER = "X-Next-Cursor"
TOLD = {HEADER: "The next page's `cursor`, where there is one."}
_EPOCH, _TICK = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Cursor = Annotated[
    str | None,
    QueryParameter(
        max_length=400, pattern=r"^[0-9]{16}\.[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="Of the page before."
    ),
]


def written(at: dt.datetime, last_id: str) -> str:
    """The cursor of the page that ends with this one."""
    return f"{(at - _EPOCH) // _TICK:016}.{last_id}"


def following(rows: Sequence[RowMapping], limit: int) -> dict[str, str]:
    """The header of a page of jobs: its cursor where one row more than the page was found."""
    if len(rows) <= limit:
        return {}
    last = rows[limit - 1]
    return {HEADER: written(last["submitted_at"], last["job_id"])}


def read(cursor: str | None) -> tuple[dt.datetime, str] | None:
    """The place that a cursor names; what its pattern let through is one."""
    if cursor is None:
        return None
    ticks, _, last_id = cursor.partition(".")
    return _EPOCH + int(ticks) * _TICK, last_id
