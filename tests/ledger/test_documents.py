# SPDX-License-Identifier: Apache-2.0
"""What the sealer signs of a document: what it has built itself from a closed structure, and nothing else (G3, S4)."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from control_plane.db import transaction
from ledger import documents, signature_store, store
from ledger.canonical import sha256
from ledger.chain import Pending, parse_leaf, parse_pending, pending_bytes
from ledger.document_keys import OWN, REQUEST, DocumentChain, create_document_keys, load_document_key, read_chain
from ledger.errors import DocumentRefused, KeyInvalid
from ledger.issuer import Issued, certify, issue
from tests.ledger.support import config, engine, pending, sealing, until_sealed, write
from tests.postgres import TestDatabase

NOW = dt.datetime(2026, 11, 21, 10, 0, tzinfo=dt.UTC)
DIGEST = sha256(b"the bytes of a document that are signed")
KEY = ec.generate_private_key(ec.SECP256R1())
BUNDLE, EVIDENCE = str(uuid.uuid4()), str(uuid.uuid4())


def issued(name: str) -> Issued:
    """Certificates of a key that is nobody's."""
    return issue(KEY.public_key(), name, "document", now=NOW)


def keys(home: Path) -> DocumentChain:
    """The document key in the folder of the sealer's keys, and its own chain."""
    create_document_keys(home / "keys", home / "public", name="plane-1 documents", now=NOW)
    return read_chain(home / "public" / OWN)


def asked(certificate: bytes, tenant: str = "demo", **changes: Any) -> Pending:
    """A request as the API writes it, with some members of its body changed; None leaves a member out."""
    body = {"bundle_id": BUNDLE, "evidence_entry": EVIDENCE, "digest": DIGEST, "certificate": sha256(certificate)}
    body = {name: value for name, value in (body | changes).items() if value is not None}
    return replace(pending(tenant, body=body), kind=documents.PREPARED)


def rests(tenant: str = "demo", bundle: str = BUNDLE) -> Pending:
    """An entry that says that evidence rests on it."""
    return pending(tenant, entry_id=EVIDENCE, body={"evidence": {"bundle_id": bundle, "level": "full"}})


async def said(database: TestDatabase) -> list[tuple[str, dict[str, Any]]]:
    """(kind, body) of every entry about documents."""
    async with transaction(engine(database.audit), None) as conn:
        found = [parse_leaf(row.leaf) async for row in store.stream_entries(conn) if row.entry_id]
    return [(one.kind, one.body) for one in found if one.kind.startswith("evidence:document:")]


def signatures(database: TestDatabase) -> list[tuple[Any, ...]]:
    """Every row that the sealer kept."""
    import psycopg

    with psycopg.connect(database.conninfo("audit")) as conn:
        return conn.execute("SELECT entry_id::text, tenant, signature FROM ledger.document_signature").fetchall()


async def test_the_sealer_signs_what_it_built_and_its_key_is_in_the_log(database: TestDatabase, tmp_path: Path) -> None:
    chain = keys(tmp_path)
    request = asked(chain.certificates[0])
    async with sealing(config(database, tmp_path, certificates=(chain.certificates[0],))):
        await until_sealed(database, await write(database, rests()))  # a request rests on what is sealed before it
        await until_sealed(database, await write(database, request))
    ((entry, tenant, signature),) = signatures(database)
    assert (entry, tenant) == (request.entry_id, "demo")
    public = x509.load_der_x509_certificate(chain.certificates[0]).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    attributes = documents.signed_attributes(DIGEST, chain.certificates[0])
    public.verify(signature, attributes, ec.ECDSA(hashes.SHA256()))
    assert [kind for kind, _ in await said(database)] == [documents.PREPARED]
    async with transaction(engine(database.audit), None) as conn:
        assert "document" in {key.purpose for key in await signature_store.keys(conn)}


async def test_a_row_that_asks_for_anything_else_is_refused_and_recorded(
    database: TestDatabase, tmp_path: Path
) -> None:
    """Each way to have something else signed: nothing is signed, the log says so, and sealing goes on."""
    chain = keys(tmp_path)
    mine = chain.certificates[0]
    another = issued("another").chain[0]
    bad = [
        asked(mine, evidence_entry=str(uuid.uuid4())),  # rests on nothing that is sealed
        asked(mine, bundle_id=str(uuid.uuid4())),  # on the evidence of another bundle
        asked(another),  # under another certificate
        asked(mine, digest=None),
        asked(mine, digest="sha256:" + "0" * 63),
        asked(mine, attributes="MIIB"),  # bytes of its own to be signed
        replace(asked(mine), schema=2),
        replace(asked(mine), commitments={"document": sha256(b"x")}),
    ]
    async with sealing(config(database, tmp_path, certificates=(mine,))):
        await until_sealed(database, await write(database, rests()))
        await until_sealed(database, await write(database, *bad))
        await until_sealed(database, await write(database, asked(mine, tenant="other")))  # another tenant's evidence
    assert not signatures(database)
    told = await said(database)
    assert [kind for kind, _ in told] == [documents.PREPARED, documents.REFUSED] * (len(bad) + 1)
    refused = [body["entry_id"] for kind, body in told if kind == documents.REFUSED]
    assert refused[: len(bad)] == [one.entry_id for one in bad]


