# SPDX-License-Identifier: Apache-2.0
"""The process that makes one document: `python -m control_plane.documents.child`, told by pipe, then gone.

It holds no key and no connection; memory and CPU are bounded. What goes wrong is told by its kind alone, since a text
may quote what a stranger wrote.
"""

from __future__ import annotations

import resource
import sys
from typing import Literal

from control_plane.documents import describe, talk
from control_plane.documents.proofs import ATTACHED
from ledger.bundle import parse_bundle
from ledger.canonical import parse_time

MEMORY_BYTES = 2 << 30
CPU_S = 60


def main() -> None:
    """One order in, one document out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _say(talk.Made(_make()))
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it was
        _say(talk.Failed(type(error).__name__))


def _make() -> bytes:
    from control_plane.documents import draw, signing

    order = talk.told(sys.stdin.buffer)
    if not isinstance(order, talk.Order):
        raise TypeError
    page = describe.page(parse_bundle(order.bundle), data=order.bundle, self_issued=order.self_issued)
    pdf = draw.draw(page, (ATTACHED, order.bundle), parse_time(page.written))
    return signing.sign(
        pdf,
        order,
        signature=lambda digest: _ask(talk.Sign(digest)),
        token=lambda digest: _stamped("self", digest),
        outside=lambda digest: _stamped("external", digest),
    )


def _stamped(operator: Literal["self", "external"], digest: bytes) -> bytes:
    return _ask(talk.Stamp(operator, digest))


def _ask(question: talk.Said) -> bytes:
    _say(question)
    answer = talk.told(sys.stdin.buffer)
    if not isinstance(answer, talk.Given):
        raise TypeError
    return answer.data


def _say(message: talk.Said) -> None:
    sys.stdout.buffer.write(talk.frame(message))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
