# SPDX-License-Identifier: Apache-2.0
"""A person's own signing keys: enrolled, listed, revoked (S1, G13)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Meta, Struct

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Instant
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.signing import enrol
from control_plane.signing.enrol import Holder
from control_plane.signing.store import SigningKey
from ledger.asker import Algorithm, AskerKey
from ledger.canonical import timestamp
from ledger.envelope import audience


class SigningKeyShown(Struct, frozen=True):
    """One key; `key_id` is its JWK thumbprint, which an envelope's `kid` names."""

    key_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}$")]
    name: str
    alg: Algorithm
    jwk: dict[str, str]
    enrolled_at: Instant
    revoked_at: Instant | None


class SigningKeys(Struct, frozen=True):
    """What signing needs: the `aud` of envelopes for this tenant of this plane, whom an `enroll` has to name as its
    body, and one's keys, newest first.
    """

    audience: str
    holder: Holder
    keys: tuple[SigningKeyShown, ...]


@get(
    "/account/signing-keys",
    opt={"action": "account:own", "answers": Answers({200: SigningKeys})},
    summary="Your signing keys",
)
async def listed(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> SigningKeys:
    """Revoked ones too: what they signed is still theirs."""
    found = await enrol.keys_of(plane, request.user)
    holder = Holder(request.user.issuer, request.user.subject)
    return SigningKeys(audience(plane.name, request.user.tenant), holder, tuple(_shown(one) for one in found))


@post(
    "/account/signing-keys",
    status_code=201,
    opt={
        "action": "account:own",
        "answers": Answers(
            {201: SigningKeyShown}, refusals=("signing_key_known", "signing_keys_full"), body=enrol.Enrolling
        ),
    },
    summary="Enrol a signing key",
)
async def enrolled(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Its holder proves to hold it; the entry of the enrolment keeps the public key."""
    asked = await asked_by(request, enrol.enrolling)
    await enrol.room(plane, request.user)
    return Response(_shown(await enrol.enroll(plane, request.user, asked)), status_code=201)


@post(
    "/account/signing-keys/{key_id:str}/revoke",
    status_code=200,
    opt={"action": "account:own", "owner": "self", "answers": Answers({200: SigningKeyShown}, body=enrol.Revoking)},
    summary="Revoke a signing key",
)
async def revoked(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], key_id: FromPath[str]
) -> Response[Any]:
    """It signs nothing any more, in any process, from the answer on; what it signed before stays proven."""
    asked = await asked_by(request, enrol.revoking)
    return Response(_shown(await enrol.revoke(plane, request.user, key_id, asked)))


def _shown(one: SigningKey) -> SigningKeyShown:
    return SigningKeyShown(
        key_id=one.key_id,
        name=one.name,
        alg=one.alg,
        jwk=AskerKey(one.alg, one.public).jwk(),
        enrolled_at=timestamp(one.enrolled_at),
        revoked_at=None if one.revoked_at is None else timestamp(one.revoked_at),
    )


HANDLERS: tuple[Any, ...] = (listed, enrolled, revoked)
