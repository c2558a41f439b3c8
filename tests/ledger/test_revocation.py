# SPDX-License-Identifier: Apache-2.0
"""What a revoked, rotated or stale key still proves, and by whose clock that is judged (I4, G12)."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.canonical import dumps, parse_time
from ledger.errors import UsageError
from ledger.verify import Report, verify
from tests.ledger.plane import T0, Plane, at

VECTORS = Path(__file__).parents[1] / "vectors" / "ledger" / "keys"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "cases.json").read_text())
NOW = T0 + timedelta(days=30)
KEYS = ("evidence-ml-dsa-65", "evidence-ecdsa-p256", "log-ed25519", "log-ml-dsa-65")
BEFORE, AFTER = 1, 100  # seconds after T0; everything is stamped at 4


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    """A plane whose own clock is the only one."""
    return Plane(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    """A plane that an outside authority stamps as well."""
    return Plane(tmp_path_factory.mktemp("outside"), external=True)


def judged(plane: Plane, reason: str, seconds: float, *names: str, bundle: bytes = b"", **changes: Any) -> Report:
    entries = [{"id": name, "at": at(seconds), "reason": reason} for name in names]
    return verify(bundle or plane.bundle("completed_full"), plane.trust(revoked=entries, **changes), NOW)


def check(report: Report, name: str) -> str:
    return next(found.detail for found in report.checks if found.name == name)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("reason", ["compromised", "compromised: laptop stolen", "", "of no known word"])
def test_a_self_issued_time_revives_no_key_that_others_may_hold(own: Plane, name: str, reason: str) -> None:
    """Whoever has the key may have the plane's clock as well."""
    report = judged(own, reason, AFTER, name)
    assert (report.verdict, report.assurance) == ("unanchored", "self_issued")
    assert "only self-issued time is older" in check(report, "key_validity")


@pytest.mark.parametrize("name", KEYS)
def test_an_outside_time_shows_what_is_older_than_the_theft(outside: Plane, name: str) -> None:
    report = judged(outside, "compromised", AFTER, name)
    assert (report.verdict, report.assurance) == ("valid", "external_time")
    assert check(report, "key_validity").startswith("by external time ")
    assert judged(outside, "compromised", BEFORE, name).verdict == "invalid"


def test_a_key_that_nobody_else_has_is_judged_by_any_trusted_time(own: Plane) -> None:
    for reason in ("superseded", "ceased: the plane was closed"):
        assert judged(own, reason, AFTER, *KEYS).verdict == "valid"
        assert judged(own, reason, BEFORE, *KEYS).verdict == "invalid"
    report = judged(own, "superseded", AFTER, *KEYS)
    assert check(report, "key_validity").startswith("by self time ")


def test_a_stolen_clock_tells_no_time(own: Plane, outside: Plane) -> None:
    assert judged(own, "compromised", AFTER, "self clock").verdict == "unanchored"
    assert judged(outside, "compromised", AFTER, "self clock").verdict == "valid"
    assert judged(outside, "compromised", AFTER, "external clock").verdict == "unanchored"
    assert judged(outside, "compromised", AFTER, "external clock", "log-ed25519").verdict == "unanchored"


def test_a_backdated_forgery_by_stolen_keys_and_clock_is_not_valid(own: Plane) -> None:
    """The thief has every key of the plane, its clock too, and makes evidence of last week today."""
    forged = own.bundle("completed_full")
    assert judged(own, "compromised", AFTER, *KEYS, "self clock", bundle=forged).verdict == "unanchored"


def test_of_two_revocations_each_counts(own: Plane) -> None:
    entries = [
        {"id": "log-ed25519", "at": at(AFTER), "reason": "superseded"},
        {"id": "log-ed25519", "at": at(AFTER + 9), "reason": "compromised"},
    ]
    assert verify(own.bundle("denied"), own.trust(revoked=entries), NOW).verdict == "unanchored"


