# SPDX-License-Identifier: Apache-2.0
"""Objective figures of each backend over a period, from the tenant's own jobs: for procurement and SLAs (G14, I7).

Enters: what `store.figured` read of the period and of the one before it, equally long. Leaves one document a backend:
success rate with its interval, waiting and running times, price and time with their drift, failures by reason. Nothing
is estimated where nothing was measured: such a figure is null. Pure: no clock, randomness or I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from control_plane.compare.statistics import wilson
from control_plane.jobs.past import FAULTS
from finops import money

PER = 1000  # prices and times are told for so many executions
PLACES = Decimal("0.000001")


def document(
    rows: Iterable[Mapping[str, Any]], failures: Iterable[Mapping[str, Any]], provider: str | None = None
) -> list[dict[str, Any]]:
    """One document a backend, by id; `provider` leaves its own alone."""
    by_period: dict[tuple[int, str], Mapping[str, Any]] = {}
    providers: dict[str, str | None] = {}
    for row in rows:  # a backend with prices in two currencies keeps the one of most jobs
        key = row["period"], row["backend"]
        if key not in by_period or by_period[key]["jobs"] < row["jobs"]:
            by_period[key] = row
        providers[row["backend"]] = row["provider"]
    codes: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    moved: defaultdict[tuple[int, str], int] = defaultdict(int)
    for row in failures:
        key, code = (row["period"], row["backend"]), row["code"] or "unknown"
        codes[key][code] = codes[key].get(code, 0) + row["times"]
        moved[key] += row["times"] if row["moved"] else 0
        providers.setdefault(row["backend"], None)
    return [
        _of_backend(
            name,
            providers[name],
            [_of_period(by_period.get((n, name)), codes[n, name], moved[n, name]) for n in (0, 1)],
        )
        for name in sorted(providers)
        if (provider is None or providers[name] == provider) and _seen(by_period, codes, name)
    ]


def _seen(rows: Mapping[tuple[int, str], Any], codes: Mapping[tuple[int, str], Any], name: str) -> bool:
    return (0, name) in rows or bool(codes.get((0, name)))


def _of_period(row: Mapping[str, Any] | None, codes: dict[str, int], moved: int) -> dict[str, Any]:
    completed = row["completed"] if row else 0
    faults = sum(times for code, times in codes.items() if code in FAULTS)
    judged = completed + faults
    low, high = wilson(completed, judged)
    return {
        "jobs": row["jobs"] if row else 0,
        "completed": completed,
        "failed_over": moved,
        "success_rate": _share(completed / judged) if judged else None,
        "success_interval": [_share(low), _share(high)] if judged else None,
        "failures": dict(sorted(codes.items())),
        "queue_s": _quantiles(row, "queue_s"),
        "run_s": _quantiles(row, "run_s"),
        "run_s_per_1000": _seconds(row["run_s_1000"]) if row else None,
        "price_per_1000": _price(row),
        "currency": row["currency"] if row else None,
    }


def _of_backend(name: str, provider: str | None, periods: list[dict[str, Any]]) -> dict[str, Any]:
    now, before = periods
    same = now["currency"] == before["currency"]
    return {
        "backend": name,
        "provider": provider,
        **now,
        "drift": {
            "price": _drift(now["price_per_1000"], before["price_per_1000"]) if same else None,
            "run_time": _drift(now["run_s_per_1000"], before["run_s_per_1000"]),
            "queue": _drift(_median(now["queue_s"]), _median(before["queue_s"])),
            "success_rate": _difference(now["success_rate"], before["success_rate"]),
            "jobs_before": before["jobs"],
        },
    }


def _quantiles(row: Mapping[str, Any] | None, name: str) -> dict[str, float] | None:
    found = row[name] if row else None
    if found is None or found[0] is None:
        return None
    return {"p50": round(found[0], 6), "p95": round(found[1], 6)}


def _median(quantiles: Mapping[str, float] | None) -> float | None:
    return quantiles["p50"] if quantiles else None


def _price(row: Mapping[str, Any] | None) -> str | None:
    if row is None or row["cost"] is None or not row["executions"]:
        return None
    return money.text((row["cost"] * PER / row["executions"]).quantize(PLACES))


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _share(value: float) -> float:
    return round(value, 6)


def _drift(now: str | float | None, before: str | float | None) -> float | None:
    """By which part it is more than before; None where there is no before, or it was nothing."""
    if now is None or before is None or not float(before):
        return None
    return round(float(now) / float(before) - 1, 4)


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else round(now - before, 6)
