# SPDX-License-Identifier: Apache-2.0
"""The verifier's claims, on committed bundles: what is honest passes, each change is found (I4, G3)."""

from __future__ import annotations

import base64
import binascii
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.canonical import dumps
from ledger.errors import UsageError
from ledger.verify import Report, verify
from tests.ledger.plane import NOW, Plane, at, record

VECTORS = Path(__file__).parent.parent / "vectors" / "bundles"
EXPECTED: dict[str, dict[str, str]] = json.loads((VECTORS / "expected.json").read_text())
TRUST = (VECTORS / "trust.json").read_bytes()
GOOD = sorted(name for name in EXPECTED if name.startswith("good/"))


def judge(data: bytes, trust: bytes = TRUST) -> Report:
    return verify(data, trust, NOW)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_named_bundle_gets_its_verdict_and_the_fault_is_named(name: str) -> None:
    report, expected = judge((VECTORS / name).read_bytes()), EXPECTED[name]
    assert report.verdict == expected["verdict"], report.reason
    assert (failed(report) or [""])[0] == expected["check"], report.reason
    assert report.reason.startswith(expected["check"] or "every check passed")


def test_outside_time_is_called_so_and_own_time_is_called_self_issued() -> None:
    outside = judge((VECTORS / "good" / "completed_full.json").read_bytes())
    assert (outside.assurance, outside.time.operator) == ("external_time", "external")
    own = judge((VECTORS / "self_issued.json").read_bytes(), (VECTORS / "self_issued_trust.json").read_bytes())
    assert (own.verdict, own.assurance, own.time.operator) == ("valid", "self_issued", "self")
    assert own.time.value == "2025-01-06T10:00:04.000Z"


def test_artefacts_beyond_the_file_are_named_and_do_not_fail() -> None:
    report = judge((VECTORS / "good" / "completed_by_hash.json").read_bytes())
    assert report.verdict == "valid"
    details = {check.name: check.detail for check in report.checks}
    assert details["shots_recomputed"] == details["output_hash"] == details["artefact:source"] == "not_carried"


@pytest.mark.parametrize("name", GOOD)
def test_every_changed_dropped_or_added_leaf_is_found(name: str) -> None:
    """I4: the file written again in canonical form after one change is never valid, and a check is named."""
    tree = json.loads((VECTORS / name).read_bytes())
    tried = 0
    for path, changed in mutants(tree):
        try:
            report = judge(dumps(changed))
        except UsageError:
            continue
        tried += 1
        assert report.verdict != "valid", path
        assert failed(report), path
        if report.verdict == "unanchored":  # an unknown key or authority: only where one is named
            assert path.startswith(("$.proof.checkpoint", "$.signatures")), path
    assert tried > 500


def mutants(tree: Any) -> Iterator[tuple[str, Any]]:
    """The whole document with one thing changed, for every node of it."""
    for path, rebuild, value in nodes(tree, "$", lambda new: new):
        for number, new in enumerate(variants(value)):
            yield f"{path} ({number})", rebuild(new)


def nodes(value: Any, path: str, rebuild: Any) -> Iterator[tuple[str, Any, Any]]:
    yield path, rebuild, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, f"{path}.{key}", lambda new, key=key: rebuild(value | {key: new}))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from nodes(
                inner,
                f"{path}[{place}]",
                lambda new, place=place: rebuild([*value[:place], new, *value[place + 1 :]]),
            )


def variants(value: Any) -> Iterator[Any]:
    """Other values for one node: other type, other value, a member or element less or more, another order."""
    others: list[Any] = [None, True, False, 0, 1, "", "1", [], {}]
    if isinstance(value, bool):
        others.append(str(value).lower())
    elif isinstance(value, int):
        others += [value + 1, -value, str(value)]
    elif isinstance(value, str):
        others += [value + " ", value + "\n", value.upper(), value.lower(), value[:-1], [value], *bits(value)]
    elif isinstance(value, dict):
        others += [value | {"zz": None}, value | {"zz": 0}, value | {"": "x"}]
        others += [{key: inner for key, inner in value.items() if key != gone} for gone in value]
        others += [{(key + "x" if key == named else key): v for key, v in value.items()} for named in value]
    elif isinstance(value, list):
        others += [[*value, None], [*value, *value[-1:]], value[::-1], [*value[1:], *value[:1]]]
        others += [[*value[:gone], *value[gone + 1 :]] for gone in range(len(value))]
    same = dumps(value)
    yield from (other for other in others if dumps(other) != same)


def bits(text: str) -> Iterator[str]:
    """Base64 of the same length with a bit of its bytes changed; of a proper text, one changed character."""
    source = random.Random(text)
    try:
        data = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        data = bytearray()
    for _ in range(2):
        if data:
            changed = bytearray(data)
            changed[source.randrange(len(data))] ^= 1 << source.randrange(8)
            yield base64.b64encode(changed).decode()
    if text:
        place = source.randrange(len(text))
        yield text[:place] + ("b" if text[place] == "a" else "a") + text[place + 1 :]


