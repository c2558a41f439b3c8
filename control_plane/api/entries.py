# SPDX-License-Identifier: Apache-2.0
"""A tenant's own entries of the log, and proofs of them: bytes of entries leave the plane here alone (G5, I7)."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane import proving
from control_plane.api.ledger import Size
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane

JSON = "application/json"
NEXT = "X-Next-Cursor"
PAGE = 100
_PROOF = Bytes(
    JSON,
    {
        "type": "object",
        "description": "docs/evidence-format.md has every member; `qcos verify` judges it offline.",
        "required": ["type", "path", "checkpoint"],
    },
)
Start = Annotated[
    int, QueryParameter(name="from", ge=0, le=2**53 - 1, description="The first one's place among the tenant's.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Old = Annotated[int, QueryParameter(name="from", ge=1, le=2**53 - 1, description="The smaller size, in entries.")]
New = Annotated[
    int, QueryParameter(name="to", ge=0, le=2**53 - 1, description="A checkpoint's size; 0 for the newest one's.")
]


class EntryShown(Struct, frozen=True):
    """A sealed entry: its place in the log and among the tenant's, and its leaf (base64), with the records under it."""

    index: int
    tenant_index: int
    entry_id: str
    kind: str
    leaf: str
    records: tuple[str, ...]


@get(
    "/ledger/entries",
    opt={
        "action": "ledger:read",
        "where": "tenant",
        "query": ("from", "limit"),
        "answers": Answers(
            {200: tuple[EntryShown, ...]}, headers={NEXT: "Where the next page begins (`from`), where there is one."}
        ),
    },
    summary="The tenant's own entries, oldest first",
)
async def entries(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], start: Start = 0, limit: Limit = PAGE
) -> Response[Any]:
    """A page of the tenant's sealed entries: all of them, in the order of its chain."""
    require(request.user, "ledger:read", None)
    async with plane.transaction(request.user.tenant) as conn:
        found, following = await proving.page(conn, request.user.tenant, start, limit)
    shown = [
        EntryShown(
            index=one.index,
            tenant_index=one.tenant_index,
            entry_id=one.entry_id,
            kind=one.kind,
            leaf=_text(one.leaf),
            records=tuple(map(_text, one.records)),
        )
        for one in found
    ]
    return Response(shown, headers={} if following is None else {NEXT: str(following)})


@get(
    "/ledger/entries/{entry:str}/proof",
    opt={
        "action": "evidence:read",
        "query": ("size",),
        "answers": Answers({200: _PROOF}, refusals=("not_found", "not_in_log")),
    },
    media_type=JSON,
    summary="Proof that an entry is in the log",
)
async def inclusion(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], entry: FromPath[str], size: Size = 0
) -> Response[bytes]:
    """The entry by its index, its id, or the job whose last one it is; under the newest checkpoint, or a size's."""
    return Response(await proving.inclusion(plane, request.user, entry, size), media_type=JSON)


@get(
    "/ledger/consistency",
    opt={
        "action": "ledger:checkpoint",
        "query": ("from", "to"),
        "answers": Answers({200: _PROOF}, refusals=("not_in_log",)),
    },
    media_type=JSON,
    summary="Proof that the log only grew",
)
async def consistency(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], old: Old, new: New = 0
) -> Response[bytes]:
    """That the log of one size begins with that of a smaller one: hashes alone, for any signed-in tenant."""
    async with plane.transaction(request.user.tenant) as conn:
        data = await proving.consistency(conn, old, new)
    return Response(data, media_type=JSON)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


HANDLERS = (entries, inclusion, consistency)
