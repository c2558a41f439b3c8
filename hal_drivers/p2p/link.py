# SPDX-License-Identifier: Apache-2.0
"""The way from the runtime to a node, as the runtime sees it: a request goes out, signed words come back, or none."""

from __future__ import annotations

from typing import Protocol

from hal_drivers.p2p.wire import Request, Signed


class Link(Protocol):
    """What asks nodes. The real one is kept libp2p streams (`calls`); tests have one in the process."""

    async def ask(self, node_id: str, request: Request, limit_s: float) -> Signed:
        """The node's answer to this request.

        Raises :class:`errors.Unreachable`, :class:`errors.Late` or :class:`errors.Refused`. Whose signature it bears
        and what it says is for the caller to judge: nothing of the answer is believed here but its size and shape.
        After Unreachable and Late the node may have received the request, and may answer when nobody waits any more.
        """
        ...