@pytest.mark.parametrize("kind", ["self", "external"])
def test_every_bit_of_a_token_counts(kind: str) -> None:
    """The tools outside accept some changed bits of a token; this verifier accepts none."""
    tree = json.loads((VECTORS / "good" / "denied.json").read_bytes())
    stamps = tree["signatures"]["timestamp_authority"]
    place = next(at for at, stamp in enumerate(stamps) if stamp["operator"] == kind)
    token = base64.b64decode(stamps[place]["token"])
    whole = Plane.judge_token(TRUST, kind)
    assert whole(token)
    for bit in range(len(token) * 8):
        changed = bytearray(token)
        changed[bit // 8] ^= 1 << bit % 8
        assert not whole(bytes(changed)), bit


def test_every_bit_of_the_checkpoint_and_the_leaf_counts() -> None:
    tree = json.loads((VECTORS / "good" / "denied.json").read_bytes())
    note = tree["proof"]["checkpoint"]
    for place in range(0, len(note), 97):
        changed = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
        assert judge(dumps(tree | {"proof": tree["proof"] | {"checkpoint": changed}})).verdict != "valid"


def test_text_that_is_no_bundle_is_unusable_and_not_merely_invalid() -> None:
    for data in (b"", b"[]", b"\xff\xfe", b"{", b'"' + b"x" * 100):
        with pytest.raises(UsageError):
            judge(data)
    with pytest.raises(UsageError):
        judge(b"{" + b" " * (16 * 1024 * 1024))


def test_hostile_nesting_and_lone_surrogates_end_in_an_answer() -> None:
    deep = b'{"version":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    honest = (VECTORS / "good" / "denied.json").read_bytes()
    surrogate = honest.replace(b'"aer-', b'"\\ud800aer-').replace(b'"demo"', b'"\\ud800"', 1)
    for data in (deep, surrogate):
        with suppress(UsageError):
            assert judge(data).verdict == "invalid"


def test_half_a_trust_file_is_none() -> None:
    honest = (VECTORS / "good" / "denied.json").read_bytes()
    tree = json.loads(TRUST)
    bad: list[Any] = [
        {key: value for key, value in tree.items() if key != "revoked"},
        tree | {"note": 1},
        tree | {"evidence": tree["log"]["keys"]},
        tree | {"tsa": [tree["tsa"][0] | {"certificates": ["AAAA"]}]},
        tree | {"evidence": [tree["evidence"][0] | {"alg": "ed25519"}]},
    ]
    for data in [b"", b"{}", json.dumps(tree).encode(), *(dumps(tree) for tree in bad)]:
        with pytest.raises(UsageError):
            judge(honest, data)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    return Plane(tmp_path_factory.mktemp("plane"))


def test_a_key_revoked_before_the_stamp_proves_nothing_and_later_revocation_leaves_it(plane: Plane) -> None:
    def revoked(name: str, seconds: float) -> str:
        entry = {"id": name, "at": at(seconds), "reason": "superseded: by a longer one"}
        return judge(plane.bundle("completed_full"), plane.trust(revoked=[entry])).verdict

    for name in ("evidence-ml-dsa-65", "evidence-ecdsa-p256", "log-ed25519", "self clock"):
        assert revoked(name, 1) == "invalid"
        assert revoked(name, 100) == "valid"


def test_a_trust_file_for_other_tenants_does_not_reach(plane: Plane) -> None:
    scope = {"profile": "dev", "plane": "plane-1", "tenants": ["other"]}
    report = judge(plane.bundle("denied"), plane.trust(scope=scope))
    assert (report.verdict, failed(report)) == ("invalid", ["trust_scope"])


def test_without_its_authority_or_its_keys_a_sound_bundle_is_unanchored(plane: Plane, tmp_path: Path) -> None:
    bundle = plane.bundle("completed_full")
    assert judge(bundle, plane.trust(tsa=[])).verdict == "unanchored"
    assert judge(bundle, plane.trust(evidence=[])).verdict == "unanchored"
    foreign = judge(bundle, Plane(tmp_path).trust())
    assert foreign.verdict == "unanchored"
    broken = json.loads(bundle) | {"job_id": "another"}
    assert judge(dumps(broken), Plane(tmp_path).trust()).verdict == "invalid"


def test_a_key_that_was_not_valid_yet_or_any_more_is_refused(plane: Plane) -> None:
    tree = json.loads(plane.trust())
    for window in ({"valid_from": at(3600)}, {"valid_until": at(-30)}):
        keys = [key | window for key in tree["log"]["keys"]]
        report = judge(plane.bundle("denied"), plane.trust(log=tree["log"] | {"keys": keys}))
        assert (report.verdict, failed(report)) == ("invalid", ["key_validity"])


def test_a_stale_trust_file_is_said_and_time_to_come_is_refused(plane: Plane) -> None:
    bundle, trust = plane.bundle("denied"), plane.trust()
    late = verify(bundle, trust, NOW + timedelta(days=4000))
    assert late.verdict == "valid"
    assert next(check for check in late.checks if check.name == "trust_current").detail.startswith("stale")
    early = verify(bundle, trust, NOW - timedelta(days=31))
    assert (early.verdict, failed(early)) == ("invalid", ["time_order"])


def test_the_budget_may_deny_what_policy_allowed(plane: Plane) -> None:
    """Path step 3: the decision is kept as made, the refused hold is the error."""
    members, contents = record("denied")
    members["governance_record"] |= {"policy_decisions": ["allow"], "reasons": []}
    members["error"] = {"code": "budget_exceeded", "detail": "0.52 USD asked, 0.10 USD left"}
    assert judge(plane.seal(members, contents), plane.trust()).verdict == "valid"
