# SPDX-License-Identifier: Apache-2.0
"""A circuit breaker for what asks OPA: after some failures in a row nobody waits for an OPA that doesn't answer (I5).

Pure: states and times enter, states leave. *Closed* lets everybody ask. *Open* refuses at once, until a time; then one
request is let in to try, and what becomes of it closes or opens it again. A failure is an OPA that can't be reached or
takes too long. Any answer of OPA is a success, a refusal too: who sends a document that no rule can read must not keep
others from being decided. An open breaker is `PolicyUnavailable`, as the failure itself would be; it never allows.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from msgspec import Struct

AFTER = 5
"""Failures in a row that open it; each has held its request for `policy_limit_s` at most."""

REST_S = 1.0
"""How long it then refuses before one request may try. So long, at most, a mended OPA isn't asked."""


class Closed(Struct, frozen=True, tag="closed"):
    """All may ask; so many have failed since the last answer."""

    failures: int = 0


class Open(Struct, frozen=True, tag="open"):
    """Nobody asks before `until`."""

    until: float


class Trying(Struct, frozen=True, tag="trying"):
    """One asks; the others are refused until it is known what became of that."""


State: TypeAlias = Closed | Open | Trying


def entered(state: State, now: float) -> State | None:
    """The state in which a request is sent; None where it must not be."""
    match state:
        case Closed():
            return state
        case Open(until):
            return Trying() if now >= until else None
        case Trying():
            return None
        case _:
            assert_never(state)


def answered() -> State:
    """OPA has said something, whatever it was."""
    return Closed()


def failed(state: State, now: float) -> State:
    """A request got no answer."""
    match state:
        case Closed(failures):
            return Closed(failures + 1) if failures + 1 < AFTER else Open(now + REST_S)
        case Open():
            return state  # it was sent before the others had failed
        case Trying():
            return Open(now + REST_S)
        case _:
            assert_never(state)


def abandoned(state: State, now: float) -> State:
    """Whoever asked went away before it was known: another may try in its place."""
    return Open(now) if isinstance(state, Trying) else state
