# SPDX-License-Identifier: Apache-2.0
"""Judges of a PDF that we did not write: pyHanko's AdES validation, and poppler's `pdfsig` on NSS (G3).

Enters: a PDF and what a trust file gives. Leaves: pyHanko's sub-indication, which alone counts (`intact` doesn't), and
what `pdfsig` prints with the plane's roots in a throwaway database. Both work offline. Each revocation list is
demanded, not merely used where it is found.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import io
import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

from msgspec import Struct

TRUSTED_CA = 0x98  # certdb.h: CERTDB_VALID_CA | CERTDB_TRUSTED_CA | CERTDB_TRUSTED_CLIENT_CA
PASSED = "AdESPassed.OK"


class Judged(Struct, frozen=True):
    """What pyHanko says of the signature, and how many stamps lie over the document."""

    indication: str
    signatures: int
    stamps: int


def judge(pdf: bytes, trust: bytes) -> Judged:
    """PyHanko's B-LTA judgement; an unreadable file is an indication of its own."""
    import logging

    from asn1crypto import x509
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import ades
    from pyhanko.sign.validation.policy_decl import PdfSignatureValidationSpec, SignatureValidationSpec
    from pyhanko_certvalidator.context import CertValidationPolicySpec
    from pyhanko_certvalidator.policy_decl import CertRevTrustPolicy, RevocationCheckingPolicy, RevocationCheckingRule
    from pyhanko_certvalidator.registry import SimpleTrustManager

    given = json.loads(trust)

    def policy(part: str) -> Any:
        roots = [x509.Certificate.load(b64decode(one["certificates"][-1])) for one in given.get(part, ())]
        rule = RevocationCheckingRule.CRL_REQUIRED
        revocation = RevocationCheckingPolicy(ee_certificate_rule=rule, intermediate_ca_cert_rule=rule)
        return CertValidationPolicySpec(SimpleTrustManager.build(trust_roots=roots), CertRevTrustPolicy(revocation))

    spec = SignatureValidationSpec(policy("documents"), ts_cert_validation_policy=policy("tsa"))
    logging.disable(logging.CRITICAL)
    try:
        reader = PdfFileReader(io.BytesIO(pdf))
        (signature,) = reader.embedded_regular_signatures
        found = asyncio.run(ades.ades_lta_validation(signature, PdfSignatureValidationSpec(spec)))
        return Judged(str(found.ades_subindic), 1, len(reader.embedded_timestamp_signatures))
    except Exception as error:  # noqa: BLE001 - whatever a changed file makes of a reader, it isn't a pass
        return Judged(type(error).__name__, 0, 0)
    finally:
        logging.disable(logging.NOTSET)


def attached(pdf: bytes) -> dict[str, bytes]:
    """The files in a PDF, by name."""
    from pyhanko.pdf_utils.reader import PdfFileReader

    names = PdfFileReader(io.BytesIO(pdf)).root["/Names"]["/EmbeddedFiles"]["/Names"]
    return {str(names[at]): names[at + 1]["/EF"]["/F"].data for at in range(0, len(names), 2)}


def pdfsig(pdf: bytes, trust: bytes, folder: Path) -> str:
    """What poppler says of the signature, the plane's roots trusted."""
    database = folder / "nss"
    database.mkdir()
    # NSS is opened in a process of its own: it can be opened once, and keeps what it has seen.
    subprocess.run([sys.executable, "-m", "tests.documents", str(database)], input=trust, check=True)
    file = folder / "judged.pdf"
    file.write_bytes(pdf)
    # Its exit code tells of the stamp over the document, too, which it can't judge.
    return subprocess.run(
        ["pdfsig", "-nssdir", f"sql:{database}", str(file)], capture_output=True, text=True, check=False
    ).stdout.partition("Signature #2")[0]


class _Item(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("data", ctypes.c_char_p), ("len", ctypes.c_uint))


class _Trust(ctypes.Structure):
    _fields_ = (("ssl", ctypes.c_uint), ("email", ctypes.c_uint), ("objects", ctypes.c_uint))


def _import(database: Path, certificates: list[bytes]) -> None:
    """What `certutil -A -t C,C,C` does, by the library that pdfsig itself brings: certutil is seldom installed."""
    nss = ctypes.CDLL(ctypes.util.find_library("nss3") or "libnss3.so")
    pointer = ctypes.c_void_p
    nss.CERT_NewTempCertificate.restype = nss.PK11_GetInternalKeySlot.restype = pointer
    nss.CERT_GetDefaultCertDB.restype = pointer
    nss.CERT_NewTempCertificate.argtypes = [pointer, ctypes.POINTER(_Item), ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    nss.PK11_ImportCert.argtypes = [pointer, pointer, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int]
    nss.CERT_ChangeCertTrust.argtypes = [pointer, pointer, ctypes.POINTER(_Trust)]
    nss.PK11_InitPin.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p]
    nss.CERT_DestroyCertificate.argtypes = nss.PK11_FreeSlot.argtypes = [pointer]
    assert nss.NSS_InitReadWrite(f"sql:{database}".encode()) == 0
    slot, known = nss.PK11_GetInternalKeySlot(), nss.CERT_GetDefaultCertDB()
    assert nss.PK11_InitPin(slot, None, b"") == 0
    for number, der in enumerate(certificates):
        item = _Item(0, der, len(der))
        certificate = nss.CERT_NewTempCertificate(known, ctypes.byref(item), None, 0, 1)
        assert certificate
        assert nss.PK11_ImportCert(slot, certificate, 0, f"root {number}".encode(), 0) == 0
        trusted = _Trust(TRUSTED_CA, TRUSTED_CA, TRUSTED_CA)
        assert nss.CERT_ChangeCertTrust(known, certificate, ctypes.byref(trusted)) == 0
        nss.CERT_DestroyCertificate(certificate)
    nss.PK11_FreeSlot(slot)
    assert nss.NSS_Shutdown() == 0


if __name__ == "__main__":
    told = json.loads(sys.stdin.buffer.read())
    roots = [b64decode(one["certificates"][-1]) for part in ("documents", "tsa") for one in told.get(part, ())]
    _import(Path(sys.argv[1]), roots)
