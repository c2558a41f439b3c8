# SPDX-License-Identifier: Apache-2.0
"""Every reader of foreign bytes, given mutations of valid examples: a value or its own error, nothing else (N13).

Random bytes fail at the first check, so each input begins as a file that the reader takes, or as one kept because it
once was trouble, and is then cut, doubled, spliced, and changed in the structure that it has: JSON members and values,
base64 parts, words of the language. `make test` takes a few hundred of each, `make fuzz` as many as the minutes allow.
A finding becomes a named file in `tests/vectors`, and so a seed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.auth import claims
from control_plane.auth.errors import Unauthenticated
from control_plane.auth.jwks import parse_jwks
from control_plane.errors import QcosError, SettingInvalid
from control_plane.jobs import accepted, reading
from control_plane.settings import load
from finops import budget, money, rates
from finops.errors import FinopsError
from hal_drivers.base import Format
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex
from hal_drivers.limits import Limits
from hal_drivers.prescan import prescan
from ledger import asker, canonical, chain, checkpoint, envelope, rekor, timestamp, trust
from ledger.asker import Form
from ledger.bundle import parse_bundle
from ledger.errors import EnvelopeInvalid, KeyInvalid, LedgerError
from ledger.verify import Report, verify
from tests.control_plane.jobs.desk import bell
from tests.ledger import signing
from tests.ledger.signing import cose, jws

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
EXAMPLES = int(os.environ.get("QCOS_FUZZ_EXAMPLES", "80"))
NOW = datetime(2026, 11, 22, tzinfo=UTC)
SEED_BYTES = 6_000
"""Longer seeds make slow mutations; the long ones are run as they are elsewhere."""

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)
ODD: list[Any] = [None, True, 0, -1, 2**53, 2**63, 2**64, 10**400, 1.5, -0.0, "", "\0", "\ud800", "a" * 5000, [], {}]
ODD += [[[]], {"": None}, "1e999", "2026-13-45T99:99:99Z", "sha256:", "-----BEGIN", "é", "9" * 30]
WORDS = (
    b"qubit[3] q;|bit c;|gate g a|{|}|(|)|[|]|;|for uint i in [0:9]|in|while (c)|if (c==1)|else|ctrl(2) @|pow(9) @|"
    b"inv @|"
    b"|def f(qubit a)|switch(1)|case 1|let a = q[0:1]|const int n = 2**9;|measure q|->|=|"
    b'include "stdgates.inc";|//|/*|*/'
    b"|\"|'|\r|\n|@note |pragma |$0|0x|_|1:0:-1|**|<<|box|array[int, 3] a|opaque o a|barrier q|"
    b"delay[1ns]|\xc3\xa9|\x00|,|@"
).split(b"|")


def seeds(*patterns: str) -> list[bytes]:
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    assert found, patterns
    return [path.read_bytes() for path in found if path.stat().st_size <= SEED_BYTES]


def document(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


@st.composite
def changed(draw: st.DrawFn, examples: list[bytes], words: list[bytes] = WORDS) -> bytes:
    """An example, changed in its bytes or, where it is JSON, in its structure."""
    data = draw(st.sampled_from(examples))
    parsed = document(data)
    if parsed is not None and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 3))):
            parsed = reshaped(draw, parsed)
        return json.dumps(parsed, separators=(",", ":"), sort_keys=draw(st.booleans())).encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 4096])))))
        put = draw(st.binary(max_size=8) | st.sampled_from(words) | st.just(data[start:end] * 3))
        data = data[:start] + put + data[end:]
    return data


def reshaped(draw: st.DrawFn, value: Any) -> Any:
    """The document with one value, at any depth, replaced, dropped, renamed or moved."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        inner = draw(st.sampled_from(["into", "into", "into", "drop", "rename", "odd"]))
        rest = {name: item for name, item in value.items() if name != key}
        if inner == "drop":
            return rest
        if inner == "rename":
            return rest | {draw(st.text(max_size=4)): value[key]}
        return value | {key: reshaped(draw, value[key]) if inner == "into" else draw(st.sampled_from(ODD))}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [
            *value[:at],
            *draw(st.sampled_from([[], [value[at]] * 2, [reshaped(draw, value[at])]])),
            *value[at + 1 :],
        ]
    if isinstance(value, str) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return value[:at] + draw(st.sampled_from(["", "A", "=", " ", "\n", value[at:]])) + value[at + 1 :]
    return draw(st.sampled_from(ODD))


