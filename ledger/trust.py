# SPDX-License-Identifier: Apache-2.0
"""The trust file: what an auditor was handed apart from any bundle, and believes.

Enters: public keys with their validity, the certificates of time-stamping authorities, revocations, and
the scope (profile, plane, tenants) that these may speak for. Leaves: canonical JSON, and the struct read
back with its keys ready for use. It holds no secret and no signature of its own: it is worth what the way
is worth by which it came. Not here: judging a bundle (`ledger.verify`), fetching or renewing the file.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from msgspec import Meta, Struct

from ledger import canonical, checkpoint, cosignature, keys
from ledger.errors import EvidenceInvalid, LedgerError, UsageError
from ledger.predicate import Closed, Count, Profile, Text, Time, decode
from ledger.timestamp import Authority, Operator

MAX_TRUST_BYTES = 1024 * 1024
Type = Literal["urn:qcos:trust:v1", "urn:qcos:trust:v2", "urn:qcos:trust:v3"]
TYPE: Type = "urn:qcos:trust:v1"
SUCCESSOR: Type = "urn:qcos:trust:v2"  # the log has earlier origins
COSIGNED: Type = "urn:qcos:trust:v3"  # there are witnesses, chains under which documents are signed, or rotations
BENIGN = ("superseded", "ceased")  # reasons of a revocation that let nobody else sign
Algorithm = Literal["ed25519", "ml-dsa-65", "ecdsa-p256"]
_KINDS: dict[str, type] = {
    "ed25519": Ed25519PublicKey,
    "ml-dsa-65": MLDSA65PublicKey,
    "ecdsa-p256": ec.EllipticCurvePublicKey,
}


class TrustScope(Closed, frozen=True):
    """What the keys may speak for; `tenants` null means any tenant of the plane."""

    profile: Profile
    plane: Text
    tenants: tuple[Text, ...] | None


class TrustedKey(Closed, frozen=True):
    """A public key (SubjectPublicKeyInfo DER) and when it signed; `valid_until` null: still."""

    id: Text
    alg: Algorithm
    public: bytes
    valid_from: Time
    valid_until: Time | None


class TrustedLog(Closed, frozen=True, omit_defaults=True):
    """The transparency log: its origin line and the keys of its checkpoints.

    `earlier`, from version 2 on: the origins under which the same keys signed before it (`ledger.succession`), first
    one first. What they signed then stays as good as it was.
    """

    origin: Text
    keys: tuple[TrustedKey, ...]
    earlier: tuple[Text, ...] = ()


class TrustedAuthority(Closed, frozen=True):
    """A time-stamping authority: its certificate first, then the chain to its root, DER.

    From `valid_from` to `valid_until` (null: still) the plane has everything stamped by it: a bundle of that
    time without its token lacks something, and one of another time with its token has too much.
    """

    operator: Operator
    name: Text
    certificates: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=8)]
    valid_from: Time
    valid_until: Time | None


class TrustedWitness(Closed, frozen=True):
    """A cosigner of checkpoints (`ledger.cosignature`) and when the plane asked it; `name` is in what it signs."""

    id: Text
    name: Text
    alg: Literal["ml-dsa-44"]
    public: bytes
    valid_from: Time
    valid_until: Time | None


class TrustedDocuments(Closed, frozen=True):
    """A chain under which documents (PDF) were signed: the signer's certificate first, DER, and when it signed."""

    name: Text
    certificates: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=8)]
    valid_from: Time
    valid_until: Time | None


class TrustedRotation(Closed, frozen=True):
    """Where in the log keys follow keys (`ledger.rotation`): `ended` ids speak up to `size`, `begun` ids above it."""

    origin: Text
    size: Count
    ended: tuple[Text, ...]
    begun: tuple[Text, ...]


class Revocation(Closed, frozen=True):
    """A key id, or the name of an authority, witness or document chain, that proves nothing from `at` on.

    What is proven to be older stays. By whom, is said by the reason's first word: `superseded` and `ceased` are
    about keys that nobody else has, so any trusted time will do. Any other (`compromised`) may mean that a thief
    signs, who may have the plane's own clock as well: then only an outside authority or a witness tells the time.
    """

    id: Text
    at: Time
    reason: str


