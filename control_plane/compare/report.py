# SPDX-License-Identifier: Apache-2.0
"""The report of one job on several backends, as a document: rows, distributions with intervals, pairs, a verdict (G14).

Enters one `Row` a backend, what the plane and the job's evidence say of it. A backend that denied or failed is a row
with its reason. The chance of a false alarm over all pairs together is `ALPHA`: each pair has its share of it
(Bonferroni). Pure: chance and the time enter as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.compare.statistics import CONFIDENCE, Chance, Compared, compare, wilson

ALPHA = 0.05
MARGIN = 0.1
OUTCOMES = 64  # listed one by one; what is rarer is told as their sum
OTHERS = "others"


class Row(Struct, frozen=True, kw_only=True):
    """One backend's part; what the job didn't come to is None."""

    backend: str
    provider: str | None = None
    job_id: str | None = None
    state: str
    error: dict[str, str] | None = None
    counts: dict[str, int] | None = None
    shots: int = 0
    partial: str | None = None
    cost: dict[str, str] | None = None
    queue_s: float | None = None
    run_s: float | None = None
    qubits: int | None = None
    depth: int | None = None
    gates: int | None = None
    method: str | None = None
    noise: str | None = None
    seed: int | None = None
    calibration: dict[str, str] | None = None
    bundle_id: str | None = None
    evidence: str | None = None


def document(
    rows: Sequence[Row], *, name: str, workflow: str | None, at: str, margin: float, chance: Callable[[str], Chance]
) -> dict[str, Any]:
    """The whole report; `chance` gives each pair its own, by the pair's name."""
    measured = [row for row in rows if row.counts]
    pairs = list(combinations(measured, 2))
    judged = [_pair(a, b, margin, ALPHA / len(pairs), chance(f"{a.backend} {b.backend}")) for a, b in pairs]
    return {
        "file": name,
        "workflow": workflow,
        "made_at": at,
        "confidence": CONFIDENCE,
        "alpha": ALPHA,
        "margin": margin,
        "backends": [msgspec.to_builtins(row) for row in rows],
        "outcomes": _outcomes(measured),
        "pairs": judged,
        "verdict": _verdict(rows, judged, margin),
    }


def _pair(a: Row, b: Row, margin: float, alpha: float, chance: Chance) -> dict[str, Any]:
    found = compare(a.counts or {}, b.counts or {}, margin=margin, alpha=alpha, chance=chance)
    numbers = {name: round(getattr(found, name), 6) for name in ("distance", "upper", "p_value", "alpha")}
    return {
        "a": a.backend,
        "b": b.backend,
        **numbers,
        "permutations": found.permutations,
        "differs": found.differs,
        "verdict": found.verdict,
        "because": _because(found),
    }


def _because(found: Compared) -> str:
    chance = f"chance alone makes such counts in {found.p_value:.1%} of cases"
    match found.verdict:
        case "equal":
            seen = f"; a difference is seen (p {found.p_value:.3f}) and is that small" if found.differs else ""
            return f"the true distance is at most {found.upper:.3f}, the margin {found.margin:g}{seen}"
        case "different":
            return f"{chance}, and a distance of up to {found.upper:.3f} can't be ruled out"
        case "undecided":
            return f"{chance}: no difference is shown; more shots would show that it is below {found.margin:g}"


def _outcomes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each outcome with its share on each backend and Wilson's interval of it, the most frequent first."""
    weight: dict[str, float] = {}
    for row in rows:
        for bits, count in (row.counts or {}).items():
            weight[bits] = weight.get(bits, 0.0) + count / row.shots
    ranked = sorted(weight, key=lambda bits: (-weight[bits], bits))
    listed, rest = ranked[:OUTCOMES], ranked[OUTCOMES:]
    found = [_outcome(bits, rows, [(row.counts or {}).get(bits, 0) for row in rows]) for bits in listed]
    if rest:
        sums = [sum((row.counts or {}).get(bits, 0) for bits in rest) for row in rows]
        found.append(_outcome(OTHERS, rows, sums))
    return found


def _outcome(bits: str, rows: Sequence[Row], counts: Sequence[int]) -> dict[str, Any]:
    shares = {}
    for row, count in zip(rows, counts, strict=True):
        low, high = wilson(count, row.shots)
        shares[row.backend] = {
            "count": count,
            "share": round(count / row.shots, 6),
            "low": round(low, 6),
            "high": round(high, 6),
        }
    return {"outcome": bits, "shares": shares}


def _verdict(rows: Sequence[Row], pairs: Sequence[dict[str, Any]], margin: float) -> dict[str, str]:
    missing = [row.backend for row in rows if not row.counts]
    without = f"; without {', '.join(missing)}" if missing else ""
    if not pairs:
        return {"word": "nothing to compare", "because": f"fewer than two backends gave counts{without}"}
    by_word = {word: [f"{p['a']} and {p['b']}" for p in pairs if p["verdict"] == word] for word in WORDS}
    for word, says in WORDS.items():
        if by_word[word]:
            return {
                "word": word,
                "because": says.format(pairs="; ".join(by_word[word]), margin=f"{margin:g}") + without,
            }
    raise AssertionError  # each pair has one of the words


WORDS = {
    "different": "counts differ beyond chance: {pairs}",
    "undecided": "too few shots to tell whether the distance is below {margin}: {pairs}",
    "equal": "every two are nearer than {margin} in total variation",
}


def cheapest(rows: Sequence[Row]) -> list[str]:
    """The backends that charged least, where all that charged did so in one currency."""
    priced = [(Decimal(row.cost["amount"]), row) for row in rows if row.cost is not None and row.counts]
    if len({row.cost["currency"] for _, row in priced if row.cost is not None}) != 1:
        return []
    least = min(amount for amount, _ in priced)
    return [row.backend for amount, row in priced if amount == least]
