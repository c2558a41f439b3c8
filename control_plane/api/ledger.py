# SPDX-License-Identifier: Apache-2.0
"""The log, read: checkpoint, tiles, keys. Tiles and checkpoints are hashes: any signed-in tenant may read them (G5)."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

import ledger.store
from control_plane import trust
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from ledger.chain import PLANE

FULL, HASH = 256, 32
# C2SP tlog-tiles: <level>/<index in groups of three, all but the last with an x>[.p/<width>]
_TILE = re.compile(
    r"(?P<level>[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(x[0-9]{3}/){0,5}[0-9]{3})(\.p/(?P<width>[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)
TEXT = "text/plain"
BINARY = "application/octet-stream"
_FILE = Bytes(
    "application/json",
    {"type": "object", "required": ["version", "issued_at", "expires", "scope", "log", "evidence", "tsa"]},
)


@get(
    "/ledger/checkpoint",
    opt={
        "action": "ledger:checkpoint",
        "answers": Answers({200: Bytes(TEXT, {"type": "string"})}, refusals=("not_in_log",)),
    },
    media_type=TEXT,
    summary="The newest checkpoint",
)
async def checkpoint(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[bytes]:
    """The newest signed note (C2SP tlog-checkpoint)."""
    async with plane.transaction(request.user.tenant) as conn:
        found = await ledger.store.latest_checkpoint(conn)
    if found is None:
        raise Refused("not_in_log", "the log has no checkpoint yet")
    return Response(found.note, media_type=TEXT, headers={"Cache-Control": "no-store"})


@get(
    "/ledger/tile/{path:path}",
    opt={"action": "ledger:checkpoint", "answers": Answers({200: Bytes(BINARY, {})}, refusals=("not_in_log",))},
    media_type=BINARY,
    summary="A tile of the log's hashes",
)
async def tile(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], path: FromPath[str]
) -> Response[bytes]:
    """A hash tile (C2SP tlog-tiles); full tiles never change."""
    found = _TILE.fullmatch(path.strip("/"))
    if found is None:
        raise Refused("not_found", "no such tile path")
    level, index, width = (
        int(found["level"]),
        int(re.sub("[x/]", "", found["index"])),
        int(found["width"] or FULL),
    )
    async with plane.transaction(request.user.tenant) as conn:
        hashes = await ledger.store.tile(conn, level, index)
    if hashes is None or len(hashes) < width * HASH:
        raise Refused("not_in_log", "no such tile yet")
    cache = "public, max-age=31536000, immutable" if width == FULL else "no-store"
    return Response(
        hashes[: width * HASH],
        media_type=BINARY,
        headers={"Cache-Control": cache},
    )


@get(
    "/trust",
    opt={"action": "trust:read", "answers": Answers({200: _FILE})},
    media_type="application/json",
    summary="The plane's public keys",
)
async def trust_file(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[bytes]:
    """A trust file; deliver it apart from the evidence that it judges."""
    async with plane.transaction(request.user.tenant) as conn:
        keys = await ledger.store.keys(conn)
    async with plane.transaction(PLANE) as conn:
        successions = await ledger.store.successions(conn)
    data = await asyncio.to_thread(trust.build, plane.settings, plane.name, keys, successions, plane.now())
    return Response(data, media_type="application/json")


HANDLERS = (checkpoint, tile, trust_file)
