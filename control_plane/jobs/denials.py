# SPDX-License-Identifier: Apache-2.0
"""A flood of denials by one person (G2, N13): few entries, and bounded in bytes a day.

The first denials of a minute stand alone, as every entry does. Those after them are durable all the same before they
are answered, but aside (`ledger.unfolded`), and a worker puts alike ones under one entry with their number and Merkle
root (`ledger.fold`); each keeps its decision, its job and its evidence. What today's denials of a person may take in
bytes is bounded: beyond it a denial is answered 429 `denial_quota` and kept as a number, which entries tell of as it
doubles. What policy allows is never refused here. The same person's denials are also paced, see `jobs.lane`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import ledger.folded_store
import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import store
from control_plane.policy.decision import Decision
from ledger import fold
from ledger.blob import SealedBlob
from ledger.chain import Pending, pending_bytes

Counted: TypeAlias = Literal["alone", "fold"]

ALONE_A_MINUTE = 10
FOLD_AFTER_S = 2.0
ROW_BYTES = 4096
"""What a denial takes beside its content and entries: the job's row, indexes, its share of tiles and checkpoints."""
SUPPRESSED = "policy:denials:suppressed"


class DenialQuota(Refused):
    """Denied, and not recorded one by one any more today."""

    def __init__(self, decision: Decision, suppressed: int, at: dt.datetime) -> None:
        midnight = dt.datetime.combine(at.astimezone(dt.UTC).date() + dt.timedelta(days=1), dt.time(), dt.UTC)
        self.retry_after_s = max(1, int((midnight - at).total_seconds()))
        said = "; ".join(reason.message for reason in decision.reasons)
        super().__init__(
            "denial_quota",
            f"{suppressed} denials of today are counted and not kept: {said}",
            extras={"reasons": decision.document()["reasons"], "retry_after_s": self.retry_after_s},
        )

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110 section 10.2.3, in whole seconds."""
        return {"Retry-After": str(self.retry_after_s)}


async def count(
    plane: Plane,
    principal: Principal,
    items: store.Items,
    blobs: Sequence[SealedBlob],
    decision: Decision,
    at: dt.datetime,
) -> Counted:
    """How a denial is to be recorded; raises DenialQuota where today's bytes are used up, and sees that it is told."""
    entries = sum(len(pending_bytes(entry)) for entry, _ in items)
    octets = ROW_BYTES + entries + sum(len(blob.ciphertext) for blob in blobs)
    tenant, person = principal.tenant, principal.pseudonym
    most = plane.settings.denial_bytes_per_day
    async with plane.transaction(tenant) as conn:
        verdict, suppressed = await store.count_denial(
            conn, tenant, person, octets=octets, most=most, alone=ALONE_A_MINUTE
        )
        if verdict != "suppressed":
            return cast("Counted", verdict)
        if suppressed.bit_count() == 1:  # 1, 2, 4, 8, …: a day has few such entries, and each says how many by then
            body = {"day": f"{at.astimezone(dt.UTC):%Y-%m-%d}", "suppressed": suppressed, "bytes_per_day": most}
            await ledger.store.append(conn, [(_entry(tenant, person, SUPPRESSED, body, at), None)])
    raise DenialQuota(decision, suppressed, at)


async def fold_ripe(plane: Plane, wait_s: float = FOLD_AFTER_S) -> int:
    """Put what has waited long enough under entries, a person's at a time; how many records."""
    async with plane.transaction(None) as conn:
        ripe = await ledger.folded_store.ripe(conn, wait_s, fold.MAX_ROWS)
    folded = 0
    for tenant, person in ripe:
        async with plane.transaction(tenant) as conn:
            rows = await ledger.folded_store.take_unfolded(conn, tenant, person, fold.MAX_ROWS)
            if not rows:  # another worker was faster
                continue
            entry = _entry(tenant, person, fold.FOLDED, fold.body([data for _, data in rows]), plane.now())
            await ledger.folded_store.keep_folded(conn, tenant, entry.entry_id, rows)
            await ledger.store.append(conn, [(entry, None)])
        folded += len(rows)
    return folded


def _entry(tenant: str, person: str, kind: str, body: dict[str, object], at: dt.datetime) -> Pending:
    return Pending(entry_id=str(uuid.uuid4()), tenant=tenant, kind=kind, actor=person, time=at, body=body)
