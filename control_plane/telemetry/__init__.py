# SPDX-License-Identifier: Apache-2.0
"""Spans, metrics and the ids that logs carry (G8): what the plane's code calls, with nothing behind it until `begin`.

Enters: names of `telemetry.names` and small values. Leaves: nothing that the caller could depend on; no call here
raises, waits or fails its caller. While nothing is configured each call is one comparison. What crosses the database
is `traceparent()`, which a job's row and the inbox carry, and no leaf (I6). Never an attribute: tokens, keys, circuit
source, a person's text (I10).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

__all__ = [
    "Recorder",
    "Value",
    "about",
    "begin",
    "bind",
    "count",
    "current",
    "ids",
    "measure",
    "note",
    "span",
    "traced",
    "traceparent",
    "unbind",
]

P = ParamSpec("P")
T = TypeVar("T")
Value: TypeAlias = str | int | float | bool | None


class Recorder(Protocol):
    """What stands behind the calls once telemetry is on."""

    def span(
        self, name: str, parent: str | None, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[object, bool | None]:
        """A span, and the measurement that its name stands for, until the block ends."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Further attributes of the innermost span."""

    def count(self, metric: str, number: int, attributes: Mapping[str, Value]) -> None:
        """Add to a counter."""

    def measure(self, metric: str, value: float, attributes: Mapping[str, Value]) -> None:
        """Record a value in a histogram."""

    def link(self, traceparent: str) -> None:
        """The innermost span belongs to another trace too."""

    def traceparent(self) -> str | None:
        """The innermost span as a W3C traceparent."""


_recorder: Recorder | None = None
_OFF: AbstractContextManager[None, None] = nullcontext()
_IDS: ContextVar[Mapping[str, str]] = ContextVar("qcos_ids", default={})  # noqa: B039 - never changed, only replaced


def begin(recorder: Recorder | None) -> None:
    """Put a recorder behind the calls of this process, or none."""
    global _recorder  # noqa: PLW0603 - telemetry is a process's own, like its log
    _recorder = recorder


def current() -> Recorder | None:
    """What stands behind the calls of this process."""
    return _recorder


def span(name: str, parent: str | None = None, **attributes: Value) -> AbstractContextManager[object, bool | None]:
    """The span of a block; `parent` is a traceparent that came from another process."""
    return _OFF if _recorder is None else _recorder.span(name, parent, attributes)


def traced(
    name: str, tell: Callable[[Any], Mapping[str, Value]] | None = None
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """A span around an async function; `tell` says what of its result becomes attributes."""

    def wrap(work: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(work)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            if _recorder is None:
                return await work(*args, **kwargs)
            with _recorder.span(name, None, {}):
                result = await work(*args, **kwargs)
                if tell is not None:
                    _recorder.note(tell(result))
                return result

        return run

    return wrap


def note(**attributes: Value) -> None:
    """Say more of the innermost span."""
    if _recorder is not None:
        _recorder.note(attributes)


def about(job: Mapping[str, Any]) -> None:
    """Say that this task serves a job: its ids for logs and spans, and a link to the trace that made it."""
    bind(job_id=job["job_id"], decision_id=job["decision_id"])
    if _recorder is not None and job["traceparent"] is not None:
        _recorder.link(job["traceparent"])


def count(metric: str, number: int = 1, **attributes: Value) -> None:
    """Add to a counter."""
    if _recorder is not None:
        _recorder.count(metric, number, attributes)


def measure(metric: str, value: float, **attributes: Value) -> None:
    """Record a value in a histogram."""
    if _recorder is not None:
        _recorder.measure(metric, value, attributes)


def traceparent() -> str | None:
    """The innermost span for another process to go on with; None while telemetry is off."""
    return None if _recorder is None else _recorder.traceparent()


def bind(**named: str | None) -> None:
    """Ids that each log line of this task carries from here on, and that its spans are found by."""
    _IDS.set({**_IDS.get(), **{name: value for name, value in named.items() if value is not None}})


def unbind() -> None:
    """Forget the ids of this task."""
    _IDS.set({})


def ids() -> Mapping[str, str]:
    """The ids bound in this task."""
    return _IDS.get()
