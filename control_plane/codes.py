# SPDX-License-Identifier: Apache-2.0
"""Every code that an answer or a command line may carry: status, title, sentence, next step.

One table, so that API, console, CLI and docs say the same words. A test demands that each error class's code is here.
Codes are stable: one may be added, none renamed.
"""

from __future__ import annotations

from msgspec import Struct


class Meaning(Struct, frozen=True):
    """What a code means: `status` is the HTTP status, `next_step` what would help the person who sees it."""

    status: int
    title: str
    sentence: str
    next_step: str = ""


CODES: dict[str, Meaning] = {
    "internal": Meaning(500, "Internal error", "The plane failed; the fault is recorded with the request id.", "Report the request id."),
}
