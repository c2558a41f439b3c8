# SPDX-License-Identifier: Apache-2.0
"""Which addresses of an identity provider may be spoken to. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["reachable"]


def reachable(address: str) -> bool:
    """Whether `address` is TLS, or the own machine: anyone on the wire could swap keys and read codes else."""
    try:
        url = urlsplit(address)
        host, usable = url.hostname, url.port != 0
    except ValueError:
        return False
    if not host or not usable or url.username or url.password or url.fragment:
        return False
    return url.scheme == "https" or (url.scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))