# The bundle's entry is 5 of 11: its evidence stands at 6, its checkpoint at 11.
@pytest.mark.parametrize(
    ("purpose", "size", "side", "wanted"),
    [
        ("log", 11, "ended", "valid"),
        ("log", 10, "ended", "invalid"),
        ("log", 11, "begun", "invalid"),
        ("log", 10, "begun", "valid"),
        ("evidence", 6, "ended", "valid"),
        ("evidence", 5, "ended", "invalid"),
        ("evidence", 6, "begun", "invalid"),
        ("evidence", 5, "begun", "valid"),
    ],
)
def test_a_rotated_key_speaks_on_its_side_of_the_log_alone(
    own: Plane, tmp_path_factory: pytest.TempPathFactory, purpose: str, size: int, side: str, wanted: str
) -> None:
    """No stolen old key signs a newer checkpoint, and no new key an older one."""
    trust, other = json.loads(own.trust()), json.loads(Plane(tmp_path_factory.mktemp("other")).trust())
    ours, theirs = (tree["log"]["keys"] if purpose == "log" else tree["evidence"] for tree in (trust, other))
    ours_ids = [key["id"] for key in ours]
    ours += [key | {"id": f"{key['id']}-b"} for key in theirs]
    theirs_ids = [key["id"] for key in ours[2:]]
    ended, begun = (ours_ids, theirs_ids) if side == "ended" else (theirs_ids, ours_ids)
    trust["rotations"] = [{"origin": own.origin, "size": size, "ended": ended, "begun": begun}]
    trust["type"] = "urn:qcos:trust:v3"
    report = verify(own.bundle("completed_full"), dumps(trust), NOW)
    assert report.verdict == wanted
    if wanted == "invalid":
        assert "keys were rotated" in report.reason


@pytest.mark.parametrize(
    "rotation",
    [
        {"origin": "another/log"},
        {"ended": ["log-ed25519", "evidence-ml-dsa-65"]},
        {"ended": []},
        {"ended": ["log-ed25519"], "begun": ["log-ed25519"]},
        {"begun": ["nobody"]},
    ],
)
def test_a_trust_file_with_an_impossible_rotation_is_none(own: Plane, rotation: dict[str, Any]) -> None:
    sound = {"origin": own.origin, "size": 3, "ended": ["log-ed25519"], "begun": ["log-ml-dsa-65"]}
    changes = {"type": "urn:qcos:trust:v3", "rotations": [sound | rotation]}
    with pytest.raises(UsageError):
        verify(own.bundle("denied"), own.trust(**changes), NOW)


def test_evidence_newer_than_the_trust_file_by_keys_that_came_after_it_is_unanchored(
    own: Plane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An older trust file can't know them; a newer one must."""
    other = json.loads(Plane(tmp_path_factory.mktemp("older")).trust())["evidence"]
    bundle = own.bundle("completed_full")
    assert verify(bundle, own.trust(evidence=other, issued_at=at(-30)), NOW).verdict == "unanchored"
    assert verify(bundle, own.trust(evidence=other, issued_at=at(30)), NOW).verdict == "invalid"


@pytest.mark.parametrize(
    ("now", "issued", "expires", "allowed", "wanted"),
    [
        (10, 0, 365, 10, "valid"),
        (11, 0, 365, 10, "unanchored"),
        (10, 0, 9, 30, "unanchored"),
        (10, 11, 365, 30, "unanchored"),
        (400, 0, 365, None, "valid"),
    ],
)
def test_a_stale_trust_file_is_refused_where_an_age_is_given(
    own: Plane, now: int, issued: int, expires: int, allowed: int | None, wanted: str
) -> None:
    day = 86400
    trust = own.trust(issued_at=at(issued * day), expires=at(expires * day))
    age = None if allowed is None else timedelta(days=allowed)
    report = verify(own.bundle("denied"), trust, T0 + timedelta(days=now), max_age=age)
    found = next(one for one in report.checks if one.name == "trust_current")
    assert (report.verdict, found.ok) == (wanted, wanted == "valid")
    assert found.detail.startswith("stale") == (wanted == "unanchored" or allowed is None)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_vector_of_revoked_rotated_and_stale_keys_gets_its_verdict(case: dict[str, Any]) -> None:
    """Data for any verifier: bundle, trust file, the reader's clock and the age that it allows."""
    bundle, trust = (VECTORS / case["bundle"]).read_bytes(), (VECTORS / case["trust"]).read_bytes()
    allowed = case["max_trust_age_s"]
    age = None if allowed is None else timedelta(seconds=allowed)
    report = verify(bundle, trust, parse_time(case["now"]), max_age=age)
    failed = [check.name for check in report.checks if not check.ok]
    assert (report.verdict, report.assurance, failed) == (case["verdict"], case["assurance"], case["failed"])
