# SPDX-License-Identifier: Apache-2.0
"""What a far side says, judged before it counts: pure, values in, values or BackendFailed out.

An outcome must be possible (bits, sums, times, usage no longer than the time that passed); texts are cut to what is
safe to show, and never quote the circuit or a credential (I10). Its clock may be off: times are moved by the difference
that was seen when it answered. What fits the circuit and the task (width, shots, seed) the plane judges for every
driver, by ``hal_drivers.outcome``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from msgspec.structs import astuple, replace

from hal_drivers.base import Block, CompiledFacts, Device, Outcome, Tally, Usage
from hal_drivers.errors import BackendFailed

SLACK_S = 2.0
"""What clocks and roundings may disagree by."""
OFF_S = 1.0
"""A clock that differs by less is taken as right."""
LONGEST_S = 30 * 86_400.0
_AT_ONCE = 256
_CORES = 4096
_MEMORY = 1 << 50
_WORD = 64
_TEXT = 200
_ENTRIES = 32
_QUOTE = 12
"""A text that shares so many characters with the circuit quotes it."""


def text(said: str, *secrets: str, longest: int = _TEXT) -> str:
    """A line that may be shown: printable ASCII, short, none of it from the circuit or a token."""
    line = " ".join("".join(c if 32 <= ord(c) < 127 else " " for c in said[: 4 * longest]).split())[:longest]
    for secret in secrets:
        flat = " ".join(secret.split())
        if any(line[at : at + _QUOTE] in flat for at in range(max(0, len(line) - _QUOTE + 1))):
            return ""
        if 0 < len(flat) < _QUOTE and flat in line:
            return ""
    return line


def words(said: dict[str, str], *secrets: str) -> dict[str, str]:
    """A few short facts of a far side, such as versions; raises BackendFailed where they are many."""
    if len(said) > _ENTRIES:
        raise BackendFailed("the backend answers too much")
    return {text(k, *secrets, longest=_WORD): text(v, *secrets) for k, v in said.items()}


def device(claimed: Device, ours: Device) -> Device:
    """Its claims within what the administrator and this plane's limits grant; where it stands is the former's word."""
    formats = tuple(name for name in claimed.capabilities.formats if name in ours.capabilities.formats)
    capabilities = replace(
        claimed.capabilities,
        formats=formats,
        handle_scope="anywhere",
        session=False,
        batch=False,
        exact=False,
        tasks_at_once=max(1, min(claimed.capabilities.tasks_at_once, _AT_ONCE)),
    )
    mitigation = tuple(text(name, longest=_WORD) for name in capabilities.mitigation[:_ENTRIES])
    by_method = {text(m, longest=_WORD): min(n, ours.qubits) for m, n in sorted(claimed.qubits_by_method.items())}
    return replace(
        ours,
        simulator=claimed.simulator,
        qubits=max(0, min(claimed.qubits, ours.qubits)),
        max_shots=max(1, min(claimed.max_shots, ours.max_shots)),
        capabilities=replace(capabilities, mitigation=mitigation),
        qubits_by_method=dict(list(by_method.items())[:_ENTRIES]),
    )


def tallies(said: CompiledFacts, most: int) -> None:
    """What it says that it counted must be possible; raises BackendFailed."""
    for tally in (said.submitted, said.runs):
        if isinstance(tally, Tally) and any(not 0 <= count <= most for count in astuple(tally)):
            raise BackendFailed("the gates that it counted are impossible")
    if isinstance(said.uncounted, str) and text(said.uncounted) != said.uncounted:
        raise BackendFailed("its answer can't be read")


def outcome(said: Outcome, theirs: datetime, now: datetime, since: datetime | None, *, simulator: bool) -> Outcome:
    """The outcome by our clock; ``theirs`` is its clock as it answered, ``since`` when the task was handed over."""
    off = now - theirs if abs((now - theirs).total_seconds()) > OFF_S else timedelta(0)
    try:
        moved = replace(
            said,
            started_at=_moved(said.started_at, off),
            ended_at=_moved(said.ended_at, off),
            blocks=tuple(
                replace(block, start=_moved(block.start, off), end=_moved(block.end, off)) for block in said.blocks
            ),
            method=text(said.method, longest=_WORD),
            partial=text(said.partial) or "the backend does not say why" if said.partial is not None else None,
            metadata=words(said.metadata),
            usage=_usage(said.usage, simulator=simulator),
        )
    except (OverflowError, ValueError):
        raise BackendFailed("its times are impossible") from None
    if off:
        moved.metadata["clock_off_s"] = f"{off.total_seconds():.1f}"
    _possible(moved, now, since)
    return moved


def _moved(at: datetime, off: timedelta) -> datetime:
    if at.utcoffset() is None:
        raise BackendFailed("its times name no zone")
    return (at + off).astimezone(UTC)


def _usage(said: Usage, *, simulator: bool) -> Usage:
    """Whatever it calls the source, it is the far side's word."""
    amounts = [said.wall_s, said.cpu_s or 0.0, said.qpu_s or 0.0]
    if any(not math.isfinite(amount) or amount < 0 for amount in amounts) or amounts[1] > amounts[0] * _CORES + SLACK_S:
        raise BackendFailed("the usage that it reports is impossible")
    if said.peak_memory_bytes is not None and not 0 <= said.peak_memory_bytes <= _MEMORY:
        raise BackendFailed("the usage that it reports is impossible")
    if simulator and said.qpu_s is not None:
        raise BackendFailed("a simulator has no QPU seconds")
    if said.reserved_s is not None:
        raise BackendFailed("nothing is reserved over this protocol")
    return replace(said, source="vendor")


def _possible(said: Outcome, now: datetime, since: datetime | None) -> None:
    slack = timedelta(seconds=SLACK_S)
    earliest = (since or now - timedelta(seconds=LONGEST_S)) - slack
    if not earliest <= said.started_at <= said.ended_at <= now + slack:
        raise BackendFailed("its times are impossible")
    ran_s = (said.ended_at - said.started_at).total_seconds() + SLACK_S
    if said.usage.wall_s > ran_s or (said.usage.qpu_s or 0.0) > ran_s:
        raise BackendFailed("the usage that it reports is longer than it had the task")
    for block in said.blocks:
        _within(block, said, slack)


def _within(block: Block, said: Outcome, slack: timedelta) -> None:
    if not said.started_at - slack <= block.start <= block.end <= said.ended_at + slack:
        raise BackendFailed("its times are impossible")
