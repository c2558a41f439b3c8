# SPDX-License-Identifier: Apache-2.0
"""The entry `evidence:hashedrekord:logged`: which leaves are the records of a bundle's signatures, and if they are.

Enters: the body of such an entry; for a whole log also the records and signature rows of its batch. Leaves: a `Logged`,
or what is wrong (docs/evidence-format.md section 2). A record is held against the row by writing it anew: equal bytes
are also well-formed. Where leaves, tiles or rows of the batch were found changed already, what follows from that is not
reported a second time. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ledger.chain import EntryId, Hash, Number, Skimmed, leaf_hash_text
from ledger.errors import LeafInvalid, LedgerError
from ledger.rekor import ML_DSA_65, P256, HashedRekord, KeyDetails, leaf_of, parse_hashedrekord
from ledger.signature_store import StoredSignature
from ledger.signed import EvidenceKeys


class LoggedLeaf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record: where it stands, of which kind of key, and its RFC 6962 leaf hash."""

    index: Number
    key_details: KeyDetails
    leaf_hash: Hash


class Logged(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The records of one bundle, ECDSA before ML-DSA-65."""

    bundle_id: EntryId
    leaves: Annotated[tuple[LoggedLeaf, ...], Meta(min_length=1, max_length=2)]


_decode = msgspec.json.Decoder(Logged).decode


def parse_logged(body: bytes | msgspec.Raw) -> Logged:
    """The body of an entry of this kind; LeafInvalid if it is none."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LeafInvalid(f"hashedrekord logged: {error}") from error


class Records:
    """The records of one batch while the log is walked."""

    def __init__(self, keys: EvidenceKeys) -> None:
        self._keys = keys
        self._leaves: dict[int, bytes] = {}  # not named yet
        self._signed: dict[str, StoredSignature | None] = {}  # by bundle; None where the row is at fault
        self._doubtful: set[int] = set()  # leaves that were reported already, the missing ones among them

    def leaf(self, index: int, leaf: bytes) -> None:
        """A record stands here."""
        self._leaves[index] = leaf

    def signature(self, bundle_id: str, row: StoredSignature | None) -> None:
        """What is stored for a bundle; None where that was reported."""
        self._signed[bundle_id] = row

    def doubtful(self, index: int) -> None:
        """The leaf here was changed or is missing, and is reported."""
        self._doubtful.add(index)

    def named(self, index: int, record: Skimmed) -> Iterator[tuple[int, str]]:
        """(index, what is wrong) with an entry that names records, and with those."""
        try:
            logged = parse_logged(record.body)
        except LedgerError as error:
            yield index, str(error)
            return
        row = self._signed.get(logged.bundle_id)
        unsigned = logged.bundle_id not in self._signed and not self._doubtful
        if unsigned or (row is not None and row.tenant != record.tenant):
            yield index, f"it names records of bundle {logged.bundle_id}, which this batch does not sign for its tenant"
        elif row is not None and [leaf.key_details for leaf in logged.leaves] != _kinds(row):
            yield index, "the records that it names are not those of the bundle's signatures"
        for named in logged.leaves:
            if named.index in self._doubtful:
                continue
            leaf = self._leaves.pop(named.index, None)
            if leaf is None or leaf_hash_text(leaf) != named.leaf_hash:
                yield index, f"entry {named.index} is not the record that it names"
            elif row is not None and not self._repeats(leaf, named.key_details, row):
                yield named.index, _fault(leaf) or "the record is not that of the bundle's signature"

    def end(self) -> Iterator[tuple[int, str]]:
        """The end of the batch: what no entry has named. Where leaves are doubtful, one of them may have."""
        for index, leaf in self._leaves.items():
            fault = _fault(leaf) or (None if self._doubtful else "no entry names this record")
            if fault is not None:
                yield index, fault
        self._leaves.clear()
        self._signed.clear()
        self._doubtful.clear()

    def _repeats(self, leaf: bytes, details: KeyDetails, row: StoredSignature) -> bool:
        """Whether the leaf is the record of the row's signature, under one of the log's own keys."""
        signature = row.p256 if details == P256 else row.mldsa65
        try:
            # A `standard` row keeps no SHA-256: whoever has the Statement checks it.
            digest = row.pae_sha256 or parse_hashedrekord(leaf).digest
        except LedgerError:
            return False
        return signature is not None and any(
            leaf == leaf_of(HashedRekord(digest=digest, signature=signature, key_details=details, public=public))
            for public in self._keys.publics(details)
        )


def _kinds(row: StoredSignature) -> list[KeyDetails]:
    kinds: list[tuple[KeyDetails, bytes | None]] = [(P256, row.p256), (ML_DSA_65, row.mldsa65)]
    return [details for details, made in kinds if made is not None]


def _fault(leaf: bytes) -> str | None:
    try:
        parse_hashedrekord(leaf)
    except LedgerError as error:
        return str(error)
    return None
