# SPDX-License-Identifier: Apache-2.0
"""The stock verifiers, unmodified, and what each takes of a job's evidence.

Each has a name, says its version or why it can't be run here, and judges files. What a verifier is known not to cover
is named with it: a change outside of that which it accepts is a failure of this suite.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509 import load_der_x509_certificate
from msgspec import Struct

from tests import documents
from tests.verifiers.copies import Copy, of_der, of_json, of_pdf

HERE = Path(__file__).parent
PDF_BITS = 160  # of a document, where each step's bit is changed
NODE = HERE / "node_modules" / ".bin" / "node"


class Evidence(Struct, frozen=True):
    """One job's evidence as an auditor has it: files in a folder, and the trusted root."""

    folder: Path
    classical: bytes
    twin: bytes
    root: bytes
    pdf: bytes
    trust: bytes

    def response(self) -> bytes:
        """The time-stamp over the ECDSA signature."""
        material = json.loads(self.classical)["verificationMaterial"]
        (token,) = material["timestampVerificationData"]["rfc3161Timestamps"]
        return base64.b64decode(token["signedTimestamp"])

    def signature(self) -> bytes:
        """That signature."""
        return base64.b64decode(json.loads(self.classical)["dsseEnvelope"]["signatures"][0]["sig"])

    def chain(self) -> list[bytes]:
        """The authority's certificates, its own first."""
        (authority,) = json.loads(self.root)["trustedRoot"]["timestampAuthorities"]
        return [base64.b64decode(one["rawBytes"]) for one in authority["certChain"]["certificates"]]


class Verifier(Protocol):
    """One verifier and what it is given."""

    name: str
    takes: str
    passes_over: str  # a pattern of the changes that it is known not to notice

    def version(self) -> str | None:
        """Which one; None where it isn't here."""

    def missing(self) -> str:
        """Why not, and what to install."""

    def good(self, evidence: Evidence) -> bytes:
        """What it must accept."""

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        """Changed copies of that; `step` thins out those of a bit each."""

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        """Whether it accepts each."""


class SigstoreJs:
    """npm `@sigstore/verify` under Node 26, the first that reads ML-DSA."""

    name = "@sigstore/verify"

    def __init__(self, takes: str, pick: Callable[[Evidence], bytes], other_line: int) -> None:
        self.takes, self._pick = takes, pick
        self.passes_over = (
            r": a member added$"  # which it doesn't read
            r"|signatures\.0\.keyid: |tlogEntries\.0\.logIndex: |\.(treeSize|rootHash): "  # read elsewhere, said twice
            rf"|envelope: signature line {other_line}: "  # by the key of the other log id
            r"|signedTimestamp: (certificates|framing)"  # it has the certificates from the trusted root
        )

    def version(self) -> str | None:
        if not NODE.exists():
            return None
        package = json.loads((HERE / "node_modules" / "@sigstore" / "verify" / "package.json").read_bytes())
        return f"{package['version']}, Node {_said(NODE, '--version').removeprefix('v')}"

    def missing(self) -> str:
        return (
            "@sigstore/verify isn't installed: make test-verifiers installs it where npm is (Debian: apt install npm)"
        )

    def good(self, evidence: Evidence) -> bytes:
        return self._pick(evidence)

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        del step
        return of_json(self._pick(evidence))

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        root = evidence.folder / "root.json"
        root.write_bytes(evidence.root)
        ran = subprocess.run(
            [NODE, HERE / "sigstore.mjs", root], input=b"\n".join(files), capture_output=True, check=True, timeout=120
        )
        return [json.loads(line) == "" for line in ran.stdout.splitlines()]


class OpensslTs:
    """`openssl ts -verify`."""

    name, takes = "openssl ts -verify", "the time-stamp over the ECDSA signature"
    passes_over = "^(certificates|framing)"

    def version(self) -> str | None:
        return _said("openssl", "version").split()[1] if shutil.which("openssl") else None

    def missing(self) -> str:
        return "openssl isn't installed: apt install openssl"

    def good(self, evidence: Evidence) -> bytes:
        return evidence.response()

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        return of_der(evidence.response(), step)

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        folder = evidence.folder
        leaf, *rest = [load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in evidence.chain()]
        (folder / "tsa.pem").write_bytes(leaf)
        (folder / "roots.pem").write_bytes(b"".join(rest) or leaf)
        (folder / "signature").write_bytes(evidence.signature())
        return [self._accepts(folder, file) for file in files]

    @staticmethod
    def _accepts(folder: Path, response: bytes) -> bool:
        (folder / "response.tsr").write_bytes(response)
        given = ["-data", "signature", "-in", "response.tsr", "-CAfile", "roots.pem", "-untrusted", "tsa.pem"]
        ran = subprocess.run(["openssl", "ts", "-verify", *given], cwd=folder, capture_output=True, check=False)
        return ran.returncode == 0