class TrustFile(Closed, frozen=True, omit_defaults=True):
    """The file's members; `witnesses`, `documents`, `rotations` from version 3 on, each left out where it is empty."""

    type: Type
    version: Count
    issued_at: Time
    expires: Time
    scope: TrustScope
    log: TrustedLog
    evidence: tuple[TrustedKey, ...]
    tsa: tuple[TrustedAuthority, ...]
    revoked: tuple[Revocation, ...]
    witnesses: tuple[TrustedWitness, ...] = ()
    documents: tuple[TrustedDocuments, ...] = ()
    rotations: tuple[TrustedRotation, ...] = ()


class Window(Struct, frozen=True):
    """A time of use, both ends included; `until` null: still in use."""

    since: datetime
    until: datetime | None

    def holds(self, time: datetime, tolerance: timedelta = timedelta(0)) -> bool:
        """Whether `time` lies in it, or no further outside than `tolerance`."""
        return self.since - tolerance <= time and (self.until is None or time <= self.until + tolerance)


class LoadedKey(Struct, frozen=True):
    """A trusted key ready to verify."""

    id: str
    public: keys.PublicKey
    used: Window


class LoadedAuthority(Struct, frozen=True):
    """A trusted authority ready to verify."""

    by: Authority
    used: Window


class LoadedWitness(Struct, frozen=True):
    """A trusted witness ready to verify."""

    id: str
    by: cosignature.Witness
    used: Window


class Revoked(Struct, frozen=True):
    """From when a key proves nothing; `hostile` where its own clock is not to be believed either."""

    at: datetime
    hostile: bool


class Trust(Struct, frozen=True):
    """A trust file with its keys and certificates loaded; `seen` remembers checkpoints that were good under them."""

    file: TrustFile
    log: tuple[tuple[LoadedKey, checkpoint.Verifier], ...]
    evidence: tuple[LoadedKey, ...]
    authorities: tuple[LoadedAuthority, ...]
    revoked: dict[str, tuple[Revoked, ...]]
    witnesses: tuple[LoadedWitness, ...] = ()
    seen: dict[bytes, checkpoint.Checkpoint] = msgspec.field(default_factory=dict)

    def speaks(self, key_id: str, origin: str, position: int) -> bool:
        """Whether a key may speak for a place of the log: a checkpoint's size, or an entry's index + 1."""
        order = [*self.file.log.earlier, self.file.log.origin]
        places = [
            (position if order.index(origin) >= order.index(one.origin) else 0, one)
            for one in self.file.rotations
            if key_id in one.ended or key_id in one.begun
        ]
        return all((place <= one.size) == (key_id in one.ended) for place, one in places)

    def hostile(self, name: str) -> bool:
        """Whether a key or authority may be in the hands of somebody else."""
        return any(entry.hostile for entry in self.revoked.get(name, ()))


_trust = msgspec.json.Decoder(TrustFile)


def trust_file(
    *,
    version: int,
    issued_at: datetime,
    expires: datetime,
    scope: TrustScope,
    origin: str,
    log: Sequence[TrustedKey],
    evidence: Sequence[TrustedKey],
    tsa: Sequence[TrustedAuthority],
    revoked: Sequence[Revocation] = (),
    earlier: Sequence[str] = (),
    witnesses: Sequence[TrustedWitness] = (),
    documents: Sequence[TrustedDocuments] = (),
    rotations: Sequence[TrustedRotation] = (),
) -> bytes:
    """The bytes of a trust file, of the lowest version that can say this; UsageError if it would not be read back."""
    file = TrustFile(
        type=_type(earlier=bool(earlier), more=bool(witnesses or documents or rotations)),
        version=version,
        issued_at=canonical.timestamp(issued_at),
        expires=canonical.timestamp(expires),
        scope=scope,
        log=TrustedLog(origin=origin, keys=tuple(log), earlier=tuple(earlier)),
        evidence=tuple(evidence),
        tsa=tuple(tsa),
        revoked=tuple(revoked),
        witnesses=tuple(witnesses),
        documents=tuple(documents),
        rotations=tuple(rotations),
    )
    data = canonical.dumps(msgspec.to_builtins(file))
    parse_trust(data)
    return data


