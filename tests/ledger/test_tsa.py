# SPDX-License-Identifier: Apache-2.0
"""Our authority: what it issues, what it refuses and how, its files, its face on a Unix socket (G4)."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from ledger import cms, timestamp, tsa, tsa_client
from ledger.errors import KeyInvalid, TimeUnavailable
from tests.ledger.plane import T0

DIGEST = hashlib.sha256(b"x").digest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tsa.TsaKeys:
    room = tmp_path_factory.mktemp("tsa")
    tsa.create_tsa_keys(room, now=T0)
    return tsa.load_tsa_keys(room)


def asked(**changes: object) -> bytes:
    imprint = cms.Imprint(hash_algorithm=cms.Algorithm(algorithm=cms.SHA256, parameters=None), hashed_message=DIGEST)
    fields: dict[str, object] = {
        "version": 1, "message_imprint": imprint, "policy": None, "nonce": 5, "cert_req": True,
        "extensions": None,
    }  # fmt: skip
    return asn1.encode_der(cms.Request(**(fields | changes)))  # type: ignore[arg-type]


def failure_bit(response: bytes) -> int:
    status = asn1.decode_der(cms.Rejection, response).status
    assert status.status == 2
    assert status.status_string
    assert status.fail_info is not None
    (bit,) = [
        place * 8 + offset
        for place, octet in enumerate(status.fail_info.as_bytes())
        for offset in range(8)
        if octet & 0x80 >> offset
    ]
    return bit


def imprint(oid: str, size: int) -> cms.Imprint:
    algorithm = cms.Algorithm(algorithm=x509.ObjectIdentifier(oid), parameters=None)
    return cms.Imprint(hash_algorithm=algorithm, hashed_message=bytes(size))


@pytest.mark.parametrize(
    ("request_", "bit"),
    [
        (b"", tsa.BAD_FORMAT),
        (b"\x30\x00", tsa.BAD_FORMAT),
        (asked() + b"\0", tsa.BAD_FORMAT),
        (asked(version=2), tsa.BAD_REQUEST),
        (asked(message_imprint=imprint("1.3.14.3.2.26", 20)), tsa.BAD_ALGORITHM),  # SHA-1
        (asked(message_imprint=imprint("2.16.840.1.101.3.4.2.1", 31)), tsa.BAD_FORMAT),
        (asked(policy=x509.ObjectIdentifier("1.2.3.4")), tsa.UNACCEPTED_POLICY),
        (asked(extensions=[asn1.decode_der(asn1.TLV, b"\x30\x00")]), tsa.UNACCEPTED_EXTENSION),
    ],
)
def test_what_it_does_not_stamp_is_refused_with_the_reason_of_rfc_3161(
    authority: tsa.TsaKeys, request_: bytes, bit: int
) -> None:
    assert failure_bit(tsa.issue(authority, request_, now=T0, serial=1)) == bit


@given(st.binary(max_size=200))
def test_garbage_is_always_answered(garbage: bytes) -> None:
    """The authority needs no key to refuse, and never fails on what it is sent."""
    assert failure_bit(tsa.issue(None, garbage, now=T0, serial=1)) == tsa.BAD_FORMAT  # type: ignore[arg-type]


@pytest.mark.parametrize("oid", list(cms.HASHES))
def test_imprints_of_the_three_hashes_are_stamped(authority: tsa.TsaKeys, oid: x509.ObjectIdentifier) -> None:
    request = asked(message_imprint=imprint(oid.dotted_string, cms.HASHES[oid][1]), policy=tsa.POLICY)
    grant = asn1.decode_der(cms.Grant, tsa.issue(authority, request, now=T0, serial=1))
    said = timestamp.read(timestamp.parse(cms.whole(grant.token)))
    assert (said.algorithm, said.policy, said.nonce) == (cms.HASHES[oid][0], tsa.POLICY.dotted_string, 5)


def test_the_certificate_goes_along_only_if_asked_for(authority: tsa.TsaKeys) -> None:
    grant = asn1.decode_der(cms.Grant, tsa.issue(authority, asked(cert_req=False), now=T0, serial=1))
    token = asn1.decode_der(cms.Token, cms.whole(grant.token))
    assert token.content.certificates is None


def test_its_certificate_may_stamp_time_and_nothing_else(authority: tsa.TsaKeys) -> None:
    leaf, root = (x509.load_der_x509_certificate(der) for der in authority.chain)
    leaf.verify_directly_issued_by(root)
    purpose = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert purpose.critical
    assert list(purpose.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_its_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    tsa.create_tsa_keys(tmp_path / "keys", now=T0)
    before = (tmp_path / "keys" / "tsa.pem").read_bytes()
    tsa.create_tsa_keys(tmp_path / "keys", now=T0)
    assert (tmp_path / "keys" / "tsa.pem").read_bytes() == before
    assert stat.S_IMODE((tmp_path / "keys" / "tsa.pem").stat().st_mode) == 0o600
    (tmp_path / "keys" / "tsa.pem").chmod(0o644)
    with pytest.raises(KeyInvalid):
        tsa.load_tsa_keys(tmp_path / "keys")


def test_a_key_without_its_certificate_is_made_anew(tmp_path: Path) -> None:
    """A crash between the two files must not leave an authority that cannot start."""
    for half in ("tsa.pem", "tsa-chain.pem"):
        tsa.create_tsa_keys(tmp_path, now=T0)
        (tmp_path / half).unlink()
        tsa.create_tsa_keys(tmp_path, now=T0)
        tsa.load_tsa_keys(tmp_path)


@asynccontextmanager
async def served(authority: tsa.TsaKeys, path: Path) -> AsyncIterator[str]:
    config = uvicorn.Config(tsa.tsa_app(authority), uds=str(path), log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn says so by an attribute alone
        await asyncio.sleep(0.005)
    try:
        yield f"unix:{path}"
    finally:
        server.should_exit = True
        await task


async def test_many_digests_are_stamped_over_one_connection(authority: tsa.TsaKeys, tmp_path: Path) -> None:
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(70)]
    async with served(authority, tmp_path / "s") as target:
        tokens = [timestamp.parse(der) for der in await tsa_client.stamp(target, digests)]
        assert await tsa_client.stamp(target, []) == []
    trusted = timestamp.Authority("self", "own", authority.chain)
    for digest, token in zip(digests, tokens, strict=True):
        assert timestamp.read(token).imprint == digest
        assert trusted.signed(token)


async def test_an_authority_that_is_not_there_or_never_answers_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(TimeUnavailable):
        await tsa_client.stamp(f"unix:{tmp_path / 'none'}", [DIGEST])

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_unix_server(silent, str(tmp_path / "s"))
    with pytest.raises(TimeUnavailable, match="no answer"):
        await tsa_client.stamp(f"unix:{tmp_path / 's'}", [DIGEST], deadline_s=0.05)
    await gone.wait()
    server.close()
    await server.wait_closed()


async def test_what_is_no_stamp_request_gets_an_http_error(authority: tsa.TsaKeys, tmp_path: Path) -> None:
    async def status(head: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(head + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
        line = await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return line.split(b" ")[1]

    async with served(authority, tmp_path / "s"):
        assert await status(b"GET / HTTP/1.1") == b"405"
        assert await status(b"POST / HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 0") == b"415"
