# SPDX-License-Identifier: Apache-2.0
"""A push of policies: what its entry says, and how it is put down, so that of two on one base one is kept (G2, G5).

Judged policies enter; one transaction keeps the files and writes the entry `policy:pushed`, on which the sealer signs.
It is in force once that signature is there, and not before. Who may push, and what is judged, is the caller's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.errors import Refused
from control_plane.policy import bundle, store
from control_plane.policy.revision import PolicySet, decides
from control_plane.policy.store import Push
from ledger import policies as rules
from ledger.canonical import sha256
from ledger.chain import Pending
from ledger.policies import File, Pushed


class Asked(Struct, frozen=True, kw_only=True):
    """Who pushes, why, and on which revision; `base` None is whatever stands."""

    tenant: str
    actor: str
    message: str
    base: str | None
    at: datetime


async def put(conn: AsyncConnection, policies: PolicySet, asked: Asked) -> Push:
    """Keep the push and write its entry; raises Refused `policy_moved` where another stands than its base."""
    number, standing = await store.head(conn)
    if asked.base is not None and asked.base != standing:
        raise moved(standing)
    push = Push(
        number=number + 1,
        entry_id=str(uuid.uuid4()),
        revision=policies.revision,
        base=standing,
        tenant=asked.tenant,
        actor=asked.actor,
        message=asked.message,
        pushed_at=asked.at,
    )
    if not await store.put(conn, push, policies.files):
        raise moved(None)
    entry = Pending(
        entry_id=push.entry_id,
        tenant=asked.tenant,
        kind=rules.PUSHED,
        actor=asked.actor,
        time=asked.at,
        body=msgspec.to_builtins(body(policies, push.number, push.base)),
    )
    await ledger.store.append(conn, [(entry, None)])
    return push


def moved(standing: str | None) -> Refused:
    """Another push came in between."""
    said = f"{standing} stands now" if standing else "another push was first"
    return Refused("policy_moved", f"the policies changed meanwhile: {said}")


def body(policies: PolicySet, number: int, base: str | None) -> Pushed:
    """What the entry says of a push."""
    return Pushed(
        number=number,
        revision=policies.revision,
        base=base,
        files=_files({path: content for path, content in policies.files.items() if decides(path)}),
        beside=_files({path: content for path, content in policies.files.items() if not decides(path)}),
        data=sha256(bundle.data(policies)),
    )


def _files(files: Mapping[str, bytes]) -> tuple[File, ...]:
    return tuple(File(path, sha256(files[path])) for path in sorted(files))
