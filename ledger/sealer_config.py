# SPDX-License-Identifier: Apache-2.0
"""What a sealer is told, and whom it tells: its settings, authorities, clock and listener. Values and
Protocols only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

from ledger.alarm import TOLERANCE_S
from ledger.anchors.base import Anchor
from ledger.batch import Laid, Plane, Row
from ledger.custody import PLAIN, Custody
from ledger.timestamp import Operator

Told: TypeAlias = Callable[[str], None]


def unheard(_: str) -> None:
    """Nobody is told of the steps."""


class Authority(Struct, frozen=True):
    """A time-stamping authority; `target` as `tsa_client.stamp` takes it.

    With `certificates` (DER, its own first) each token is verified before it is kept: one by another authority than
    the trust file will name would make evidence that nobody can anchor.
    """

    operator: Operator
    target: str
    certificates: tuple[bytes, ...] = ()


class WitnessAt(Struct, frozen=True):
    """A configured witness: where it answers, and its name and key as a vkey (`ledger.cosignature`)."""

    url: str
    vkey: str


class AnchorAt(Struct, frozen=True):
    """A configured anchor, and how long after one head the next is told."""

    name: str
    anchor: Anchor
    every_s: float


class Watching(Protocol):
    """Hears what has become durable, for traces and metrics (G8); MUST return at once and raise nothing."""

    def sealed(self, rows: Sequence[Row], laid: Laid, began_ns: int) -> None:
        """A batch has been committed; `began_ns` is the wall clock when it was taken."""

    def stamped(self, operator: str, imprints: Sequence[bytes], began_ns: int) -> None:
        """Tokens over these imprints have been stored."""

    def failed(self, what: str, error: Exception) -> None:
        """`database` or `timestamps`: something is tried again. `sealing`: it has stopped, see `ledger.alarm`."""


class Clock(Protocol):
    """Tells the time; the system's where none is given."""

    def __call__(self) -> datetime:
        """The time, aware UTC."""


class SealerConfig(Struct, frozen=True, kw_only=True):
    """What a sealer is told; `conninfo` is libpq's, of the role `sealer`."""

    conninfo: str
    keys: Path  # folder of the keys
    custody: Custody = PLAIN
    head: Path  # the file that `ledger.head` keeps
    origin: str  # the log's first name, first line of each checkpoint; a successor's begins with it and a slash
    plane: Plane
    authorities: tuple[Authority, ...] = ()
    witnesses: tuple[WitnessAt, ...] = ()
    witness_interval_s: float = 1.0
    anchors: tuple[AnchorAt, ...] = ()
    certificates: tuple[bytes, ...] = ()  # of the document key, DER; none: this sealer signs no documents
    watching: Watching | None = None
    clock: Clock | None = None
    busy_poll_s: float = 0.002
    idle_poll_s: float = 0.05
    at: Told | None = None  # hears the name of each step as it is reached; the process may be ended there
    takeover_s: float = 3.0
    clock_tolerance_s: float = TOLERANCE_S
    accepted: Path | None = None  # a file with an operator's reason to seal although the clock was set back; used once

    def now(self) -> datetime:
        """What the sealer's clock says."""
        return self.clock() if self.clock is not None else datetime.now(UTC)
