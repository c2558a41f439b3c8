# SPDX-License-Identifier: Apache-2.0
"""The plane's own trust file: its public keys, to be delivered apart from any evidence (design decision 3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

from control_plane import authorities, witnesses
from control_plane.documents import chains
from control_plane.parts import origin
from control_plane.settings import Settings
from ledger import cosignature
from ledger.canonical import sha256, timestamp
from ledger.keys import EVIDENCE, LOG
from ledger.predicate import Profile
from ledger.rotation import Named
from ledger.signature_store import KeyHistory, StoredKey
from ledger.succession import Succession
from ledger.trust import (
    Algorithm,
    Revocation,
    TrustedAuthority,
    TrustedDocuments,
    TrustedKey,
    TrustedRotation,
    TrustedWitness,
    TrustScope,
    trust_file,
)
from ledger.tsa import load_chain, start_of

VALID_DAYS = 365


def build(settings: Settings, plane: str, keys: Sequence[StoredKey], history: KeyHistory, now: dt.datetime) -> bytes:
    """A trust file as of now, good for a year; reads the authorities' certificates from the home folder.

    Its version counts what the log tells of keys and names and the windows of the authorities: each change raises it.
    """
    successions, outside = history.successions, authorities.used(settings.home)
    chain = load_chain(settings.home / "keys" / "tsa")
    profile = cast("Profile", settings.profile)
    asked = witnesses.used(settings.home)
    ends = [*(one.valid_until for one in outside), *(one.valid_until for one in asked)]
    return trust_file(
        version=history.entries + 1 + sum(1 if end is None else 2 for end in ends),
        issued_at=now,
        expires=now + dt.timedelta(days=VALID_DAYS),
        scope=TrustScope(profile=profile, plane=plane, tenants=None),
        origin=successions[-1].origin if successions else origin(settings),
        earlier=earlier_origins(successions),
        log=[_key(key, history) for key in keys if key.purpose == LOG],
        evidence=[_key(key, history) for key in keys if key.purpose == EVIDENCE],
        tsa=[
            TrustedAuthority(
                operator="self",
                name=f"{plane} time-stamping authority",
                certificates=chain,
                valid_from=timestamp(start_of(chain)),
                valid_until=None,
            ),
            *(
                TrustedAuthority(
                    operator="external",
                    name=one.name,
                    certificates=one.certificates,
                    valid_from=one.valid_from,
                    valid_until=one.valid_until,
                )
                for one in outside
            ),
        ],
        witnesses=[_witness(one) for one in asked],
        revoked=[Revocation(id=one.id, at=one.at, reason=one.reason) for one in history.revoked],
        rotations=[
            TrustedRotation(
                origin=one.statement.origin,
                size=one.statement.size,
                ended=tuple(name_of(key) for key in one.statement.ended),
                begun=tuple(name_of(key) for key in one.statement.begun),
            )
            for one in history.rotations
        ],
        documents=[
            TrustedDocuments(
                name=used.name,
                certificates=used.certificates,
                valid_from=used.valid_from,
                valid_until=used.valid_until,
            )
            for used in chains.used(settings)
        ],
    )


def earlier_origins(successions: Sequence[Succession]) -> list[str]:
    """Under which names these keys signed before the present one, oldest first: also those of logs that were lost."""
    named = [head.origin for log in successions for head in (log.kept, log.previous)]
    return [name for name in dict.fromkeys(named) if name != successions[-1].origin]


def name_of(key: StoredKey | Named) -> str:
    """What a trust file calls a key: one id is used for both algorithms of a purpose, and here stands for one key."""
    return f"{key.key_id}-{key.alg}"


def _witness(used: witnesses.Used) -> TrustedWitness:
    found = cosignature.parse_vkey(used.vkey)
    return TrustedWitness(
        id=f"{found.name}+{found.key_hash.hex()}",
        name=found.name,
        alg="ml-dsa-44",
        public=cosignature.spki(found.public),
        valid_from=used.valid_from,
        valid_until=used.valid_until,
    )


def _key(key: StoredKey, history: KeyHistory) -> TrustedKey:
    ended = (
        one.statement
        for one in history.rotations
        if sha256(key.public) in {ended.public_sha256 for ended in one.statement.ended}
    )
    return TrustedKey(
        id=name_of(key),
        alg=cast("Algorithm", key.alg),
        public=key.public,
        valid_from=timestamp(key.valid_from),
        valid_until=next((said.at for said in ended), None),
    )
