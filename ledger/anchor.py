# SPDX-License-Identifier: Apache-2.0
"""What ties a bundle to keys that came from elsewhere: commitment, log, signatures, tokens, scope and time.

Enters: a parsed `Bundle`, or another record that is proven as bundles are (`Anchored`), and a loaded
`Trust`. Each check returns a detail, raises a LedgerError where
something is wrong, or `Unreached` where nothing is wrong but the trust file knows no key for it. A known
key is never excused: once the checkpoint is signed by a trusted log, a signature that no trusted key made
is wrong, not foreign. The checks are called in the order of `ledger.verify`; later ones use what earlier
ones found. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from msgspec import UNSET, Struct

from ledger import chain, cms, cosignature, fold, merkle, timestamp
from ledger import checkpoint as notes
from ledger.bundle import Bundle, Fold, Proof, Signatures
from ledger.canonical import parse_time
from ledger.errors import EvidenceInvalid, LedgerError, TokenInvalid
from ledger.keys import PublicKey
from ledger.predicate import STATEMENT_COMMITMENT, Level, Scope, pae, statement_bytes
from ledger.timestamp import OPERATORS, Authority, Operator
from ledger.trust import LoadedKey, LoadedWitness, Trust

CLOCK_TOLERANCE = timedelta(seconds=5)  # between the plane's, a provider's and an authority's clock; genTime is cut
FUTURE_TOLERANCE = timedelta(minutes=10)  # of the reader's clock
ENROLLED = "identity:signing_key:enrolled"
MAX_SEEN = 256  # checkpoints that are remembered, 5 KB each
_Key = TypeVar("_Key", MLDSA65PublicKey, ec.EllipticCurvePublicKey)


class Unreached(LedgerError):
    """Nothing is wrong with it, but the trust file has no key or authority that could tell."""

    code = "unanchored"


class _Believed(Struct, frozen=True):
    """A token that passed: what it stamps, who made it, when."""

    target: int
    authority: Authority
    at: datetime


class Proven(Protocol):
    """A record with its proofs: a bundle, or a cost statement."""

    @property
    def bundle_id(self) -> str:
        """Which one it is."""

    @property
    def scope(self) -> Scope:
        """Where it was made."""

    @property
    def evidence_level(self) -> Level:
        """How it is signed."""

    @property
    def signatures(self) -> Signatures:
        """What was made over it."""

    @property
    def proof(self) -> Proof:
        """Its entry, and where that lies."""


class Anchored:
    """The checks over one record, sharing its statement, the stamped bytes and what was found so far."""

    def __init__(self, record: Proven, statement: bytes, trust: Trust) -> None:
        self._proven, self._trust = record, trust
        self._statement = statement
        self._note = record.proof.checkpoint.encode()
        self._entry: chain.Leaf | None = None
        self._parsed: notes.Checkpoint | None = None
        self._log_reached = False
        self._used: list[LoadedKey] = []
        self._tokens: list[_Believed] = []
        self._cosigned_by: list[tuple[LoadedWitness, datetime]] = []
        self._witnessed: list[tuple[LoadedWitness, datetime]] = []  # those that count
        self._judged: str | LedgerError | None = None

    def commitment(self) -> str:
        """The leaf commits to the statement that the file's own fields make."""
        salt = self._proven.proof.statement_salt
        if len(salt) != chain.SALT_BYTES:
            raise EvidenceInvalid(f"a salt of {len(salt)} bytes")
        made = chain.commitment(salt, self._statement)
        if self._record()[0].get(STATEMENT_COMMITMENT) != made:
            raise EvidenceInvalid("the entry commits to another statement")
        return made

    def leaf(self) -> str:
        """The entry speaks of this bundle, at this level, in this tenant."""
        leaf, bundle = self._leaf(), self._proven
        if leaf.tenant != bundle.scope.tenant:
            raise EvidenceInvalid("the entry belongs to another tenant")
        _, body, said = self._record()
        if body.get("evidence") != {"bundle_id": bundle.bundle_id, "level": bundle.evidence_level}:
            raise EvidenceInvalid("the entry names another bundle or level")
        return f"entry {leaf.index}, {said}"

    def entry(self) -> chain.Leaf:
        """The entry that commits to the record, or to what folds it; raises what is wrong with its form."""
        return self._leaf()

    def inclusion(self) -> str:
        """The entry is in the tree that the checkpoint states."""
        head, proof = self._head(), self._proven.proof
        index = self._leaf().index
        found = merkle.leaf_hash(proof.leaf)
        merkle.verify_inclusion(index=index, size=head.size, leaf=found, path=proof.path, root=head.root)
        return f"entry {index} of {head.size}"

    def checkpoint(self) -> str:
        """Both lines of the checkpoint are good signatures by keys of the trusted log."""
        head = self._head()
        named = {(line.name, line.key_hash) for line in head.lines}
        known = [(key, by) for key, by in self._trust.log if (by.name, by.key_hash) in named]
        if not known:
            raise Unreached(f"the trust file knows no key of the log {head.origin}")
        self._verify_note([by for _, by in known])
        self._log_reached = True
        for key, _ in known:
            if not self._trust.speaks(key.id, head.origin, head.size):
                raise EvidenceInvalid(f"{key.id} signs no checkpoint of size {head.size}: keys were rotated")
        self._used += [key for key, _ in known]
        return f"{head.origin}: " + ", ".join(key.id for key, _ in known)

    def cosignatures(self) -> str:
        """Each line is a cosignature over this checkpoint by a trusted witness, one a witness, in the one order.

        A line of nobody known is not skipped, as a client of C2SP may: what nobody judges could be changed unseen.
        """
        lines = self._proven.proof.cosignatures
        if lines is UNSET:
            return "none"
        head = self._head()
        found = [cosignature.parse(line) for line in lines]
        if list(lines) != sorted(lines) or len({(one.name, one.key_hash) for one in found}) != len(found):
            raise EvidenceInvalid("cosignatures out of order, or two of one witness")
        for one in found:
            known = [by for by in self._trust.witnesses if (by.by.name, by.by.key_hash) == (one.name, one.key_hash)]
            if known:
                self._cosigned(one, head, known[0])
        # A line of a witness whose key a thief may have is a good line, and says nothing.
        self._witnessed = [(by, at) for by, at in self._cosigned_by if not self._trust.hostile(by.id)]
        if len(self._cosigned_by) != len(found):
            raise Unreached(f"{len(found) - len(self._cosigned_by)} by witnesses that the trust file does not know")
        said = ((f"{by.id} at {at:%Y-%m-%dT%H:%M:%SZ}", self._trust.hostile(by.id)) for by, at in self._cosigned_by)
        return ", ".join(line + (" (revoked, not counted)" if hostile else "") for line, hostile in said)

    def _cosigned(self, found: cosignature.Cosignature, head: notes.Checkpoint, by: LoadedWitness) -> None:
        cosignature.verify(found, head, by.by)
        at = found.at
        if not by.used.holds(at, CLOCK_TOLERANCE):
            raise EvidenceInvalid(f"{by.id} was not in use at {at:%Y-%m-%dT%H:%M:%SZ}")
        if any(at >= revoked.at for revoked in self._trust.revoked.get(by.id, ())):
            raise EvidenceInvalid(f"{by.id} was revoked before {at:%Y-%m-%dT%H:%M:%SZ}")
        self._cosigned_by.append((by, at))

    @property
    def witnessed(self) -> bool:
        """Whether a trusted witness cosigned the checkpoint (after `cosignatures`)."""
        return bool(self._witnessed)

    def timestamps(self) -> str:
        """The tokens, judged once and remembered: the signatures' checks want the time they prove."""
        if self._judged is None:
            try:
                self._judged = self._judge_tokens()
            except LedgerError as error:
                self._judged = error
        if isinstance(self._judged, LedgerError):
            raise self._judged
        return self._judged

    def _judge_tokens(self) -> str:
        """What must be stamped is, by the same authorities, in the one order; no token stamps more."""
        targets = list(self._targets())
        imprints = [hashlib.sha256(data).digest() for _, data in targets]
        order, unknown = [], 0
        for stamp in self._proven.signatures.timestamp_authority:
            token = timestamp.parse(stamp.token)
            said = timestamp.read(token)
            if said.imprint not in imprints or said.algorithm != "sha256":
                raise TokenInvalid("a token over nothing that needs one here")
            target = imprints.index(said.imprint)
            order.append((target, OPERATORS.index(stamp.operator), stamp.token))
            authority = self._authority(token)
            if authority is None:
                unknown += 1
                continue
            if authority.operator != stamp.operator:
                raise TokenInvalid(f"{authority.name} is {authority.operator}, not {stamp.operator}")
            authority.check(token, said.imprint, said)
            self._tokens.append(_Believed(target, authority, said.generated_at))
        if order != sorted(order):
            raise TokenInvalid("tokens out of order")
        if unknown:
            raise Unreached(f"{unknown} tokens by authorities that the trust file does not know")
        return self._all_due([name for name, _ in targets])

    def _all_due(self, targets: list[str]) -> str:
        """Each authority that the plane used at that time stamped each target once, and no other did."""
        for place, target in enumerate(targets):
            made = [token for token in self._tokens if token.target == place]
            if not made:
                raise TokenInvalid(f"no token over the {target}")
            for known in self._trust.authorities:
                times = [token.at for token in made if token.authority is known.by]
                due = any(known.used.holds(token.at) for token in made)
                if len(times) > 1 or (due and not times):
                    raise TokenInvalid(f"{len(times)} tokens of {known.by.name} over the {target}")
                if not all(known.used.holds(time, CLOCK_TOLERANCE) for time in times):
                    raise TokenInvalid(f"{known.by.name} was not in use at that time")
        return f"{' and '.join(targets)} by {', '.join(sorted({by.authority.name for by in self._tokens}))}"

    def qcos_signature(self) -> str:
        """ML-DSA-65 over the statement's PAE (FIPS 204, empty context)."""
        made = self._proven.signatures.qcos_signature
        if self._proven.evidence_level == "sealed":
            return self._absent(made)
        if made is None:
            raise EvidenceInvalid(f"missing, and the level is {self._proven.evidence_level}")
        return self._signed_by(_mldsa65, lambda key: key.verify(made, pae(self._statement)))

    def ecdsa_signature(self) -> str:
        """ECDSA P-256 with SHA-256 over the same bytes, low s, so that there is one form of it."""
        made = self._proven.signatures.ecdsa_p256_signature
        if self._proven.evidence_level != "full":
            return self._absent(made)
        if made is None:
            raise EvidenceInvalid("missing, and the level is full")
        try:
            unique = timestamp.low_s(made) == made
        except ValueError as error:
            raise EvidenceInvalid("not a DER signature") from error
        if not unique:
            raise EvidenceInvalid("not in its one form (DER, low s)")
        scheme = ec.ECDSA(hashes.SHA256())
        return self._signed_by(_p256, lambda key: key.verify(made, pae(self._statement), scheme))

    def scope(self) -> str:
        """A trusted key speaks for the profile, plane and tenants of its trust file, and for no other."""
        ours, theirs = self._trust.file.scope, self._proven.scope
        covered = ours.tenants is None or theirs.tenant in ours.tenants
        said = f"{theirs.profile}/{theirs.plane}/{theirs.tenant}"
        if covered and (ours.profile, ours.plane) == (theirs.profile, theirs.plane):
            return said
        if self._used:
            raise EvidenceInvalid(f"{said} is not what the trust file's keys may speak for")
        raise Unreached(f"the trust file is not for {said}")

    def key_validity(self) -> str:
        """Each key was in use, and neither it nor the authority revoked, at the stamped time."""
        when = self.time()
        if when is None:
            raise Unreached("no trusted time")
        for key in self._used:
            if not key.used.holds(when[0], CLOCK_TOLERANCE):
                raise EvidenceInvalid(f"{key.id} was not valid at {when[0]:%Y-%m-%dT%H:%M:%SZ}")
        names = [(key.id, when[0]) for key in self._used] + [(t.authority.name, t.at) for t in self._tokens]
        for name, at in names:
            self._not_revoked(name, at)
        by = self._independent()
        judged = f"{by[1]} time {by[0]:%Y-%m-%dT%H:%M:%SZ}" if by else f"self time {when[0]:%Y-%m-%dT%H:%M:%SZ}"
        return f"by {judged}: " + ", ".join(key.id for key in self._used)

    def _not_revoked(self, name: str, at: datetime) -> None:
        """Raise unless this is proven to be older than each revocation; `at` is what its own tokens say."""
        for revoked in self._trust.revoked.get(name, ()):
            if at >= revoked.at:
                raise EvidenceInvalid(f"{name} was revoked before {at:%Y-%m-%dT%H:%M:%SZ}")
            if not revoked.hostile:
                continue
            by = self._independent()
            if by is None:
                raise Unreached(
                    f"{name} is revoked from {revoked.at:%Y-%m-%dT%H:%M:%SZ}; only self-issued time is older"
                )
            if by[0] >= revoked.at:
                raise EvidenceInvalid(f"{name} was revoked before {by[0]:%Y-%m-%dT%H:%M:%SZ} ({by[1]})")

    def _independent(self) -> tuple[datetime, str] | None:
        """The first moment at which somebody else than the plane saw this, and who: holding its keys backdates nothing.

        An authority or a witness that may itself be in the hands of somebody else tells nothing.
        """
        targets = range(len(list(self._targets())))
        outside = [t for t in self._tokens if t.authority.operator == "external"]
        sound = [t for t in outside if not self._trust.hostile(t.authority.name)]
        stamped = [min((t.at for t in sound if t.target == target), default=None) for target in targets]
        seen = [(at, "witnessed") for _, at in self._witnessed]
        whole = [at for at in stamped if at is not None]
        if whole and len(whole) == len(stamped):
            seen.append((max(whole), "external"))
        return min(seen, default=None)

    def rising(self, times: list[tuple[str, datetime]], now: datetime) -> None:
        """These, recorded, then stamped or cosigned, then read: raise where one lies before what it follows."""
        times = [*times, ("recorded", self._leaf().time)]
        proven = [("stamped", token.at) for token in self._tokens]
        seen = [("cosigned", at) for _, at in self._witnessed]
        for told in (proven, seen):
            _rising([*times, *sorted(told, key=lambda step: step[1])[:1]])
        for name, at in (*proven, *seen):
            if at > now + FUTURE_TOLERANCE:
                raise EvidenceInvalid(f"{name} {at:%Y-%m-%dT%H:%M:%SZ}, which is still to come")

    def time(self) -> tuple[datetime, Operator] | None:
        """The last time that the tokens prove: an outside authority's if it stamped all, else ours."""
        with suppress(LedgerError):
            self.timestamps()
        for operator in reversed(OPERATORS):
            found = [token for token in self._tokens if token.authority.operator == operator]
            if found and len({token.target for token in found}) == len(list(self._targets())):
                return max(token.at for token in found), operator
        return None

    def _head(self) -> notes.Checkpoint:
        if self._parsed is None:
            self._parsed = self._trust.seen.get(self._note) or notes.parse(self._note)
        return self._parsed

    def _verify_note(self, verifiers: list[notes.Verifier]) -> None:
        """Both lines, once for all the bundles that rest on this checkpoint; a bad one is never remembered."""
        if self._note not in self._trust.seen:
            found = notes.verify(self._note, verifiers)
            if len(self._trust.seen) >= MAX_SEEN:
                self._trust.seen.clear()
            self._trust.seen[self._note] = found

    def _leaf(self) -> chain.Leaf:
        if self._entry is None:
            self._entry = chain.parse_leaf(self._proven.proof.leaf)
        return self._entry

    def _folded(self, inner: Fold) -> chain.Draft:
        leaf = self._leaf()
        return fold.expanded(
            tenant=leaf.tenant,
            kind=leaf.kind,
            told=leaf.body,
            row=inner.record,
            position=inner.index,
            proof=inner.path,
        )

    def _record(self) -> tuple[dict[str, str], dict[str, Any], str]:
        """Commitments, body and kind of what commits to the statement: the entry, or a record that it folds."""
        leaf, inner = self._leaf(), self._proven.proof.fold
        if inner is UNSET:
            return leaf.commitments, leaf.body, leaf.kind
        draft = self._folded(inner)
        return (
            draft.commitments,
            chain.body_of(draft),
            f"{draft.kind}, {inner.index + 1} of {leaf.body['count']} folded",
        )

    def _targets(self) -> Iterator[tuple[str, bytes]]:
        """What must carry a token: `full` stamps its signatures, the other levels rest on the checkpoint."""
        made = self._proven.signatures
        if self._proven.evidence_level != "full":
            yield "checkpoint", self._note
            return
        if made.qcos_signature is not None:
            yield "qcos_signature", made.qcos_signature
        if made.ecdsa_p256_signature is not None:
            yield "ecdsa_p256_signature", made.ecdsa_p256_signature

    def _authority(self, token: cms.Token) -> Authority | None:
        return next((known.by for known in self._trust.authorities if known.by.signed(token)), None)

    def _absent(self, signature: bytes | None) -> str:
        if signature is not None:
            raise EvidenceInvalid(f"a signature that level {self._proven.evidence_level} does not have")
        return f"none at level {self._proven.evidence_level}"

    def _signed_by(self, narrow: Callable[[PublicKey], _Key | None], check: Callable[[_Key], None]) -> str:
        """The trusted key that made a signature; the file does not name it, there are few."""
        when, able = self.time(), []
        for key in self._trust.evidence:
            public = narrow(key.public)
            if public is not None:
                try:
                    check(public)
                except InvalidSignature:
                    able.append(self._in_place(key) and (when is None or key.used.holds(when[0])))
                else:
                    self._used.append(key)
                    if not self._in_place(key):
                        raise EvidenceInvalid(f"{key.id} signs nothing at this place of the log: keys were rotated")
                    return key.id
        # What is newer than the trust file may be by a key that came after it.
        newer = when is not None and when[0] > parse_time(self._trust.file.issued_at)
        if self._log_reached and any(able) and not newer:
            raise EvidenceInvalid("not a signature over this record by a trusted key")
        raise Unreached("the trust file knows no key that made it")

    def _in_place(self, key: LoadedKey) -> bool:
        """Whether an evidence key may speak for this entry; of a log that isn't the trust file's that is not known."""
        origin = notes.parse(self._note).origin
        if origin not in (self._trust.file.log.origin, *self._trust.file.log.earlier):
            return True
        return self._trust.speaks(key.id, origin, self._leaf().index + 1)


