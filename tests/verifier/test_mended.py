# SPDX-License-Identifier: Apache-2.0
"""What the second verifier found in the first one, held (I4, G3)."""

import base64
import json
from typing import Any

import pytest

from ledger.bundle import parse_bundle
from ledger.errors import EvidenceInvalid, TokenInvalid, UsageError
from ledger.recompute import cost
from ledger.timestamp import Authority
from tests.verifier.agreement import VECTORS, by_qcos
from tests.verifier.mutations import canonical, carry

FULL = json.loads((VECTORS / "verifier" / "full.json").read_bytes())
TRUST = json.loads((VECTORS / "verifier" / "trust.json").read_bytes())


@pytest.mark.parametrize("tail", [b"\xff", b"", b'{"a"'])
def test_a_file_that_is_no_json_can_t_be_judged_whatever_stood_before_the_break(tail: bytes) -> None:
    """The reader met an unknown member first, and called the file wrong without having seen that it is no JSON."""
    with pytest.raises(UsageError):
        parse_bundle(b'{"unknown":1,' + tail)
    with pytest.raises(EvidenceInvalid):
        parse_bundle(b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.parametrize(
    ("member", "value"),
    [("rate", 0.3), ("rate", "Infinity"), ("rate", "3E-1"), ("unit", None), ("meter", 1)],
)
def test_a_rate_card_is_read_as_text_and_decimals_never_as_floats(member: str, value: Any) -> None:
    """Floats, exponents and infinities were taken for rates."""
    bundle = json.loads(canonical(FULL))
    card = json.loads(base64.b64decode(bundle["contents"]["rate_card"]))
    card["prices"][0]["meters"][0][member] = value
    carry(bundle, "rate_card", json.dumps(card).encode())
    with pytest.raises(EvidenceInvalid, match="not a rate card"):
        cost(parse_bundle(canonical(bundle)))


@pytest.mark.parametrize("place", [(12, 0x01), (58, 0x80)])
def test_a_certificate_that_no_library_reads_makes_a_trust_file_unusable(place: tuple[int, int]) -> None:
    """An X.509 version that there isn't was an internal error, a name that is no UTF-8 a panic."""
    at, bit = place
    der = bytearray(base64.b64decode(TRUST["tsa"][0]["certificates"][0]))
    der[at] ^= bit
    with pytest.raises(TokenInvalid):
        Authority("self", "own", [bytes(der), base64.b64decode(TRUST["tsa"][0]["certificates"][1])])


@pytest.mark.parametrize("root", ["SHA256:" + "0" * 64, "sha256:" + "x" * 64, "sha256:" + "A" * 64])
def test_a_folded_entry_with_a_root_that_is_no_hash_is_refused(root: str) -> None:
    """It was an internal error, at the mercy of whoever made the file."""
    bundle = json.loads((VECTORS / "verifier" / "folded.json").read_bytes())
    leaf = json.loads(base64.b64decode(bundle["proof"]["leaf"]))
    leaf["body"]["root"] = root
    bundle["proof"]["leaf"] = base64.b64encode(canonical(leaf)).decode()
    code, verdict, reason, *_ = by_qcos(canonical(bundle), canonical(TRUST))
    assert (code, verdict, reason) == (1, "invalid", "statement_commitment")
