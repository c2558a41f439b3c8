# SPDX-License-Identifier: Apache-2.0
"""What valid evidence proves of charges: bundles become facts and rate cards (G3, G7). No socket, no plane."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from finops.errors import FinopsError
from finops.facts import Fact
from finops.focus.recompute import Proven
from ledger.bundle import Bundle, parse_bundle
from ledger.errors import LedgerError
from ledger.verify import verify


def proven(bundles: Iterable[tuple[str, bytes]], trust: bytes) -> tuple[dict[str, Proven], dict[str, str]]:
    """What each job's bundle proves, and of which jobs nothing is proven and why; raises LedgerError of the trust file.

    A bundle that isn't `valid` proves nothing.
    """
    found: dict[str, Proven] = {}
    why: dict[str, str] = {}
    now = datetime.now(UTC)
    for name, data in bundles:
        try:
            bundle = parse_bundle(data)
        except LedgerError as error:
            why[name] = f"{name}: {error}"
            continue
        report = verify(data, trust, now)
        if report.verdict != "valid":
            why[bundle.job_id] = f"its evidence is {report.verdict}: {report.reason}"
        elif bundle.cost is not None:
            try:
                found[bundle.job_id] = _of(bundle)
            except (KeyError, msgspec.MsgspecError, FinopsError) as error:
                why[bundle.job_id] = f"its evidence doesn't carry what the charge is made of: {error}"
    return found, why


def _of(bundle: Bundle) -> Proven:
    execution = msgspec.json.decode(bundle.contents["execution"])
    ran, cost = bundle.execution_metadata, bundle.cost
    if cost is None or ran.provider is None or ran.backend is None:
        raise FinopsError("nothing was charged")
    return Proven(
        bundle.job_id,
        bundle.bundle_id,
        ran.provider,
        ran.backend,
        tuple(msgspec.convert(one, Fact, strict=False) for one in execution["facts"]),
        bundle.contents["rate_card"],
        tuple((one.meter, one.quantity, one.unit, one.rate, one.amount, one.source) for one in cost.lines),
    )