async def test_a_sealer_without_certificates_signs_no_document(database: TestDatabase, tmp_path: Path) -> None:
    certificate = issued("another").chain[0]
    async with sealing(config(database, tmp_path)):
        await until_sealed(database, await write(database, rests(), asked(certificate)))
    assert [kind for kind, _ in await said(database)] == [documents.PREPARED, documents.REFUSED]


async def test_a_sealers_certificate_must_be_of_its_key(database: TestDatabase, tmp_path: Path) -> None:
    keys(tmp_path)
    with pytest.raises(KeyInvalid, match="not of this plane's document key"):
        async with sealing(config(database, tmp_path, certificates=(issued("x").chain[0],))):
            pass


async def test_nobody_but_the_sealer_writes_a_signature(database: TestDatabase) -> None:
    import psycopg

    for role in ("app", "audit"):
        with psycopg.connect(database.conninfo(role), autocommit=True) as conn, pytest.raises(psycopg.errors.Error):
            conn.execute(
                "INSERT INTO ledger.document_signature VALUES (gen_random_uuid(),'demo',gen_random_uuid(),'','','')"
            )


def test_evidence_of_another_tenant_is_none() -> None:
    certificate = issued("documents").chain[0]
    draft = parse_pending(pending_bytes(asked(certificate)))
    request = documents.read(draft)
    theirs = parse_pending(pending_bytes(rests("other")))
    for evidence in (None, theirs, parse_pending(pending_bytes(rests(bundle=str(uuid.uuid4()))))):
        with pytest.raises(DocumentRefused):
            documents.check(request, draft, evidence, [certificate])
    assert documents.check(request, draft, parse_pending(pending_bytes(rests())), [certificate]) == certificate


def test_the_key_is_made_once_and_its_request_is_of_it(tmp_path: Path) -> None:
    chain = keys(tmp_path)
    assert keys(tmp_path) == chain
    key = load_document_key(tmp_path / "keys")
    request = x509.load_pem_x509_csr((tmp_path / "public" / REQUEST).read_bytes())
    assert request.is_signature_valid
    assert request.public_key() == key.public
    assert x509.load_der_x509_certificate(chain.certificates[0]).public_key() == key.public


def test_a_customers_chain_needs_the_lists_of_its_issuers(tmp_path: Path) -> None:
    """G12: a chain that nobody could judge years later is refused where it is configured."""
    made, stranger = issued("customer"), issued("stranger")
    certificates = [x509.load_der_x509_certificate(part).public_bytes(Encoding.PEM) for part in made.chain]
    crl = x509.load_der_x509_crl(made.crl).public_bytes(Encoding.PEM)
    path = tmp_path / "chain.pem"
    path.write_bytes(b"".join(certificates) + crl)
    assert read_chain(path).certificates == made.chain
    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf, root = certify(KEY.public_key(), root_key, "document", now=NOW, name="customer")
    revoked = (
        x509.CertificateRevocationListBuilder(issuer_name=root.subject, last_update=NOW, next_update=NOW)
        .add_revoked_certificate(
            x509.RevokedCertificateBuilder(serial_number=leaf.serial_number, revocation_date=NOW).build()
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = [part.public_bytes(Encoding.PEM) for part in (leaf, root, revoked)]
    other = x509.load_der_x509_crl(stranger.crl).public_bytes(Encoding.PEM)
    for data, why in (
        (b"".join(certificates), "no revocation list"),
        (b"".join(certificates) + other, "no revocation list"),
        (b"".join(reversed(certificates)) + crl, "not a chain"),
        (b"".join(pem), "is revoked"),
        (b"", "not a chain"),
    ):
        path.write_bytes(data)
        with pytest.raises(KeyInvalid, match=why):
            read_chain(path)


def test_the_attributes_are_of_one_digest_and_one_certificate() -> None:
    made = issued("documents")
    signature = KEY.sign(documents.signed_attributes(DIGEST, made.chain[0]), ec.ECDSA(hashes.SHA256()))
    for changed in (
        documents.signed_attributes(sha256(b"y"), made.chain[0]),
        documents.signed_attributes(DIGEST, made.chain[1]),
    ):
        with pytest.raises(InvalidSignature):
            KEY.public_key().verify(signature, changed, ec.ECDSA(hashes.SHA256()))
