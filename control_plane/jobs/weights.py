# SPDX-License-Identifier: Apache-2.0
"""The weights of routing: data that an administrator sets in `[routing]`, each named with its bounds (G9, N11).

Enters: a TOML table. Leaves: frozen `Weights`, or SettingInvalid that names the key. `hash` is SHA-256 over the
canonical document, so that a recorded route says by which weights it was found. Pure: no clock, randomness or I/O.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from control_plane.errors import SettingInvalid

# Key: lowest, highest, what it is.
MEANS: dict[str, tuple[float, float, str]] = {
    "queue": (0, 100, "weight of a short queue"),
    "price": (0, 100, "weight of a low price"),
    "fidelity": (0, 100, "weight of a high estimated fidelity"),
    "history": (0, 100, "weight of the success rate of the tenant's last jobs there"),
    "queue_half_s": (0.1, 1e6, "a queue of so many seconds counts half"),
    "price_half": (1e-6, 1e6, "a price of so much, in the rate card's currency, counts half"),
    "history_days": (1, 365, "how far back the tenant's jobs count"),
    "failovers": (0, 8, "how often a job whose backend failed may go to another"),
}


class Weights(Struct, frozen=True, kw_only=True, dict=True):
    """What speaks for a backend, and by how much; only the ratio of the first four matters."""

    queue: float = 3.0
    price: float = 3.0
    fidelity: float = 2.0
    history: float = 2.0
    queue_half_s: float = 600.0
    price_half: float = 1.0
    history_days: int = 30
    failovers: int = 2

    @cached_property
    def total(self) -> float:
        """The sum of the four weights; 0 leaves price and id to decide."""
        return self.queue + self.price + self.fidelity + self.history

    @cached_property
    def hash(self) -> str:
        """Names these weights."""
        parts = {name: repr(float(getattr(self, name))) for name in MEANS}
        return "sha256:" + hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    @cached_property
    def shown(self) -> str:
        """The weights and their hash in one line, as evidence has them."""
        return " ".join([*(f"{name}={getattr(self, name):g}" for name in MEANS), self.hash])


def read(table: object) -> Weights:
    """The `[routing]` table; an unknown key is refused, for a misspelt weight would silently be none."""
    if not isinstance(table, Mapping):
        raise SettingInvalid("routing", table, "a table, headed [routing]")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in MEANS:
            raise SettingInvalid(f"routing.{key}", value, "one of the known keys: " + ", ".join(MEANS))
        values[key] = _number(key, value)
    return Weights(**values)


def _number(key: str, value: object) -> float:
    low, high, _ = MEANS[key]
    whole = isinstance(getattr(Weights(), key), int)
    wanted = f"a {'whole ' if whole else ''}number from {low:g} to {high:g}"
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not low <= value <= high:
        raise SettingInvalid(f"routing.{key}", value, wanted)
    return value if whole else float(value)