def ends_in(read: Callable[[bytes], object], data: bytes, *errors: type[Exception]) -> None:
    try:
        read(data)
    except errors as error:
        assert str(error) is not None


SPECS = [json.dumps(bell()).encode(), *seeds("examples/*.json", "examples/invalid/*.json")]


@fuzzed
@given(changed(SPECS))
def test_job_specs(data: bytes) -> None:
    """What is taken can be written in the canonical domain and read back as the same (I6)."""
    try:
        taken = reading.parse(data)
    except QcosError as error:
        assert error.code in ("malformed_json", "spec_invalid", "program_unsupported")
        return
    assert accepted.from_canonical(canonical.dumps(accepted.canonical(taken))) == taken


@pytest.mark.parametrize("form", ["QASM2", "QASM3", "QPY"])
@fuzzed
@given(st.data())
def test_circuits(form: Format, data: st.DataObject) -> None:
    source = data.draw(changed(seeds(f"tests/vectors/circuits/*/*.{form.lower()}")))
    ends_in(lambda read: prescan(form, read, Limits(qpy=True)), source, CircuitInvalid, CircuitTooComplex)


def jose(parts: list[Any]) -> bytes:
    coded = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in coded)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """A token changed as text, or inside its parts."""
    known = json.loads((VECTORS / "tokens" / "forged.json").read_bytes())
    texts = [known["accepted"], *(row["token"] for row in known["refused"])]
    text = draw(st.sampled_from(texts))
    if draw(st.booleans()):
        return draw(changed([text.encode()])).decode("latin-1")
    parts = [base64.urlsafe_b64decode(part + "===") for part in known["accepted"].split(".")]
    at = draw(st.integers(0, 2))
    return jose([draw(changed([part])) if number == at else part for number, part in enumerate(parts)]).decode()


RULE = claims.Rule(issuer="http://127.0.0.1:9/issuer", audience="qcos-test", tenant="demo")


@fuzzed
@given(tokens())
def test_tokens(token: str) -> None:
    """Any text is read, or refused as nobody's; what is read is no principal with a hole in it."""
    try:
        found = claims.read(token)
        claims.check_times(found.claims, 1_790_000_000.0)
        signed = claims.SignedClaims(dict(found.claims))
        who = claims.principal(signed, claims.choose(signed, [RULE]), b"k" * 32)
    except Unauthenticated as error:
        assert error.code.startswith("token_")
        return
    assert who.tenant == "demo"
    assert who.subject


@fuzzed
@given(st.text(max_size=200) | tokens().map("Bearer {}".format))
def test_authorization_headers(header: str) -> None:
    ends_in(lambda _: claims.bearer(header), b"", Unauthenticated)


ENVELOPES = [make(json.dumps(signing.claims()).encode(), alg) for make in (jws, cose) for alg in signing.ALGORITHMS[:2]]


@fuzzed
@given(changed(ENVELOPES), st.sampled_from(("jose", "cose")))
def test_signed_envelopes(data: bytes, form: Form) -> None:
    """S1: what isn't byte for byte an envelope that was signed isn't one."""
    try:
        parts = envelope.parse(form, data)
        asker.verify(signing.public(parts.alg), parts.covered, parts.signature)
    except EnvelopeInvalid:
        return
    assert data in ENVELOPES


@fuzzed
@given(changed([json.dumps(signing.claims()).encode()]))
def test_what_envelopes_say(data: bytes) -> None:
    ends_in(envelope.claims, data, EnvelopeInvalid)


@fuzzed
@given(changed([json.dumps(signing.public(alg).jwk()).encode() for alg in signing.ALGORITHMS[:2]]))
def test_signing_keys(data: bytes) -> None:
    jwk = document(data)
    if isinstance(jwk, dict):
        ends_in(lambda _: asker.from_jwk(jwk), data, KeyInvalid)


@fuzzed
@given(changed([(VECTORS / "tokens" / "jwks.json").read_bytes()]))
def test_key_sets(data: bytes) -> None:
    ends_in(parse_jwks, data, ValueError)


