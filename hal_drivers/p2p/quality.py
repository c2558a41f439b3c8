# SPDX-License-Identifier: Apache-2.0
"""What the plane makes of a node's word: bounds of its fidelity from probes, and whether it overstates (N8, I8). Pure.

Of a service's newest ``WINDOW`` probes k of n trials survived (``probe``). Two exact bounds follow.

**Verified**: the one-sided lower bound at 99 %. Half of the 1 % goes to the survival's lower bound s₋, half to the
upper bound m₊ of the node's measurement, from its own probes; then λ₋ = (s₋ - c) / (M(m₊) - c) and
F₋ = 1 - (1 - λ₋^(1/r)) (d - 1) / d. Dividing by the best that the measurement may be takes out its error and no more:
F₋ exceeds the truth with probability 1 % at most. Below ``LEAST_TRIALS`` nothing is verified.

**Overstated**: the counterpart, an upper bound F₊ from s₊ and m₋, at a chance of ``ALARM`` a look, is below what the
node says. A look is one judgement after one probe. An honest node is accused in a thousand looks with probability 1 %
at most (1,000 · ``ALARM``). Of the probes of a window the least claim is judged, and those since its newest claim by
that, each at half the chance: who raises its claim isn't judged by what it was before. :func:`power` says how surely a
lie is found: of a node that says 0.99 and has 0.95 within a window of probes at the latest, for each service with more
than 0.999, and for all but ``bell_pair`` by the first of them.

These are truths about noise as the network defines it: depolarising, independent of which circuit runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec import Struct

from hal_drivers.p2p import bounds
from hal_drivers.p2p.aliases import TABLE, channel_of
from hal_drivers.p2p.ir import Service
from hal_drivers.p2p.probe import MEASURE, REPEATS

PPM = 1_000_000
CONFIDENCE = 0.99
WINDOW = 20
"""Probes of one service of one node."""
LEAST_TRIALS = 1_000
ALARM = 1e-5
SPAN_LOOKS = 1_000
LINK_WINDOW = 100


class Probed(Struct, frozen=True, forbid_unknown_fields=True):
    """One probe's outcome: trials and survivals, and what the node's advert said when it was sent."""

    survived: int
    trials: int
    reported_ppm: int


class Verdict(Struct, frozen=True, forbid_unknown_fields=True):
    """What the plane holds of one service of one node. ``verified_ppm`` None: too few trials."""

    service: Service
    verified_ppm: int | None
    at_most_ppm: int
    """The upper bound at the chance of one alarm."""
    overstates: bool
    probes: int
    trials: int
    reason: str


class LinkSample(Struct, frozen=True, forbid_unknown_fields=True):
    """One heartbeat over a link; ``latency_us`` None: it got no answer."""

    latency_us: int | None


class LinkVerdict(Struct, frozen=True, forbid_unknown_fields=True):
    """A link as its newest heartbeats show it."""

    state: Literal["unknown", "good", "degraded"]
    latency_us: int | None
    failure_ppm: int
    samples: int
    reason: str


class Law(Struct, frozen=True):
    """How survival follows from fidelity, for one service; ``m`` is the measurement's fidelity."""

    repeats: int
    d: int
    bits: int
    parity: bool

    @property
    def mixed(self) -> float:
        """What survives of the mixed state."""
        return 0.5 if self.parity else 0.5**self.bits

    def measured(self, m: float) -> float:
        """What the measurements alone leave."""
        return m * m + (1 - m) * (1 - m) if self.parity else m**self.bits

    def survival(self, fidelity: float, m: float) -> float:
        """The chance that a trial survives."""
        kept = max(0.0, 1 - (1 - fidelity) * self.d / (self.d - 1)) ** self.repeats
        return kept * self.measured(m) + (1 - kept) * self.mixed

    def fidelity(self, survival: float, m: float) -> float:
        """The other way round; 1 where the measurement is so bad that nothing can be said."""
        span = self.measured(m) - self.mixed
        if span <= 0:
            return 1.0
        kept = min(1.0, max(0.0, (survival - self.mixed) / span))
        return float(1 - (1 - kept ** (1 / self.repeats)) * (self.d - 1) / self.d)


def law(service: Service) -> Law:
    """Of the probes that ``probe.make`` makes."""
    once = service in ("bell_pair", MEASURE)
    channel = len(channel_of(service))
    bits = {"teleportation": 1}.get(service, TABLE[service].operands)
    return Law(1 if once else REPEATS, 1 << channel, bits, service == "bell_pair")