@lru_cache(maxsize=8)  # many bundles are judged by one trust file, and its certificates take time to load
def parse_trust(data: bytes) -> Trust:
    """The trust that a file gives. UsageError for anything but a sound one: half a trust file is none."""
    if len(data) > MAX_TRUST_BYTES:
        raise UsageError(f"trust file: {len(data)} bytes")
    try:
        file = decode(_trust, data, "trust file")
        if canonical.dumps(msgspec.to_builtins(file)) != data:
            raise EvidenceInvalid("trust file: not in canonical form (RFC 8785)")
        canonical.parse_time(file.issued_at)
        canonical.parse_time(file.expires)
        more = bool(file.witnesses or file.documents or file.rotations)
        if file.type != _type(earlier=bool(file.log.earlier), more=more):
            raise EvidenceInvalid("trust file: not of the lowest version that can say this")
        names = [key.id for key in (*file.log.keys, *file.evidence)] + [by.id for by in file.witnesses]
        names += [tsa.name for tsa in file.tsa] + [chain.name for chain in file.documents]
        if len(names) != len(set(names)):
            raise EvidenceInvalid("trust file: an id or name that stands for two")
        _check_rotations(file)
        return Trust(
            file=file,
            log=tuple(_log_key(name, key) for name in (file.log.origin, *file.log.earlier) for key in file.log.keys),
            evidence=tuple(_load(key) for key in file.evidence),
            authorities=tuple(
                LoadedAuthority(Authority(tsa.operator, tsa.name, tsa.certificates), _window(tsa)) for tsa in file.tsa
            ),
            revoked=_revoked(file.revoked),
            witnesses=tuple(_witness(entry) for entry in file.witnesses),
        )
    except UsageError:
        raise
    except LedgerError as error:
        raise UsageError(f"trust file: {error}") from error


def _revoked(entries: Sequence[Revocation]) -> dict[str, tuple[Revoked, ...]]:
    found: dict[str, tuple[Revoked, ...]] = {}
    for entry in entries:
        hostile = entry.reason.partition(":")[0].strip() not in BENIGN
        found[entry.id] = (*found.get(entry.id, ()), Revoked(canonical.parse_time(entry.at), hostile))
    return found


def _check_rotations(file: TrustFile) -> None:
    """Each names origins and keys of this file, and no key ends or begins twice."""
    kinds = ({key.id for key in file.log.keys}, {key.id for key in file.evidence})
    for side in ("ended", "begun"):
        ids = [key_id for one in file.rotations for key_id in getattr(one, side)]
        if len(ids) != len(set(ids)):
            raise EvidenceInvalid(f"trust file: a key that is {side} twice")
    for one in file.rotations:
        named = {*one.ended, *one.begun}
        if one.origin not in (file.log.origin, *file.log.earlier) or not any(named <= known for known in kinds):
            raise EvidenceInvalid("trust file: a rotation of keys or of a log that it does not know")
        if not one.ended or not one.begun or named != set(one.ended) ^ set(one.begun):
            raise EvidenceInvalid("trust file: a rotation that ends or begins nothing, or the same key")


def _type(*, earlier: bool, more: bool) -> Type:
    if more:
        return COSIGNED
    return SUCCESSOR if earlier else TYPE


def _load(key: TrustedKey) -> LoadedKey:
    public = keys.parse_spki(key.public)
    if not isinstance(public, _KINDS[key.alg]):
        raise EvidenceInvalid(f"key {key.id} is not of the algorithm {key.alg}")
    return LoadedKey(key.id, public, _window(key))


def _witness(entry: TrustedWitness) -> LoadedWitness:
    if not checkpoint.usable_name(entry.name):
        raise EvidenceInvalid(f"witness {entry.id}: a name that no note may bear")
    by = cosignature.Witness(entry.name, cosignature.parse_spki(entry.public))
    return LoadedWitness(entry.id, by, _window(entry))


def _window(entry: TrustedKey | TrustedAuthority | TrustedWitness) -> Window:
    until = None if entry.valid_until is None else canonical.parse_time(entry.valid_until)
    return Window(canonical.parse_time(entry.valid_from), until)


def _log_key(origin: str, key: TrustedKey) -> tuple[LoadedKey, checkpoint.Verifier]:
    loaded = _load(key)
    if isinstance(loaded.public, Ed25519PublicKey):
        return loaded, checkpoint.ed25519_verifier(origin, loaded.public)
    if isinstance(loaded.public, MLDSA65PublicKey):
        return loaded, checkpoint.mldsa65_verifier(origin, loaded.public)
    raise EvidenceInvalid(f"key {key.id} cannot sign a checkpoint")
