# SPDX-License-Identifier: Apache-2.0
"""Blobs: what a leaf commits to opens for its tenant alone, and not once its key is gone (decision 2, I7)."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.blob import BlobKeys, SealedBlob, fresh, open_blob, seal
from ledger.chain import commitment
from ledger.errors import BlobInvalid, KeyInvalid

KEY = bytes(range(32))
BLOB, SALT = fresh(b"a circuit", tenant="demo", tenant_key=KEY)


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_to_what_was_committed(content: bytes) -> None:
    blob, salt = fresh(content, tenant="demo", tenant_key=KEY)
    assert open_blob(blob, KEY) == (salt, content)
    assert blob.commitment == commitment(salt, content)
    assert len(content) < 8 or content not in blob.ciphertext


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "other"},
        {"commitment": commitment(SALT, b"another")},
        {"nonce": bytes(12)},
        {"wrapped_key": BLOB.wrapped_key[:-1] + bytes([BLOB.wrapped_key[-1] ^ 1])},
        {"wrapped_key": b""},
        {"ciphertext": BLOB.ciphertext[:-1] + bytes([BLOB.ciphertext[-1] ^ 1])},
        {"ciphertext": b""},
    ],
)
def test_a_changed_blob_does_not_open(change: dict[str, Any]) -> None:
    with pytest.raises(BlobInvalid):
        open_blob(msgspec.structs.replace(BLOB, **change), KEY)


def test_another_tenants_key_opens_nothing() -> None:
    """I7."""
    with pytest.raises(BlobInvalid):
        open_blob(BLOB, bytes(32))


def test_short_material_is_refused() -> None:
    good: dict[str, Any] = {"tenant": "demo", "tenant_key": KEY, "salt": SALT, "key": KEY, "nonce": bytes(12)}
    assert isinstance(seal(b"", **good), SealedBlob)
    for name in ("salt", "key", "nonce"):
        with pytest.raises(BlobInvalid):
            seal(b"", **(good | {name: b"short"}))


def test_the_root_key_wraps_tenant_keys(tmp_path: Path) -> None:
    path = tmp_path / "blob" / "root"
    BlobKeys.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = BlobKeys.load(path)
    BlobKeys.create(path)  # leaves it as it is
    wrapped = keys.new_tenant_key()
    assert BlobKeys.load(path).tenant_key(wrapped) == keys.tenant_key(wrapped)
    with pytest.raises(BlobInvalid):
        BlobKeys(bytes(32)).tenant_key(wrapped)
    with pytest.raises(KeyInvalid):
        BlobKeys(b"short")
