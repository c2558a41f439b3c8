# SPDX-License-Identifier: Apache-2.0
"""The courier: takes notices from the outbox and posts them, signed, to where the `[[notify]]` tables say, or mails
them to whom the `[[mail]]` tables say (G2, G7). Before that it makes notices of the alerts that budgets raised.

Delivered at least once, in no order; the receiver knows a repeated one by its id. What fails is tried again, ever more
slowly; what failed as often as its table allows is given up, and an entry says so, as one says that a notice was
delivered. Nothing but a status of 200 to 299 is success: no redirect is followed and no answer is read. A notice holds
names, ids and reasons, and nothing of circuit or result (I10).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

import ledger.store
from control_plane.context import Plane
from control_plane.notices import alerts, mail, store, targets
from control_plane.notices.mail import Failed, MailFacts
from control_plane.notices.store import Notice
from control_plane.seed import PLANE_ACTOR
from control_plane.turns import take_turns
from finops import alert_store
from ledger.canonical import dumps, timestamp
from ledger.chain import Pending

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger("qcos.notices")
STEP_S = 0.5
IDLE_S = 5.0  # without a table there are only alerts to tell of, and what a former table left
LIMIT_S = 10.0
LEASE_S = 30.0
AT_ONCE = 8
LONGEST_WAIT_S = 900.0
DELIVERED = "policy:notice:delivered"
GIVEN_UP = "policy:notice:given_up"


class Courier:
    """One process's courier; any number may run beside each other."""

    def __init__(self, plane: Plane) -> None:
        """Nothing is opened yet."""
        self._plane = plane
        self._tables = {facts.name: facts for facts in plane.settings.channels}
        self._session: ClientSession | None = None

    async def serve(self) -> None:
        """Deliver until cancelled, through any fault."""
        try:
            await take_turns(self.step, STEP_S if self._tables else IDLE_S, log, "delivering notices")
        finally:
            await self.close()

    async def step(self) -> int:
        """One turn; how many notices were tried."""
        async with self._plane.transaction(None) as conn:
            crossed = await alert_store.due(conn, LEASE_S, AT_ONCE)
        for tenant, alert in crossed:
            await alerts.fire(self._plane, self._tables.values(), tenant, alert)
        async with self._plane.transaction(None) as conn:
            found = await store.due(conn, LEASE_S, AT_ONCE)
        await asyncio.gather(*(self._deliver(*one) for one in found))
        return len(found)

    async def close(self) -> None:
        """End kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _deliver(self, tenant: str, name: str) -> None:
        async with self._plane.transaction(tenant) as conn:
            notice = await store.opened(conn, tenant, name)
        if notice is None:
            return
        facts = self._tables.get(notice.channel)
        failed = Failed("no table of this name", final=True) if facts is None else await self._hand_over(facts, notice)
        tries, error = notice.tries + 1, failed.because if failed is not None else None
        async with self._plane.transaction(tenant) as conn:
            if failed is not None and facts is not None and not failed.final and tries < facts.tries:
                await store.again(conn, name, min(2.0**tries, LONGEST_WAIT_S))
            elif await store.end(conn, name):
                await ledger.store.append(conn, [(self._told(notice, tries, error), None)])
                if notice.body["event"] == alerts.EVENT:
                    became = {"state": "delivered" if error is None else "given_up", "tries": tries}
                    became |= {"at": timestamp(self._plane.now())} | ({} if error is None else {"error": error})
                    await alerts.ended(conn, notice, became)
        if error is not None:
            log.warning("notice %s to %s: try %d: %s", name, notice.channel, tries, error)

    async def _hand_over(self, facts: targets.NotifyFacts | MailFacts, notice: Notice) -> Failed | None:
        if isinstance(facts, MailFacts):
            made = mail.message(facts, notice.id, notice.body)
            return await asyncio.to_thread(mail.send, facts, made)
        error = await self._post(facts, notice)
        return Failed(error) if error is not None else None

    async def _post(self, facts: targets.NotifyFacts, notice: Notice) -> str | None:
        """None where it was taken; else why not, in words of our own."""
        import aiohttp  # slow to import, and most planes notify nobody

        body = dumps(notice.body | {"notice": notice.id})
        try:
            signed = targets.signature(targets.secret(facts), int(time.time()), body)
        except OSError as error:
            return f"its secret can't be read: {type(error).__name__}"
        headers = {"Content-Type": "application/json", "QCOS-Notice": notice.id, "QCOS-Signature": signed}
        if self._session is None:
            limit = aiohttp.ClientTimeout(total=LIMIT_S)
            self._session = aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.post(facts.url, data=body, headers=headers, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 300 else f"HTTP status {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__

    def _told(self, notice: Notice, tries: int, error: str | None) -> Pending:
        of_budget = notice.body["event"] == alerts.EVENT
        names = ("alert_id", "scope", "kind", "threshold", "window") if of_budget else ("job_id", "decision_id")
        kinds = (alerts.DELIVERED, alerts.GIVEN_UP) if of_budget else (DELIVERED, GIVEN_UP)
        body = {
            "notice": notice.id,
            "channel": notice.channel,
            "tries": tries,
            "at": timestamp(self._plane.now()),
            **{name: notice.body[name] for name in names},
        }
        return Pending(
            entry_id=str(uuid.uuid4()),
            tenant=notice.tenant,
            kind=kinds[0] if error is None else kinds[1],
            actor=PLANE_ACTOR,
            time=self._plane.now(),
            body=body if error is None else body | {"error": error},
        )