BUNDLES = [path.read_bytes() for path in sorted((VECTORS / "bundles" / "good").glob("*.json"))]
TRUST = (VECTORS / "bundles" / "trust.json").read_bytes()


@settings(fuzzed, max_examples=max(20, EXAMPLES // 3))
@given(changed(BUNDLES, [b"}", b"[", b'"', b",", b"\\u0000"]))
def test_bundles(data: bytes) -> None:
    """A verdict for what is JSON, an error with a code for the rest; a changed file is never valid (I4)."""
    ends_in(parse_bundle, data, LedgerError)
    try:
        report = verify(data, TRUST, NOW)
    except LedgerError:
        return
    assert isinstance(report, Report)
    assert report.verdict != "valid" or data in BUNDLES


@settings(fuzzed, max_examples=max(20, EXAMPLES // 3))
@given(changed([TRUST, (VECTORS / "bundles" / "self_issued_trust.json").read_bytes()]))
def test_trust_files(data: bytes) -> None:
    ends_in(trust.parse_trust, data, LedgerError)
    ends_in(lambda file: verify(BUNDLES[0], file, NOW), data, LedgerError)


@fuzzed
@given(st.data())
def test_time_stamp_tokens(data: st.DataObject) -> None:
    der = data.draw(changed(stamps()))

    def read(token: bytes) -> None:
        timestamp.read(timestamp.parse(token))

    ends_in(read, der, LedgerError)
    ends_in(lambda got: timestamp.token_of(got, digest=hashlib.sha256(b"x").digest(), nonce=5), der, LedgerError)


def stamps() -> list[bytes]:
    found = [json.loads(bundle)["signatures"]["timestamp_authority"] for bundle in BUNDLES]
    return [base64.b64decode(stamp["token"]) for listed in found for stamp in listed or []]


@fuzzed
@given(st.data())
def test_notes_and_leaves(data: st.DataObject) -> None:
    """Checkpoints, leaves, inbox rows, Rekor bodies, canonical documents."""
    proof = [json.loads(bundle) for bundle in BUNDLES]
    texts = [item for document in proof for item in strings(document) if len(item) > 40]
    decoded = [found for text in texts if (found := debased(text)) is not None]
    source = data.draw(changed([text.encode() for text in texts] + decoded + seeds("tests/vectors/ledger/**/*.json")))
    ends_in(checkpoint.parse, source, LedgerError)
    ends_in(chain.parse_leaf, source, LedgerError)
    ends_in(chain.scan_leaf, source, LedgerError)
    ends_in(chain.parse_pending, source, LedgerError)
    ends_in(chain.leaf_type, source, LedgerError)
    ends_in(rekor.parse_hashedrekord, source, LedgerError)
    ends_in(lambda read: canonical.loads(read, what="document"), source, LedgerError)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in strings(item)]


def debased(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


@fuzzed
@given(changed(seeds("finops/cards/*.json")))
def test_rate_cards(data: bytes) -> None:
    ends_in(rates.parse_card, data, FinopsError)


@fuzzed
@given(
    st.text(max_size=40)
    | changed([b"project:demo", b"rolling:30", b"1000.00"]).map(lambda data: data.decode("latin-1"))
)
def test_what_a_budget_is_set_by(text: str) -> None:
    ends_in(lambda _: budget.parse_scope(text), b"", FinopsError)
    ends_in(lambda _: budget.parse_period(text), b"", FinopsError)
    ends_in(lambda _: money.parse(text, "amount"), b"", FinopsError)


TOML = b"""http_port = 0
workers = 2
lease_s = 10.5
qpy = true
circuit_loop = 5
[[oidc]]
issuer = "https://example.org"
audience = "qcos"
tenant = "demo"
[[backend]]
id = "a"
provider = "aer"
region = "x"
compliance_zone = "y"
"""


@fuzzed
@given(
    changed([TOML], [b"=", b"[[oidc]]", b"[", b'"', b"nan", b"inf", b"1979-05-27", b"9" * 400, b"{}", b"\n", b"home"])
)
def test_settings_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_bytes(data)
    ends_in(lambda _: load({"config": str(file)}, {}), b"", SettingInvalid)
