# SPDX-License-Identifier: Apache-2.0
"""A signed envelope opened: whose key, for here and now, and never a second time (S1).

    1 parsed     the form; nothing ambiguous (`ledger.envelope`)
    2 known      the key is enrolled, stands, and is the sender's, whom the door has let in by their own credentials
    3 verified   the signature
    4 timely     for this tenant of this plane, within its time
    5 used       the nonce, in the database that all processes share: whoever comes second is refused

Sender and signature are checked apart: a stolen token can't sign, a stolen envelope isn't taken from somebody else.
Step 5 is the caller's to commit, with what it writes or before.
"""

from __future__ import annotations

import datetime as dt
import uuid

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs.envelope import Signature
from control_plane.signing import store
from ledger import asker, envelope
from ledger.asker import AskerKey, Form
from ledger.chain import Pending
from ledger.envelope import Claims, Signed
from ledger.errors import EnvelopeInvalid


class Unproven(Refused):
    """The signature proves nothing, whoever sent it."""

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that a 401 carries (RFC 9110, section 11.6.1): the bearer's own token was good."""
        return {"WWW-Authenticate": 'Bearer realm="qcos"'}


class Opened(Struct, frozen=True):
    """An envelope that is what it seems; `data` are its bytes, `enrolled` the entry of its key."""

    form: Form
    data: bytes
    key: AskerKey
    enrolled: str
    said: Claims

    @property
    def signature(self) -> Signature:
        """As it goes with the request."""
        return Signature(self.form, self.key.alg, self.key.id, self.enrolled, self.data)


async def opened(plane: Plane, principal: Principal, form: Form, data: bytes) -> Opened:
    """Steps 1 to 4; Refused with a code for each."""
    parts = await aside(len(data), _parse, form, data)
    (rows,) = await plane.read(principal.tenant, store.found(parts.key_id))
    known = store.key(rows[0]) if rows else None
    # One answer for what isn't there, isn't yours and is another tenant's (I7).
    if known is None or not known.of(principal) or known.alg != parts.alg:
        raise Unproven("signing_key_unknown", f"you have enrolled no {parts.alg} key {parts.key_id}")
    if known.revoked_at is not None:
        raise Unproven("signing_key_revoked", f"{parts.key_id} was revoked at {known.revoked_at:%Y-%m-%dT%H:%M:%SZ}")
    key = AskerKey(known.alg, known.public)
    said = await aside(len(data), _verified, key, parts)
    try:
        timely(plane, principal, said, plane.now())
    except EnvelopeInvalid as error:
        raise Unproven("envelope_refused", str(error)) from None
    return Opened(form, data, key, known.entry_id, said)


async def use(plane: Plane, principal: Principal, found: Opened) -> None:
    """Step 5; Refused `envelope_replayed` for a nonce that was used."""
    async with plane.transaction(principal.tenant) as conn:
        await _use(conn, principal, found)


async def use_kept(plane: Plane, principal: Principal, found: Opened, job_id: str) -> None:
    """Step 5, with an entry that tells what was asked of a job and keeps the envelope; a submission's is the job's."""
    await plane.vault.ready(plane.engine, principal.tenant)
    (sealed,) = plane.vault.seal(principal.tenant, (found.data,))
    body = {"job_id": job_id, "signal": found.said.kind, "envelope": found.signature.document()}
    entry = Pending(
        entry_id=str(uuid.uuid4()),
        tenant=principal.tenant,
        kind="request:envelope:signed",
        actor=principal.pseudonym,
        time=plane.now(),
        body=body,
        commitments={"envelope": sealed.commitment},
    )
    async with plane.transaction(principal.tenant) as conn:
        await _use(conn, principal, found)
        await ledger.store.append(conn, [(entry, None)], [sealed.blob])


async def _use(conn: AsyncConnection, principal: Principal, found: Opened) -> None:
    until = dt.datetime.fromtimestamp(found.said.exp, dt.UTC)
    if not await store.use(conn, principal.tenant, found.key.id, found.said.jti, until):
        raise Refused("envelope_replayed", "this envelope's nonce was used, or its key revoked just now")


def timely(plane: Plane, principal: Principal, said: Claims, now: dt.datetime) -> None:
    """Raise EnvelopeInvalid unless it is for this tenant of this plane, and for now."""
    aud = envelope.audience(plane.name, principal.tenant)
    envelope.judge(said, aud=aud, now_s=now.timestamp(), leeway_s=plane.settings.clock_skew_s)


def _parse(form: Form, data: bytes) -> Signed:
    try:
        return envelope.parse(form, data)
    except EnvelopeInvalid as error:
        raise Refused("envelope_invalid", str(error)) from None


def _verified(key: AskerKey, parts: Signed) -> Claims:
    try:
        asker.verify(key, parts.covered, parts.signature)
    except EnvelopeInvalid as error:
        raise Unproven("envelope_refused", str(error)) from None
    try:
        return envelope.claims(parts.payload)
    except EnvelopeInvalid as error:
        raise Refused("envelope_invalid", str(error)) from None
