# SPDX-License-Identifier: Apache-2.0
"""A person enrols a key to sign requests with, and revokes it (S1, G13).

Who enrols a key proves to hold it: an envelope of kind `enroll`, signed with that key, which names them, so that nobody
enrols another's key as theirs. The entry keeps the public key: evidence of what it signed shows it beside the job, and
stays checkable when the key is long revoked. A revoked key never comes back.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from control_plane import administrative
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.signing import opened, store
from control_plane.signing.store import SigningKey
from control_plane.strict import Reason
from ledger import asker, cbor, envelope
from ledger.asker import AskerKey, Form
from ledger.errors import EnvelopeInvalid, KeyInvalid, NotCanonical

MOST_KEYS = 32
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]
Encoded = Annotated[str, Meta(min_length=1, max_length=20_000, pattern=r"^[A-Za-z0-9_.-]+$")]


class Enrolling(Struct, frozen=True, forbid_unknown_fields=True):
    """A key that is to be enrolled: `jwk`, or `cose_key` in base64url, and the proof that its holder asks."""

    name: Name
    proof: Annotated[Encoded, Meta(description="An envelope of kind `enroll` by the key: JWS, or COSE in base64url.")]
    jwk: Annotated[dict[str, Any] | None, Meta(description="RFC 7517: kty OKP (Ed25519) or AKP (ML-DSA).")] = None
    cose_key: Annotated[Encoded | None, Meta(description="RFC 9052, section 7, in base64url.")] = None


class Revoking(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a key is to sign nothing any more."""

    reason: Reason


class Holder(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an `enroll`: who asks, by their provider's words."""

    issuer: str
    subject: str


enrolling = msgspec.json.Decoder(Enrolling)
revoking = msgspec.json.Decoder(Revoking)
_holder = msgspec.json.Decoder(Holder)


async def enroll(plane: Plane, principal: Principal, asked: Enrolling) -> SigningKey:
    """Enrol the key; Refused where the proof is none, or the tenant knows the key."""
    now = plane.now()
    key = _key(asked)
    _prove(plane, principal, key, asked.proof, now)
    body = {"key_id": key.id, "alg": key.alg, "public": msgspec.to_builtins(key.public), "name": asked.name}
    entry = administrative.entry(principal, "identity:signing_key:enrolled", body, None, now)
    made = SigningKey(key.id, asked.name, key.alg, key.public, principal.issuer, principal.subject, entry.entry_id, now)
    async with plane.transaction(principal.tenant) as conn:
        if not await store.add(conn, principal.tenant, made):
            raise Refused("signing_key_known", f"{key.id} is enrolled, or was")
        await administrative.append(conn, entry)
    return made


async def room(plane: Plane, principal: Principal) -> None:
    """Refused where the principal has as many standing keys as anybody may."""
    standing = [one for one in await keys_of(plane, principal) if one.revoked_at is None]
    if len(standing) >= MOST_KEYS:
        raise Refused("signing_keys_full", f"{len(standing)} keys stand; revoke one")


async def keys_of(plane: Plane, principal: Principal) -> list[SigningKey]:
    """Their keys, newest first."""
    (rows,) = await plane.read(principal.tenant, store.own(principal))
    return [store.key(row) for row in rows]


async def revoke(plane: Plane, principal: Principal, key_id: str, asked: Revoking) -> SigningKey:
    """Revoke a key of one's own; again changes nothing. Refused `not_found` for any other."""
    (rows,) = await plane.read(principal.tenant, store.found(key_id))
    if not rows or not store.key(rows[0]).of(principal):
        raise Refused("not_found", f"you have no signing key {key_id[:64]}")
    found, now = store.key(rows[0]), plane.now()
    if found.revoked_at is not None:
        return found
    body = {"key_id": key_id, "alg": found.alg, "name": found.name}
    async with plane.transaction(principal.tenant) as conn:
        if await store.revoke(conn, principal.tenant, key_id, now):
            entry = administrative.entry(principal, "identity:signing_key:revoked", body, asked.reason, now)
            await administrative.append(conn, entry)
    return msgspec.structs.replace(found, revoked_at=now)


def _key(asked: Enrolling) -> AskerKey:
    if (asked.jwk is None) == (asked.cose_key is None):
        raise _refused("jwk", "wanted jwk or cose_key, one of the two")
    try:
        if asked.jwk is not None:
            return asker.from_jwk(asked.jwk)
        return asker.from_cose(cbor.decode(asker.unb64(asked.cose_key or "", "cose_key")))
    except (KeyInvalid, EnvelopeInvalid, NotCanonical) as error:
        raise _refused("jwk" if asked.jwk is not None else "cose_key", str(error)) from None


def _prove(plane: Plane, principal: Principal, key: AskerKey, proof: str, now: dt.datetime) -> None:
    """The proof is by this key, for this plane and tenant, now, and names the principal.

    It needs no nonce of its own: the key that it enrols can be enrolled once.
    """
    form: Form = "jose" if "." in proof else "cose"
    try:
        parts = envelope.parse(form, proof.encode() if form == "jose" else asker.unb64(proof, "proof"))
        if parts.key_id != key.id or parts.alg != key.alg:
            raise _refused("proof", "signed by another key")
        asker.verify(key, parts.covered, parts.signature)
        said = envelope.claims(parts.payload)
        opened.timely(plane, principal, said, now)
        holder = _holder.decode(said.body)
    except (EnvelopeInvalid, msgspec.ValidationError) as error:
        raise _refused("proof", str(error)) from None
    if said.kind != "enroll" or (holder.issuer, holder.subject) != (principal.issuer, principal.subject):
        raise _refused("proof", "it doesn't ask to enrol the key for you")


def _refused(field: str, message: str) -> Refused:
    return Refused("request_invalid", f"{field}: {message}"[:500], errors=({"field": field, "message": message[:256]},))