class Anchor(Anchored):
    """The checks over one bundle."""

    def __init__(self, bundle: Bundle, trust: Trust) -> None:
        super().__init__(bundle, statement_bytes(bundle.predicate(), decoded=True), trust)
        self._job = bundle

    def leaf(self) -> str:
        """The entry speaks of this bundle, at this level, in this tenant, and of its job."""
        said = super().leaf()
        _, body, _ = self._record()
        if body.get("job_id", self._job.job_id) != self._job.job_id:
            raise EvidenceInvalid("the entry names another job")
        return said

    def enrolment(self) -> str:
        """Who asked had enrolled the key before: an entry of theirs, earlier and under the same checkpoint, says so."""
        said, shown = self._job.envelope, self._proven.proof.enrolment
        if said is UNSET or shown is UNSET:
            raise EvidenceInvalid("a record of an envelope and the enrolment of its key go together")
        leaf, head = chain.parse_leaf(shown.leaf), self._head()
        if leaf.kind != ENROLLED or leaf.entry_id != said.enrolled:
            raise EvidenceInvalid("another entry than the enrolment that the record names")
        if leaf.body.get("key_id") != said.key_id:
            raise EvidenceInvalid("the enrolment is of another key")
        if (leaf.tenant, leaf.actor) != (self._proven.scope.tenant, self._actor()):
            raise EvidenceInvalid("somebody else enrolled the key")
        if leaf.index >= self._leaf().index:
            raise EvidenceInvalid("the key was enrolled after the job")
        if leaf.time > parse_time(self._job.submission.submitted_at) + CLOCK_TOLERANCE:
            raise EvidenceInvalid("the key was enrolled after the submission")
        found = merkle.leaf_hash(shown.leaf)
        merkle.verify_inclusion(index=leaf.index, size=head.size, leaf=found, path=shown.path, root=head.root)
        return f"entry {leaf.index}, {leaf.time:%Y-%m-%dT%H:%M:%SZ}"

    def time_order(self, now: datetime) -> str:
        """Submitted, started, ended, recorded, stamped, read: none before the one it follows."""
        run = self._job.execution_metadata
        steps: list[tuple[str, str]] = [("submitted", self._job.submission.submitted_at)]
        steps += [(step.state, step.at) for step in self._job.history]
        _rising([(name, parse_time(at)) for name, at in steps])
        marks = [("submitted", steps[0][1]), ("start", run.start_time), ("end", run.end_time)]
        times = [(name, parse_time(at)) for name, at in marks if at is not None]
        self.rising(times, now)
        return "submitted, started, ended, recorded, stamped"

    def _actor(self) -> str:
        """Who acted, by what commits to the statement."""
        inner = self._proven.proof.fold
        return self._leaf().actor if inner is UNSET else self._folded(inner).actor


def _mldsa65(key: PublicKey) -> MLDSA65PublicKey | None:
    return key if isinstance(key, MLDSA65PublicKey) else None


def _p256(key: PublicKey) -> ec.EllipticCurvePublicKey | None:
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def _rising(times: list[tuple[str, datetime]]) -> None:
    for (earlier, before), (later, after) in pairwise(times):
        if after + CLOCK_TOLERANCE < before:
            raise EvidenceInvalid(f"{later} lies before {earlier}")
