# SPDX-License-Identifier: Apache-2.0
"""The plane's own trust file: its public keys, to be delivered apart from any evidence (design decision 3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

from control_plane import authorities, witnesses
from control_plane.parts import origin
from control_plane.settings import Settings
from ledger import cosignature
from ledger.canonical import timestamp
from ledger.keys import EVIDENCE, LOG
from ledger.predicate import Profile
from ledger.store import StoredKey
from ledger.succession import Succession
from ledger.trust import Algorithm, TrustedAuthority, TrustedKey, TrustedWitness, TrustScope, trust_file
from ledger.tsa import load_chain, start_of

VALID_DAYS = 365


def build(
    settings: Settings, plane: str, keys: Sequence[StoredKey], successions: Sequence[Succession], now: dt.datetime
) -> bytes:
    """A trust file as of now, good for a year; reads the authorities' certificates from the home folder."""
    chain = load_chain(settings.home / "keys" / "tsa")
    profile = cast("Profile", settings.profile)
    asked = witnesses.used(settings.home)
    return trust_file(
        version=1,
        issued_at=now,
        expires=now + dt.timedelta(days=VALID_DAYS),
        scope=TrustScope(profile=profile, plane=plane, tenants=None),
        origin=successions[-1].origin if successions else origin(settings),
        earlier=earlier_origins(successions),
        log=[_key(key) for key in keys if key.purpose == LOG],
        evidence=[_key(key) for key in keys if key.purpose == EVIDENCE],
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
                    name=outside.name,
                    certificates=outside.certificates,
                    valid_from=outside.valid_from,
                    valid_until=outside.valid_until,
                )
                for outside in authorities.used(settings.home)
            ),
        ],
        witnesses=[_witness(one) for one in asked],
    )


def earlier_origins(successions: Sequence[Succession]) -> list[str]:
    """Under which names these keys signed before the present one, oldest first: also those of logs that were lost."""
    named = [head.origin for log in successions for head in (log.kept, log.previous)]
    return [name for name in dict.fromkeys(named) if name != successions[-1].origin]


def name_of(key: StoredKey) -> str:
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


def _key(key: StoredKey) -> TrustedKey:
    return TrustedKey(
        id=name_of(key),
        alg=cast("Algorithm", key.alg),
        public=key.public,
        valid_from=timestamp(key.valid_from),
        valid_until=None,
    )
