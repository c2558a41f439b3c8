# SPDX-License-Identifier: Apache-2.0
"""A trust file in Sigstore's form: what can be said there is said, and what can't is left out (G3, G12)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ledger import checkpoint, sigstore
from ledger.trust import parse_trust
from tests.ledger.plane import Plane, at

AT = at(60)


def exported(plane: Plane, *revoked: str) -> Any:
    told = [{"id": name, "at": AT, "reason": "stolen"} for name in revoked]
    return json.loads(sigstore.trusted_root(parse_trust(plane.trust(revoked=told))))


def test_a_log_is_named_by_the_hash_that_begins_its_signature_line(tmp_path: Path) -> None:
    plane = Plane(tmp_path)
    keys = plane.keys
    note = checkpoint.sign(plane.origin, 1, bytes(32), ed25519=keys.log_ed25519, mldsa65=keys.log_mldsa65)
    hints = [line.key_hash for line in checkpoint.parse(note).lines]
    logs = exported(plane)["trustedRoot"]["tlogs"]
    assert [base64.b64decode(log["logId"]["keyId"])[:4] for log in logs] == hints
    assert all(log["checkpointKeyId"] == log["logId"] and plane.origin in log["baseUrl"] for log in logs)


def test_what_is_revoked_ends_there_or_is_left_out(tmp_path: Path) -> None:
    """G12: Sigstore's list of keys has no moments, so a revoked key vouches for nothing in it."""
    plane = Plane(tmp_path)
    whole = exported(plane)
    assert len(whole["keys"]) == 2
    assert '"end"' not in json.dumps(whole["trustedRoot"])
    less = exported(plane, "evidence-ecdsa-p256", "log-ed25519", "self clock")
    assert less["keys"].keys() == {"evidence-ml-dsa-65"}
    (first, second), (authority,) = less["trustedRoot"]["tlogs"], less["trustedRoot"]["timestampAuthorities"]
    assert first["publicKey"]["validFor"]["end"] == authority["validFor"]["end"] == AT
    assert "end" not in second["publicKey"]["validFor"]
