# SPDX-License-Identifier: Apache-2.0
"""A revision's signature: OPA takes the bundle that the sealer signed and no other, and so does each process (I5)."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from control_plane.policy import bundle, push, signed
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.revision import PolicySet, load
from control_plane.policy.store import Stored
from ledger import policies as rules
from ledger.signer import Held
from tests.control_plane.policy.opa_server import OPA, needs_opa

KEY = ec.generate_private_key(ec.SECP256R1())
STRANGE = {"strange": {"\u2028\u2029": '\b\f"\\<&>\x01\x7f é \U0001f600', "b": [1, -2, True, None, {}], "B": 10**15}}
POLICIES = PolicySet.of({**load().files, "data/strange.json": json.dumps(STRANGE).encode()})


def stored(policies: PolicySet = POLICIES, key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> Stored:
    """A push as the database has it, signed as the sealer does."""
    entry_id = "11111111-2222-4333-8444-555555555555"
    message = rules.to_sign(rules.payload(push.body(policies, 1, None), entry_id, "qcos/dev/plane-1"))
    values: dict[str, Any] = {
        "number": 1,
        "entry_id": entry_id,
        "revision": policies.revision,
        "base": None,
        "tenant": "demo",
        "actor": "a",
        "message": "",
        "pushed_at": datetime(2026, 11, 21, tzinfo=UTC),
        "files": dict(policies.files),
        "signature": rules.jwt(message, Held(key).sign(message)),
    }
    return Stored(**values | changes)


def test_a_signed_push_opens_to_its_policies() -> None:
    assert signed.opened(stored(), KEY.public_key()) == POLICIES


CHANGED: dict[str, dict[str, Any]] = {
    "a rule": {"files": {**POLICIES.files, "qcos/access/roles.rego": b"package qcos.access\n"}},
    "data": {"files": {**POLICIES.files, "data/strange.json": b'{"strange": {}}'}},
    "a file too many": {"files": {**POLICIES.files, "data/more.json": b"{}"}},
    "a test": {"files": {**POLICIES.files, "qcos/access/more_test.rego": b"package qcos.access_test\n"}},
    "another revision": {"revision": load().revision},
    "another number": {"number": 2},
    "no signature": {"signature": ""},
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED.keys())
def test_what_was_changed_in_the_database_decides_nothing(change: dict[str, Any]) -> None:
    """I5: but a test, which decides nothing either way."""
    if "qcos/access/more_test.rego" in change.get("files", {}):
        assert signed.opened(replace(stored(), **change), KEY.public_key()).revision == POLICIES.revision
        return
    with pytest.raises(PolicyUnavailable):
        signed.opened(replace(stored(), **change), KEY.public_key())


def test_another_keys_signature_is_none() -> None:
    with pytest.raises(PolicyUnavailable, match="policy key"):
        signed.opened(stored(key=ec.generate_private_key(ec.SECP256R1())), KEY.public_key())


def opa_says(folder: Path, packed: bytes) -> subprocess.CompletedProcess[bytes]:
    """What OPA answers from an archive whose signature it verifies."""
    assert OPA is not None
    (folder / "bundle.tar.gz").write_bytes(packed)
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    key = ["--verification-key", "public.pem", "--verification-key-id", rules.KEY_ID, "--signing-alg", "ES256"]
    command = [str(OPA), "build", "--bundle", "bundle.tar.gz", *key, "-o", "out.tar.gz"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False)


@needs_opa
def test_opa_takes_what_was_signed_and_nothing_else(tmp_path: Path) -> None:
    """G2: the data's hash is that of Go's form of JSON, whatever texts stand in it."""
    signature = stored().signature
    packed = bundle.pack(POLICIES, signature)
    assert packed == bundle.pack(POLICIES, signature)
    taken = opa_says(tmp_path, packed)
    assert taken.returncode == 0, taken.stderr
    other = PolicySet.of({**POLICIES.files, "data/strange.json": b'{"strange": 1}'})
    for spoilt in (bundle.pack(other, signature), bundle.pack(POLICIES, signature[:-8] + "AAAAAAAA")):
        assert opa_says(tmp_path, spoilt).returncode != 0
    assert opa_says(tmp_path, _without_signature(packed)).returncode != 0


def _without_signature(packed: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive, tarfile.open(fileobj=made, mode="w:gz") as out:
        for entry in archive.getmembers():
            if entry.name != ".signatures.json":
                out.addfile(entry, archive.extractfile(entry))
    return made.getvalue()
