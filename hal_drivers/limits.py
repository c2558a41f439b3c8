# SPDX-License-Identifier: Apache-2.0
"""How much a submitted circuit may ask for, and what a pre-scan found that it asks for. Values only."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a submitted circuit may ask for; pre-scan and guarded child judge by the same numbers."""

    source_bytes: int = 1 << 20
    qubits: int = 1_000
    clbits: int = 4_000
    """Also the widest classical type."""
    nesting: int = 32
    """Of brackets, blocks and statements that stand inside one another without braces."""
    gates: int = 100_000
    """Operations after expansion of gate definitions, loops, registers and powers."""
    loop: int = 100_000
    """Turns of one loop, and elements of one array."""
    controls: int = 12
    qpy: bool = False
    """QPY is served only where the administrator switched it on."""


class Scan(Struct, frozen=True):
    """What a source declares. Sizes that can't be told without running it count as nothing."""

    qubits_declared: int
    clbits_declared: int
    operations: int = 0
    """Upper bound of the operations once definitions, loops, registers and powers are multiplied out."""
    iterations: int = 0
    """Upper bound of all turns of all loops whose bounds can be told; inner loops count for each outer turn."""
    nesting: int = 0
    unbounded: int = 0
    """Loops whose turns nobody can tell before running them; their bodies are counted once."""
    services: tuple[str, ...] = ()
    """Service aliases that it uses and doesn't define (``bell_pair``): only a network knows them."""
