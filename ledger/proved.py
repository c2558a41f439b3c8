# SPDX-License-Identifier: Apache-2.0
"""The verdict on a proof: an inclusion, a consistency, a completeness (`ledger.proofs`), or a `.tlog-proof`.

Bytes of it and of a trust file in, the report of `ledger.verify` out; no socket, clock or state. As there every check
is run and named, `invalid` means that something is wrong, `unanchored` that the trust file knows no key of the log.
A proof carries no time-stamp, so its `time` is null, its assurance the log's own word, or `witnessed` where a
`.tlog-proof` has cosignatures by trusted witnesses; and a key that the trust file calls revoked proves nothing here,
whenever it signed.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from ledger import chain, cosignature, fold, merkle, proofs, tlogproof
from ledger import checkpoint as notes
from ledger.anchor import CLOCK_TOLERANCE, Unreached
from ledger.bundle import Fold
from ledger.errors import EvidenceInvalid, LedgerError, NotCanonical, UsageError
from ledger.proofs import Completeness, Consistency, Inclusion
from ledger.rekor import parse_hashedrekord
from ledger.trust import Trust, parse_trust
from ledger.verify import Check, Checks, Report, Time, trust_current


def prove(
    data: bytes, trust: bytes, now: datetime, *, leaf: bytes | None = None, max_age: timedelta | None = None
) -> Report:
    """Judge a proof document or a `.tlog-proof` by a trust file at the time `now` (aware).

    `leaf` is the entry that a `.tlog-proof` is held against; without it the one in its extra data is. UsageError where
    a file is no such file at all.
    """
    trusted = parse_trust(trust)
    judged = _Judged(trusted)
    try:
        if tlogproof.looks_like_one(data):
            judged.tlog_proof(tlogproof.parse(data), leaf)
        else:
            judged.document(proofs.parse_document(data))
    except NotCanonical as error:
        judged.failed("file_canonical", error)
    except EvidenceInvalid as error:
        judged.failed("file_closed", error)
    judged.checks.run("trust_current", lambda: trust_current(trusted, now, max_age))
    return judged.report()


class _Judged:
    """The checks over one proof, and what they found."""

    def __init__(self, trust: Trust) -> None:
        self.checks, self._trust, self._witnessed = Checks(), trust, False

    def failed(self, name: str, error: LedgerError) -> None:
        """The file can't be read as what it claims to be."""
        self.checks.wrong = True
        self.checks.done.append(Check(name, ok=False, detail=str(error)))

    def document(self, found: proofs.Document) -> None:
        """Run what the kind of proof wants."""
        self.checks.run("file_closed", lambda: found.type)
        match found:
            case Inclusion():
                self._leaf(found.index, found.leaf, found.fold or None)
                self._in_tree(found.index, found.leaf, found.path, found.checkpoint.encode())
            case Consistency():
                self.checks.run("consistency", lambda: _grown(found))
                if found.old.checkpoint is not None:
                    note = found.old.checkpoint.encode()
                    self.checks.run("old_checkpoint", lambda: _same_head(found, note))
                    self._signed("old_checkpoint_signatures", note)
            case Completeness():
                self.checks.run("chain", lambda: _chained(found))
                self.checks.run("records", lambda: _recorded(found))
                self._scope(found.tenant)
                last = found.entries[-1] if found.entries else b""
                self._in_tree(None, last, found.path, found.checkpoint.encode())
        self._signed("checkpoint_signatures", found.checkpoint.encode())

    def tlog_proof(self, found: tlogproof.TlogProof, leaf: bytes | None) -> None:
        """A proof in the public format: the leaf given, or the one that it carries."""
        if leaf is None and not found.extra:
            raise UsageError(
                "the proof carries no entry: name the file that holds it (--leaf), or its bundle (--bundle)"
            )
        note, cosignatures = tlogproof.own_note(found.note)
        known = leaf if leaf is not None else found.extra
        self.checks.run("file_closed", lambda: f"{tlogproof.NAME.decode()}, {len(cosignatures)} cosignatures")
        if leaf is not None and found.extra:
            self.checks.run("extra", lambda: _same_leaf(leaf, found.extra))
        self._leaf(found.index, known, None)
        self._in_tree(found.index, known, found.path, note)
        self._signed("checkpoint_signatures", note)
        if cosignatures:
            self.checks.run("cosignatures", lambda: self._cosigned(note, cosignatures))

    def _cosigned(self, note: bytes, lines: tuple[str, ...]) -> str:
        """Each line is by a trusted witness, as in a bundle: what nobody judges could be changed unseen."""
        head = notes.parse(note)
        found = [cosignature.parse(line) for line in lines]
        if list(lines) != sorted(lines) or len({(one.name, one.key_hash) for one in found}) != len(found):
            raise EvidenceInvalid("cosignatures out of order, or two of one witness")
        seen = []
        for one in found:
            known = [by for by in self._trust.witnesses if (by.by.name, by.by.key_hash) == (one.name, one.key_hash)]
            if known:
                cosignature.verify(one, head, known[0].by)
                if not known[0].used.holds(one.at, CLOCK_TOLERANCE) or known[0].id in self._trust.revoked:
                    raise EvidenceInvalid(f"{known[0].id} was not in use at {one.at:%Y-%m-%dT%H:%M:%SZ}, or is revoked")
                seen.append(known[0].id)
        if len(seen) != len(found):
            raise Unreached(f"{len(found) - len(seen)} by witnesses that the trust file does not know")
        self._witnessed = True
        return ", ".join(seen)

    def _leaf(self, index: int, leaf: bytes, inner: Fold | None) -> None:
        if chain_type(leaf) == "hashedrekord":
            self.checks.run("leaf", lambda: _rekor(leaf))
            return
        self.checks.run("leaf", lambda: _entry(index, leaf, inner))
        with suppress(LedgerError):  # then the check before has said so
            self._scope(chain.parse_leaf(leaf).tenant)

    def _in_tree(self, index: int | None, leaf: bytes, path: tuple[bytes, ...], note: bytes) -> None:
        def check() -> str:
            head = notes.parse(note)
            place = chain.parse_leaf(leaf).index if index is None else index
            found = merkle.leaf_hash(leaf)
            merkle.verify_inclusion(index=place, size=head.size, leaf=found, path=path, root=head.root)
            return f"entry {place} of {head.size}"

        self.checks.run("inclusion", check)

    def _signed(self, name: str, note: bytes) -> None:
        def check() -> str:
            head = notes.parse(note)
            named = {(line.name, line.key_hash) for line in head.lines}
            known = [(key, by) for key, by in self._trust.log if (by.name, by.key_hash) in named]
            if not known:
                raise Unreached(f"the trust file knows no key of the log {head.origin}")
            notes.verify(note, [by for _, by in known])
            for key, _ in known:
                if not self._trust.speaks(key.id, head.origin, head.size):
                    raise EvidenceInvalid(f"{key.id} signs no checkpoint of size {head.size}: keys were rotated")
                if key.id in self._trust.revoked:
                    raise EvidenceInvalid(f"{key.id} is revoked, and no time-stamp shows that it signed before")
            return f"{head.origin}, {head.size} entries: " + ", ".join(key.id for key, _ in known)

        self.checks.run(name, check)

    def _scope(self, tenant: str) -> None:
        def check() -> str:
            covered = self._trust.file.scope.tenants
            if covered is not None and tenant not in (*covered, chain.PLANE):
                raise EvidenceInvalid(f"the trust file's keys may not speak for {tenant}")
            return tenant

        self.checks.run("trust_scope", check)

    def report(self) -> Report:
        """What was found, in the form of every verdict."""
        return Report(
            verdict=self.checks.verdict(),
            reason=self.checks.reason(),
            assurance="witnessed" if self._witnessed and self.checks.verdict() == "valid" else "self_issued",
            checks=tuple(self.checks.done),
            time=Time(None, None),
            trust_as_of=self._trust.file.issued_at,
        )


