# SPDX-License-Identifier: Apache-2.0
"""What makes the evidence of an ended job in each form that `control_plane.formats` names, and as which media type.

Enters a job's row that the caller may see; leaves the file. Each opens its own transactions, in the row's tenant, and
raises Refused where the job has no such evidence, or not yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from control_plane.context import Plane
from control_plane.formats import Format
from control_plane.jobs import evidence
from control_plane.jobs.evidence import Row


class Form(Struct, frozen=True):
    """A form: its media type, and what makes it."""

    media_type: str
    make: Callable[[Plane, Row], Awaitable[bytes]]


async def _bundle(plane: Plane, row: Row) -> bytes:
    async with plane.transaction(row["tenant"]) as conn:
        return await evidence.bundle(plane, conn, row)


FORMS: dict[Format, Form] = {
    "bundle": Form("application/json", _bundle),
}