def judge(service: Service, probes: Sequence[Probed], measurement: Sequence[Probed]) -> Verdict:
    """Judge a service by its probes, oldest first, and by those of the node's own ``measurement_feedforward``."""
    newest, measured = probes[-WINDOW:], measurement[-WINDOW:]
    trials = sum(one.trials for one in newest)
    at_least = _bound(service, newest, measured, 1 - CONFIDENCE, upper=False)
    enough = trials >= LEAST_TRIALS and (service == MEASURE or _trials(measured) >= LEAST_TRIALS)
    claims = [one.reported_ppm for one in newest]
    current = newest[_since(claims) :]
    at_most = _bound(service, newest, measured, ALARM / 2, upper=True)
    now_at_most = _bound(service, current, measured, ALARM / 2, upper=True)
    overstates = bool(newest) and (
        int(at_most * PPM) + 1 < min(claims, default=0) or int(now_at_most * PPM) + 1 < claims[-1]
    )
    shown = min(at_most, now_at_most)
    reason = f"{len(newest)} probes, {trials} trials: at least {at_least:.6f} (99 %), at most {shown:.6f}"
    if overstates:
        reason += f"; it says {claims[-1] / PPM:.6f}"
    return Verdict(
        service=service,
        verified_ppm=int(at_least * PPM) if enough else None,
        at_most_ppm=min(PPM, int(shown * PPM) + 1),
        overstates=overstates,
        probes=len(newest),
        trials=trials,
        reason=reason,
    )


def power(service: Service, says: float, has: float, trials: int, measurement: float = 1.0) -> float:
    """The chance that so many trials find a node out that says one thing and has another, its measurement known."""
    rule, alpha = law(service), ALARM / 4
    low, high = 0, trials
    while low < high:  # the least number of survivals that still agrees with what it says
        middle = (low + high) // 2
        if rule.fidelity(bounds.upper(middle, trials, alpha), measurement) < says:
            low = middle + 1
        else:
            high = middle
    return 1 - bounds.at_least(low, trials, rule.survival(has, measurement))


def judge_link(samples: Sequence[LinkSample], most_latency_us: int, most_failure_ppm: int) -> LinkVerdict:
    """A link is degraded when its failures are too many beyond doubt (99 %), or its median answer too slow."""
    newest = samples[-LINK_WINDOW:]
    answered = [one.latency_us for one in newest if one.latency_us is not None]
    failed = len(newest) - len(answered)
    if not newest:
        return LinkVerdict("unknown", None, 0, 0, "nothing was sent over it yet")
    share = failed * PPM // len(newest)
    middle = int(median(answered)) if answered else None
    surely = bounds.lower(failed, len(newest), 1 - CONFIDENCE) if failed else 0.0
    if surely * PPM > most_failure_ppm:
        reason = f"{failed} of {len(newest)} heartbeats failed, surely more than {most_failure_ppm / PPM:.2%}"
        return LinkVerdict("degraded", middle, share, len(newest), reason)
    if middle is not None and middle > most_latency_us:
        reason = f"its median is {middle} µs, {most_latency_us} µs are allowed"
        return LinkVerdict("degraded", middle, share, len(newest), reason)
    return LinkVerdict("good", middle, share, len(newest), f"{len(answered)} of {len(newest)} heartbeats answered")


def _bound(
    service: Service, probes: Sequence[Probed], measured: Sequence[Probed], alpha: float, *, upper: bool
) -> float:
    survived, trials = sum(one.survived for one in probes), _trials(probes)
    if not trials:
        return 1.0 if upper else 0.0
    one_side = bounds.upper if upper else bounds.lower
    rule = law(service)
    if service == MEASURE:
        return rule.fidelity(one_side(survived, trials, alpha), 1.0)
    other_side = bounds.lower if upper else bounds.upper
    known = _trials(measured)
    m = other_side(sum(one.survived for one in measured), known, alpha / 2) if known else (0.5 if upper else 1.0)
    return rule.fidelity(one_side(survived, trials, alpha / 2), m)


def _trials(probes: Sequence[Probed]) -> int:
    return sum(one.trials for one in probes)


def _since(claims: Sequence[int]) -> int:
    """Where the newest claim began to be made without a break."""
    place = len(claims)
    while place > 0 and claims[place - 1] == claims[-1]:
        place -= 1
    return place