def chain_type(leaf: bytes) -> str:
    """Which type of leaf it claims to be; `entry` where it is neither, for that check to say what is wrong."""
    try:
        return chain.leaf_type(leaf)
    except LedgerError:
        return "entry"


def _entry(index: int, leaf: bytes, inner: Fold | None) -> str:
    found = chain.parse_leaf(leaf)
    if found.index != index:
        raise EvidenceInvalid(f"the entry says index {found.index}, the proof {index}")
    if inner is None:
        return f"{found.kind}, {found.entry_id}, entry {found.tenant_index} of {found.tenant}"
    draft = fold.expanded(
        tenant=found.tenant, kind=found.kind, told=found.body, row=inner.record, position=inner.index, proof=inner.path
    )
    return f"{draft.kind}, {draft.entry_id}, {inner.index + 1} of {found.body['count']} folded into entry {index}"


def _rekor(leaf: bytes) -> str:
    parse_hashedrekord(leaf)
    return "a hashedrekord, which is no tenant's"


def _same_leaf(leaf: bytes, extra: bytes) -> str:
    if leaf != extra:
        raise EvidenceInvalid("the proof carries another entry than the one given")
    return "the entry given"


def _grown(found: Consistency) -> str:
    head = notes.parse(found.checkpoint.encode())
    merkle.verify_consistency(
        old=found.old.size, new=head.size, old_root=bytes.fromhex(found.old.root), new_root=head.root, path=found.path
    )
    return f"the {head.size} entries begin with the {found.old.size}"


def _same_head(found: Consistency, note: bytes) -> str:
    old = notes.parse(note)
    if (old.size, old.root.hex()) != (found.old.size, found.old.root):
        raise EvidenceInvalid("the smaller note is of another tree than the one that is proven")
    return f"{old.origin}, {old.size} entries"


def _chained(found: Completeness) -> str:
    """From the first entry on, each the next, each naming the one before; all of this tenant, at rising places."""
    if not found.entries:
        raise EvidenceInvalid("no entry: a tenant's first is the one that made it")
    link, before = None, -1
    for number, leaf in enumerate(found.entries):
        entry = chain.parse_leaf(leaf)
        if entry.tenant != found.tenant:
            raise EvidenceInvalid(f"entry {entry.index} is of another tenant")
        if (entry.tenant_index, entry.tenant_prev) != (number, link) or entry.index <= before:
            raise EvidenceInvalid(
                f"entry {entry.index} is not the tenant's {number}: one before it is missing or changed"
            )
        link, before = chain.leaf_hash_text(leaf), entry.index
    return f"{len(found.entries)} entries of {found.tenant}, none missing up to entry {before}"


def _recorded(found: Completeness) -> str:
    """The records that an entry folds are those that it states, and each such entry's are there."""
    folds = {str(entry.index): entry for entry in map(chain.scan_leaf, found.entries) if entry.kind == fold.FOLDED}
    if folds.keys() != found.records.keys():
        raise EvidenceInvalid("records that no entry folds, or an entry without the records that it folds")
    for index, rows in found.records.items():
        kept = [(number, found.tenant, chain.parse_pending(row).entry_id, row) for number, row in enumerate(rows)]
        wrong = fold.differences(chain.body_of(folds[index]), found.tenant, kept)
        if wrong is not None:
            raise EvidenceInvalid(f"entry {index}: {wrong}")
    return f"{sum(map(len, found.records.values()))} records under {len(folds)} entries"
