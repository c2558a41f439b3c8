# SPDX-License-Identifier: Apache-2.0
"""What an OPA beside the plane asks of it: its bundle, and a place for its decision log (G2, I5, I10).

By the token of `keys/sidecar`, which opens these two addresses and nothing else; no person has it. They speak OPA's own
protocols (Bundle Service API with ETag and long polling, Decision Log Service API), so they aren't in the document.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency

from control_plane.auth.claims import bearer
from control_plane.auth.errors import Unauthenticated
from control_plane.auth.keys import sidecar_is
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.policy import sidecar
from control_plane.policy.engine_log import intake, store
from control_plane.policy.offer import Offer

_LONG_POLLING = "application/vnd.openpolicyagent.bundles"
"""The media type by which OPA knows that it may wait."""

_WAIT = re.compile(r"(?:^|[;,])\s*wait=(\d{1,4})\s*(?:$|[;,])")


@get(
    f"/{sidecar.BUNDLE_PATH}",
    opt={"action": "public", "credential": "sidecar"},
    include_in_schema=False,
    summary="The bundle in force",
)
async def bundle(
    request: Request[Any, Any, Any], plane: NamedDependency[Plane], offer: NamedDependency[Offer]
) -> Response[bytes]:
    """200 with the signed archive, 304 where the caller has it: at once, or after the wait that it asked for."""
    _sidecar(request, plane)
    wait = _WAIT.search(request.headers.get("prefer", ""))
    wait_s = min(float(wait.group(1)), sidecar.LONG_POLL_S) if wait else 0.0
    asked = request.headers.get("if-none-match")
    found = await offer.newer(asked, wait_s)
    if found is None:
        return Response(b"", status_code=304, headers={"ETag": asked or ""}, media_type=_LONG_POLLING)
    return Response(found.content, headers={"ETag": found.etag, "Cache-Control": "no-store"}, media_type=_LONG_POLLING)


@post(
    sidecar.LOG_PATH,
    status_code=204,
    opt={"action": "public", "credential": "sidecar", "packed": True},
    include_in_schema=False,
    summary="OPA's decision log",
)
async def take(request: Request[Any, Any, Any], plane: NamedDependency[Plane]) -> None:
    """Keep what an upload may say (`engine_log.intake`), and count the rest."""
    _sidecar(request, plane)
    try:
        taken = intake.read(await request.body())
    except ValueError as fault:
        raise Refused("request_invalid", f"no decision log: {fault}"[:300]) from fault
    async with plane.transaction(None) as conn:
        await store.put(conn, taken)


def _sidecar(request: Request[Any, Any, Any], plane: Plane) -> None:
    if not sidecar_is(plane.settings.home, bearer(request.headers.get("authorization"))):
        raise Unauthenticated("token_invalid", "not_the_sidecar", "this address is the OPA sidecar's, by its own token")


HANDLERS = (bundle, take)
