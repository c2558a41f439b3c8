# SPDX-License-Identifier: Apache-2.0
"""Reading what a stranger sent without keeping everybody else waiting (N13).

What a reader costs grows with the size of its input. A small input is read where it stands; a large one on a thread,
so that the event loop goes on answering, a few milliseconds late at worst.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

INLINE_BYTES = 16 << 10
"""Below it a reader needs a millisecond or two, and a thread would cost more than it saves."""

P = ParamSpec("P")
T = TypeVar("T")


async def aside(size: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``read(*args)``, on the event loop only where ``size`` bytes are few; raises what it raises."""
    if size <= INLINE_BYTES:
        return read(*args, **kwargs)
    return await asyncio.to_thread(read, *args, **kwargs)
