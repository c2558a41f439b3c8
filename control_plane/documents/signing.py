# SPDX-License-Identifier: Apache-2.0
"""A document signed and stamped as PAdES B-LTA: signature, its time-stamp, what judges both, a stamp over it all.

Enters: a PDF, chains with revocation lists, and two functions that ask for a signature and for a token. Leaves: the
PDF. pyHanko writes the structure; no key is here. The signature is asked for by the digest of what it covers: the
sealer builds the attributes itself (`ledger.documents`), and what it returns is checked against the attributes that
pyHanko built, so that the two can't differ. Runs in the child alone.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

from asn1crypto import cms, x509
from asn1crypto.algos import SignedDigestAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.timestamps import TimeStamper
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from control_plane.documents.talk import Chain, Order

FIELD = "QCOS"
Asks = Callable[[bytes], bytes]
"""Asks for a signature, or for a token, over a SHA-256 digest; the answer's bytes."""


class _Sealer(signers.Signer):
    """Signs by asking: the digest that the signed attributes name goes out, the signature comes back."""

    def __init__(self, chain: Chain, ask: Asks) -> None:
        leaf, *above = [x509.Certificate.load(part) for part in chain.certificates]
        super().__init__(
            signing_cert=leaf,
            cert_registry=SimpleCertificateStore.from_certs(above),
            embed_roots=True,
            signature_mechanism=SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        )
        self._ask = ask
        self._public = load_der_x509_certificate(chain.certificates[0]).public_key()

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:  # noqa: ARG002 - as pyHanko calls it
        """The signature over these attributes, by the digest in them."""
        if dry_run:
            return bytes(72)
        attributes = {one["type"].native: one["values"] for one in cms.CMSAttributes.load(data)}
        signature = self._ask(attributes["message_digest"][0].native)
        if not isinstance(self._public, ec.EllipticCurvePublicKey):
            raise TypeError
        self._public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        return signature


class _Stamper(TimeStamper):
    """Stamps by asking."""

    def __init__(self, ask: Asks) -> None:
        super().__init__()
        self._ask = ask

    async def async_timestamp(self, message_digest: bytes, md_algorithm: str) -> cms.ContentInfo:
        """A token over a SHA-256 digest; others are not asked for."""
        if md_algorithm != "sha256":
            raise ValueError
        return cms.ContentInfo.load(self._ask(message_digest))


def sign(pdf: bytes, order: Order, *, signature: Asks, token: Asks, outside: Asks) -> bytes:
    """The document at level B-LTA; with an outside authority its stamp lies over everything else."""
    chains = [order.signer, order.stamper, *((order.outside,) if order.outside is not None else ())]
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        subfilter=fields.SigSeedSubFilter.PADES,
        reason="Issued by the plane about the attached evidence; not a verdict on it",
        embed_validation_info=True,
        use_pades_lta=True,
        validation_context=_context(chains),
    )
    out = io.BytesIO()
    signer = signers.PdfSigner(metadata, signer=_Sealer(order.signer, signature), timestamper=_Stamper(token))
    asyncio.run(signer.async_sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), output=out))
    if order.outside is not None:
        stamper = signers.PdfTimeStamper(_Stamper(outside))
        update: Any = stamper.async_update_archival_timestamp_chain
        asyncio.run(update(PdfFileReader(out), _context(chains), in_place=True))
    return out.getvalue()


def _context(chains: list[Chain]) -> ValidationContext:
    """What is embedded: each chain's revocation lists. A chain without one is believed by its certificates alone."""
    listed = all(chain.crls for chain in chains)
    return ValidationContext(
        trust_roots=[x509.Certificate.load(chain.certificates[-1]) for chain in chains],
        other_certs=[x509.Certificate.load(part) for chain in chains for part in chain.certificates],
        crls=[crl for chain in chains for crl in chain.crls],
        allow_fetching=False,
        revocation_mode="hard-fail" if listed else "soft-fail",
    )