class Rfc3161Client:
    """Trail of Bits' `rfc3161-client`, which `qcos verify` uses too, here without what is around it there."""

    name, takes = "rfc3161-client", "the time-stamp over the ECDSA signature"
    passes_over = "^(certificates|framing)"

    def version(self) -> str | None:
        from importlib.metadata import version

        return version("rfc3161-client")

    def missing(self) -> str:
        return "rfc3161-client isn't installed: make setup"

    def good(self, evidence: Evidence) -> bytes:
        return evidence.response()

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        return of_der(evidence.response(), step)

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        from rfc3161_client import VerifierBuilder, decode_timestamp_response

        chain = [load_der_x509_certificate(one) for one in evidence.chain()]
        verifier = VerifierBuilder(tsa_certificate=chain[0], roots=[chain[-1]], intermediates=chain[1:-1]).build()
        found = []
        for file in files:
            try:
                verifier.verify_message(decode_timestamp_response(file), evidence.signature())
            except Exception:  # noqa: BLE001 - whatever it ends in, it doesn't accept
                found.append(False)
            else:
                found.append(True)
        return found


class Securesystemslib:
    """`securesystemslib`: the envelope's signature alone, and no ML-DSA."""

    name, takes = "securesystemslib", "the DSSE envelope, ECDSA"
    passes_over = ": a member added$"

    def version(self) -> str | None:
        from importlib.metadata import version

        return version("securesystemslib")

    def missing(self) -> str:
        return "securesystemslib isn't installed: make setup"

    def good(self, evidence: Evidence) -> bytes:
        return json.dumps(json.loads(evidence.classical)["dsseEnvelope"]).encode()

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        del step
        return of_json(self.good(evidence))

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer._key import SSlibKey  # which the package exports without saying so to mypy

        hint = json.loads(evidence.classical)["verificationMaterial"]["publicKey"]["hint"]
        public = load_der_public_key(base64.b64decode(json.loads(evidence.root)["keys"][hint]))
        key = SSlibKey.from_crypto(public, keyid=hint)
        found = []
        for file in files:
            try:
                Envelope.from_dict(json.loads(file)).verify([key], 1)
            except Exception:  # noqa: BLE001 - whatever it ends in, it doesn't accept
                found.append(False)
            else:
                found.append(True)
        return found


class PyHanko:
    """pyHanko's AdES validation of the PDF, at level B-LTA."""

    name, takes = "pyHanko", "the PDF at B-LTA"
    passes_over = "^the signature's place"

    def version(self) -> str | None:
        from importlib.metadata import version

        return version("pyhanko")

    def missing(self) -> str:
        return "pyhanko isn't installed: make setup"

    def good(self, evidence: Evidence) -> bytes:
        return evidence.pdf

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        return of_pdf(evidence.pdf, PDF_BITS // step)

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        return [documents.judge(file, evidence.trust).indication == documents.PASSED for file in files]


class Pdfsig:
    """poppler's `pdfsig` on NSS, which looks at the signature and its chain, and at no stamp."""

    name, takes = "pdfsig", "the PDF's signature and chain"
    passes_over = "^the signature's place"

    def version(self) -> str | None:
        if shutil.which("pdfsig") is None:
            return None
        said = subprocess.run(["pdfsig", "-v"], capture_output=True, text=True, check=False)
        return (said.stderr or said.stdout).split("\n", 1)[0].rpartition(" ")[2]

    def missing(self) -> str:
        return "pdfsig isn't installed: apt install poppler-utils"

    def good(self, evidence: Evidence) -> bytes:
        return evidence.pdf

    def copies(self, evidence: Evidence, step: int) -> Iterator[Copy]:
        return of_pdf(evidence.pdf, PDF_BITS // step)

    def judge(self, evidence: Evidence, files: Sequence[bytes]) -> list[bool]:
        found = []
        for file in files:
            room = Path(tempfile.mkdtemp(dir=evidence.folder))
            said = documents.pdfsig(file, evidence.trust, room)
            found.append("Signature is Valid" in said and "Certificate is Trusted" in said)
        return found


VERIFIERS: tuple[Verifier, ...] = (
    SigstoreJs("sigstore", lambda evidence: evidence.classical, other_line=2),
    SigstoreJs("sigstore-mldsa", lambda evidence: evidence.twin, other_line=1),
    OpensslTs(),
    Rfc3161Client(),
    Securesystemslib(),
    PyHanko(),
    Pdfsig(),
)


class Row(Struct, frozen=True):
    """How one verifier did; `unnoticed` are the changes that it accepted."""

    accepted: bool
    refused: int
    copies: int
    unnoticed: tuple[str, ...]
    unexpected: tuple[str, ...]


def tried(verifier: Verifier, evidence: Evidence, step: int) -> Row:
    """Give a verifier the evidence and its changed copies."""
    copies = list(verifier.copies(evidence, step))
    good, *verdicts = verifier.judge(evidence, [verifier.good(evidence), *(one.data for one in copies)])
    unnoticed = [one.change for one, accepted in zip(copies, verdicts, strict=True) if accepted]
    return Row(
        accepted=good,
        refused=len(copies) - len(unnoticed),
        copies=len(copies),
        unnoticed=tuple(unnoticed),
        unexpected=tuple(change for change in unnoticed if not re.search(verifier.passes_over, change)),
    )


def _said(*command: object) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout.strip()
