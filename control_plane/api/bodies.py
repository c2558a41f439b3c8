# SPDX-License-Identifier: Apache-2.0
"""The JSON body of a request, by the one strict reader (N13)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Request

from control_plane.strict import decode, want_json

T = TypeVar("T")


async def asked_by(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[T]) -> T:
    """What the body asks for; Refused `unsupported_media_type`, or `request_invalid` with the fields that are wrong."""
    want_json(request.headers.get("content-type", ""))
    return decode(await request.body(), decoder, code="request_invalid")
