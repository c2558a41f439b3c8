# SPDX-License-Identifier: Apache-2.0
"""Backends as they are shown: capability, calibration, queue, price, figures of a tenant's own jobs. Pure."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from control_plane.api.shapes import Amount, Currency, Hash, Instant


class Backend(Struct, frozen=True):
    """A backend, and why it is up or down."""

    id: str
    provider: str
    state: str
    qubits: int | None
    formats: tuple[str, ...]
    region: str | None
    compliance_zone: str | None
    sovereign: bool
    reason: str | None


class Errors(Struct, frozen=True):
    """Median errors by a calibration."""

    one_qubit: float | None
    two_qubit: float | None
    readout: float | None


class Calibration(Struct, frozen=True):
    """The calibration in force, as the backend names it; `hash` is of its bytes."""

    id: str
    hash: Hash
    valid_from: Instant
    errors: Errors | None


class CalibrationKept(Calibration, frozen=True):
    """A calibration that was found, and found again until `seen_at`."""

    found_at: Instant
    seen_at: Instant
    size: int


class Queue(Struct, frozen=True):
    """What waits at the backend now, by its own word."""

    depth: int | None
    seconds: float | None


class QueueNoted(Struct, frozen=True):
    """The worst of five minutes."""

    at: Instant
    online: bool
    reason: str | None
    depth: int
    queue_s: float


class Increment(Struct, frozen=True):
    """So many units are billed whole: each `size` that was started (up), the nearest, or each that is full (down)."""

    size: Amount
    rounding: Literal["up", "half_up", "down"]


class Tier(Struct, frozen=True):
    """The rate of what lies above so much."""

    above: Amount
    rate: Amount


class Rate(Struct, frozen=True):
    """The price of one unit of a meter; of a job of one task at least `minimum` and at most `cap` is billed.

    Of several `tiers` it is the first's. `by`: increment and limits are the job's, or each task's.
    """

    meter: str
    unit: str
    rate: Amount
    cap: Amount | None
    minimum: Amount | None
    by: Literal["job", "task"]
    increment: Increment | None
    tiers: tuple[Tier, ...]


class Price(Struct, frozen=True, kw_only=True):
    """What a rate card of the tenant's says of the backend, and the most that 1,000 executions cost by it.

    `in_force`: it prices the backend now. The most is null where nothing tells it before a circuit is compiled, as by
    gates, or where the card rests on a disputed reading that nobody accepted.
    """

    rate_card: Hash
    in_force: bool
    from_: Instant = field(name="from")
    until: Instant | None
    currency: Currency
    at_most_for_1000: Amount | None
    rates: tuple[Rate, ...]


class BackendShown(Backend, frozen=True):
    """All that the registry knows of a backend; `since` is when it last went up or down."""

    since: Instant
    seen_at: Instant
    simulator: bool | None
    max_shots: int | None
    queue: Queue
    capability: dict[str, Any]
    calibration: Calibration | None
    calibrations: tuple[CalibrationKept, ...]
    queue_history: tuple[QueueNoted, ...]
    prices: tuple[Price, ...]


class Quantiles(Struct, frozen=True):
    """The median, and what 95 % stay below."""

    p50: float
    p95: float


class Drift(Struct, frozen=True):
    """By which part each is more than in the period before; `success_rate` is the difference itself."""

    price: float | None
    run_time: float | None
    queue: float | None
    success_rate: float | None
    jobs_before: int


class Figures(Struct, frozen=True):
    """One backend over a period, by the tenant's own ended jobs; null where nothing was measured."""

    backend: str
    provider: str | None
    jobs: int
    completed: int
    failed_over: int
    success_rate: float | None
    success_interval: tuple[float, float] | None
    failures: dict[str, int]
    queue_s: Quantiles | None
    run_s: Quantiles | None
    run_s_per_1000: float | None
    price_per_1000: Amount | None
    currency: Currency | None
    drift: Drift


class BackendFigures(Struct, frozen=True):
    """Figures of each backend, and the two periods that they are of."""

    since: Instant
    until: Instant
    compared_since: Instant
    jobs_at_most: int
    backends: tuple[Figures, ...]
