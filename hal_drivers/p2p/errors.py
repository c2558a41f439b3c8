# SPDX-License-Identifier: Apache-2.0
"""What can be broken between the plane and a node.

NetworkError
├── IdentityInvalid     a key, a peer id or a signature that isn't what it must be
├── FrameInvalid        bytes that are no frame of ours, or too many
├── FabricAway          the plane's fabric doesn't answer, or not as it must
├── AskRefused          the fabric answers, and doesn't do it; the code says why
├── FabricUnusable      the host can't start, or its socket can't be made
└── LinkError           a request got no answer that counts
    ├── Unreachable     no connection, or it broke before the answer
    ├── Late            no answer within the limit
    └── Refused         the peer is not (or no longer) one that may be spoken to
"""

from __future__ import annotations


class NetworkError(Exception):
    """The root; ``detail`` is for people."""

    code = "network_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class IdentityInvalid(NetworkError):
    """A key file, a peer id or a signature isn't what it must be."""

    code = "identity_invalid"


class FrameInvalid(NetworkError):
    """What came is no frame: too long, cut off, or not the JSON of what it should be."""

    code = "frame_invalid"


class FabricUnusable(NetworkError):
    """The host or its socket can't be had; the plane then doesn't start."""

    code = "fabric_unusable"


class FabricAway(NetworkError):
    """Nobody answers at the fabric's socket, or not in time, or not what was asked for."""

    code = "fabric_unreachable"


class AskRefused(NetworkError):
    """The fabric's word for why not; ``code`` is one of ``office.Refusal``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LinkError(NetworkError):
    """No answer that counts; which of the three decides whether the work may have begun."""


class Unreachable(LinkError):
    """There is no connection, or it broke; the node may have received the request."""

    code = "unreachable"


class Late(LinkError):
    """No answer within the limit; the node may be working on it still."""

    code = "late"


class Refused(LinkError):
    """The node isn't one that may be spoken to: nothing was sent."""

    code = "refused"
