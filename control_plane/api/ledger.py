# SPDX-License-Identifier: Apache-2.0
"""The log, read: checkpoint, tiles, keys. Tiles and checkpoints are hashes: any signed-in tenant may read them (G5)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Annotated, Any

from litestar import HttpMethod, Request, Response, get, route
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

import ledger.head_store
import ledger.signature_store
from control_plane import proving, trust
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.formats import TrustFormat
from ledger import sigstore
from ledger.chain import PLANE
from ledger.trust import parse_trust

FULL, HASH = 256, 32
# C2SP tlog-tiles: <level>/<index in groups of three, all but the last with an x>[.p/<width>]
_TILE = re.compile(
    r"(?P<level>[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(x[0-9]{3}/){0,5}[0-9]{3})(\.p/(?P<width>[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)
FOREVER = "max-age=31536000, immutable"
# Not `| None`: the text `null` would be read as one.
Size = Annotated[int, QueryParameter(ge=0, le=2**53 - 1, description="In entries; 0 for the newest.")]
TOLD = {"ETag": "Of these bytes.", "Cache-Control": "How long they may be kept, by this reader."}
TEXT = "text/plain"
BINARY = "application/octet-stream"
_FILE = Bytes(
    "application/json",
    {"type": "object", "required": ["version", "issued_at", "expires", "scope", "log", "evidence", "tsa"]},
)

_ROOT = Bytes(
    "application/json",
    {
        "type": "object",
        "description": "`format=sigstore`: a `trusted_root.json`, and each evidence key by the hint that bundles give.",
        "required": ["trustedRoot", "keys"],
    },
)


@route(
    "/ledger/checkpoint",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    status_code=200,
    opt={
        "action": "ledger:checkpoint",
        "query": ("size",),
        "answers": Answers({200: Bytes(TEXT, {"type": "string"}), 304: None}, refusals=("not_in_log",), headers=TOLD),
    },
    media_type=TEXT,
    summary="The newest checkpoint, or that of a size",
)
async def checkpoint(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], size: Size = 0
) -> Response[bytes]:
    """The signed note (C2SP tlog-checkpoint); of a size, where the log was signed at that size."""
    async with plane.transaction(request.user.tenant) as conn:
        found = await proving.checkpoint(conn, size)
    return tagged(request, found.note, TEXT, FOREVER if size else "no-cache")


@route(
    "/ledger/tile/{path:path}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    status_code=200,
    opt={
        "action": "ledger:checkpoint",
        "absent": "not_in_log",
        "answers": Answers({200: Bytes(BINARY, {}), 304: None}, refusals=("not_in_log",), headers=TOLD),
    },
    media_type=BINARY,
    summary="A tile of the log's hashes",
)
async def tile(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], path: FromPath[str]
) -> Response[bytes]:
    """A hash tile (C2SP tlog-tiles), which never changes, nor does a partial one of a given width.

    There are no entry bundles (`tile/entries/…`): entries belong to tenants, and each has its own at `/ledger/entries`.
    """
    found = _TILE.fullmatch(path.strip("/"))
    if found is None:
        raise Refused("not_found", "no such tile path")
    level, index, width = (
        int(found["level"]),
        int(re.sub("[x/]", "", found["index"])),
        int(found["width"] or FULL),
    )
    async with plane.transaction(request.user.tenant) as conn:
        hashes = await ledger.head_store.tile(conn, level, index)
    if hashes is None or len(hashes) < width * HASH:
        raise Refused("not_in_log", "no such tile yet")
    return tagged(request, hashes[: width * HASH], BINARY, FOREVER)


def tagged(request: Request[Any, Any, Any], data: bytes, media_type: str, cache: str) -> Response[bytes]:
    """The bytes with their entity tag, or 304 and none of them where the caller has them (RFC 9110 section 13.1.2).

    Caches of one reader's own alone: whoever isn't signed in has no right to what a shared one would give.
    """
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, {cache}"}
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(b"", status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


@get(
    "/trust",
    opt={"action": "trust:read", "query": ("format",), "answers": Answers({200: [_FILE, _ROOT]})},
    media_type="application/json",
    summary="The plane's public keys",
)
async def trust_file(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    format: Annotated[TrustFormat, QueryParameter(description="The form of the file.")] = "qcos",  # noqa: A002 - its word
) -> Response[bytes]:
    """A trust file; deliver it apart from the evidence that it judges."""
    async with plane.transaction(request.user.tenant) as conn:
        keys = await ledger.signature_store.keys(conn)
    async with plane.transaction(PLANE) as conn:
        history = await ledger.signature_store.key_history(conn)
    data = await asyncio.to_thread(trust.build, plane.settings, plane.name, keys, history, plane.now())
    if format == "sigstore":
        data = sigstore.trusted_root(parse_trust(data))
    return Response(data, media_type="application/json")


HANDLERS = (checkpoint, tile, trust_file)
