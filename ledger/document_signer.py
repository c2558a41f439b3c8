# SPDX-License-Identifier: Apache-2.0
"""The sealer's side of a document's signature: looks up what the request rests on, judges it, signs, refuses.

Enters: the entries of a batch, in the sealer's transaction. Leaves: the same entries, a refusal right after each that
is refused, and a row for each signature, stored in the batch's own commit. Every request is an entry of the log, so
what was ever signed, and what was refused, stands there. SQL of the sealer's own; the rules are in `documents`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cryptography import x509

from ledger import documents, tables
from ledger.batch import Alarms, Item
from ledger.chain import Draft, parse_pending, scan_leaf
from ledger.document_keys import load_document_key
from ledger.errors import DocumentRefused, KeyInvalid, LedgerError
from ledger.keys import ECDSA_P256, spki
from ledger.pipe import Pipe, byteas, texts, uuids
from ledger.sealer_config import SealerConfig
from ledger.sealer_keys import Published
from ledger.signer import Signer

DOCUMENT = "document"  # `purpose` of the published key


SignedDocument: TypeAlias = tuple[str, str, str, str, str, bytes]
"""Entry id, tenant, bundle id, digest, certificate, signature: as `KEEP` stores it."""


class DocumentSigner:
    """Holds the document key, and the certificates (DER) by which it is known; without them it refuses everything."""

    def __init__(self, key: Signer | None, certificates: Sequence[bytes]) -> None:
        self._key = key
        self._certificates = tuple(certificates)

    @classmethod
    def of(cls, config: SealerConfig) -> DocumentSigner:
        """The key of the sealer's folder; KeyInvalid where a certificate is of another key."""
        if not config.certificates:
            return cls(None, ())
        key = load_document_key(config.keys, config.custody)
        for certificate in config.certificates:
            if x509.load_der_x509_certificate(certificate).public_key() != key.public:
                raise KeyInvalid("a document certificate that is not of this plane's document key")
        return cls(key, config.certificates)

    def published(self) -> tuple[Published, ...]:
        """The public half, if there is one."""
        return (Published(DOCUMENT, ECDSA_P256, spki(self._key.public)),) if self._key is not None else ()

    async def judge(self, pipe: Pipe, items: list[Item], alarms: Alarms) -> tuple[list[Item], list[SignedDocument]]:
        """The batch with its refusals, and what was signed of it; nothing is read where nothing is asked."""
        asked = [item for item in items if item.draft.kind == documents.PREPARED]
        if not asked:
            return items, []
        known = await self._evidence(pipe, asked)
        judged: list[Item] = []
        signed: list[SignedDocument] = []
        for item in items:
            judged.append(item)
            if item.draft.kind == documents.PREPARED:
                try:
                    signed.append(self._sign(item.draft, known))
                except LedgerError as error:
                    judged.append(alarms.document_refused(item.draft, error))
        return judged, signed

    def _sign(self, draft: Draft, known: dict[str, Draft]) -> SignedDocument:
        if self._key is None:
            raise DocumentRefused("this plane has no document key")
        asked = documents.read(draft)
        certificate = documents.check(asked, draft, known.get(asked.evidence_entry), self._certificates)
        attributes = documents.signed_attributes(asked.digest, certificate)
        signature = self._key.sign(attributes)
        return draft.entry_id, draft.tenant, asked.bundle_id, asked.digest, asked.certificate, signature

    async def _evidence(self, pipe: Pipe, asked: Sequence[Item]) -> dict[str, Draft]:
        """The sealed records that the requests name, by entry id: leaves, or records under an entry that folds them."""
        names = []
        for item in asked:
            try:
                names.append(documents.read(item.draft).evidence_entry)
            except LedgerError:
                continue  # refused when it is judged
        leaves = await pipe.answer(pipe.send(tables.LEAVES, uuids(names)))
        folded = await pipe.answer(pipe.send(_FOLDED, uuids(names)))
        found: dict[str, Draft] = {tables.text(entry): scan_leaf(leaf or b"") for entry, leaf in leaves}
        return found | {tables.text(entry): parse_pending(pending or b"") for entry, pending in folded}

    def keep(self, pipe: Pipe, signed: Sequence[SignedDocument]) -> None:
        """Send the signatures, in the batch's transaction, after the entries that asked for them."""
        if signed:
            entries, tenants, bundles, digests, certificates, signatures = zip(*signed, strict=True)
            columns = (uuids(entries), texts(tenants), uuids(bundles), texts(digests), texts(certificates))
            pipe.send(_KEEP, *columns, byteas(signatures))
            pipe.push()


_FOLDED = """
    SELECT f.entry_id::text, f.pending FROM ledger.folded f JOIN ledger.entry e ON e.entry_id = f.fold
    WHERE f.entry_id = ANY ($1::uuid[])"""
_KEEP = """
    INSERT INTO ledger.document_signature (entry_id, tenant, bundle_id, digest, certificate, signature)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bytea[])"""
