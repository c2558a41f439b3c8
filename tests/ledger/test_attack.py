# SPDX-License-Identifier: Apache-2.0
"""`qcos verify --attack`: every changed copy of a sound bundle is found, a verifier's hole too (I4, G3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane import cli
from control_plane.costs import judging
from ledger import attack
from ledger.attack_shape import OPEN, binary, leaves, put, read, written
from ledger.errors import UsageError
from ledger.verify import Report, verify

VECTORS = Path(__file__).parents[1] / "vectors" / "bundles"
TRUST = (VECTORS / "trust.json").read_bytes()
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def good(kind: str) -> bytes:
    return (VECTORS / "good" / f"{kind}.json").read_bytes()


@pytest.mark.parametrize("kind", ["completed_full", "completed_standard", "denied"])
def test_every_changed_copy_is_found(kind: str) -> None:
    """I4: at each level, with own keys and another job's parts too."""
    found = attack.attack(good(kind), TRUST, NOW, other=good("canceled"), most=24)
    assert found.survived == ()
    assert found.complete
    assert found.kill_rate == 1.0
    assert all(one.tried == one.found > 0 for one in found.classes), found.classes
    assert len(found.classes) == 17


STATEMENTS = VECTORS.parent / "statements"


@pytest.mark.parametrize("lines", [True, False])
def test_every_changed_copy_of_a_statement_is_found(lines: bool) -> None:
    """G7, I4: a month's sums too, signed anew by own keys, and parts of a month that was made up."""
    given = (STATEMENTS / "lines.jsonl").read_bytes().splitlines(keepends=True) if lines else None

    def judge(copy: bytes, trust: bytes, now: datetime) -> Report:
        return judging.judge(copy, trust, now, lines=given)

    file, trust = ((STATEMENTS / name).read_bytes() for name in ("closed.json", "trust.json"))
    found = attack.attack(file, trust, NOW + timedelta(days=1), most=8, judge=judge)
    assert found.survived == ()
    assert all(one.tried == one.found > 0 for one in found.classes), found.classes
    assert len(found.classes) == 16  # a statement carries no artefact whose hashes could be repaired


def test_a_judge_of_statements_with_a_hole_is_caught() -> None:
    """A copy that it calls valid is named, with its place."""

    def judge(copy: bytes, trust: bytes, now: datetime) -> Report:
        report = judging.judge(copy, trust, now)
        wrong = [check.name for check in report.checks if not check.ok]
        return msgspec.structs.replace(report, verdict="valid") if wrong == ["timestamps"] else report

    file, trust = ((STATEMENTS / name).read_bytes() for name in ("closed.json", "trust.json"))
    found = attack.attack(file, trust, NOW + timedelta(days=1), most=8, judge=judge)
    assert found.holes()
    assert all(one.path and one.attack for one in found.holes())


def test_a_witness_left_out_is_no_change() -> None:
    """Proofs may grow after sealing: without them the verdict stands, and says less. Changed lines are found."""
    folder = VECTORS.parent / "cosigned"
    found = attack.attack((folder / "one.json").read_bytes(), (folder / "trust.json").read_bytes(), NOW, most=8)
    assert [one.path for one in found.survived] == ["proof.cosignatures left out"]
    assert not found.holes()
    assert found.kill_rate < 1


def test_the_same_seed_makes_the_same_copies() -> None:
    """I6: a survivor can be looked for again."""

    def tried(seed: int) -> list[bytes]:
        seen: list[bytes] = []

        def spy(copy: bytes, trust: bytes, now: datetime) -> Report:
            seen.append(copy)
            return report

        report = verify(good("denied"), TRUST, NOW)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attack, "verify", spy)
            patch.setattr(attack, "_why", lambda *_: "asked by a test")
            attack.attack(good("denied"), TRUST, NOW, seed=seed, most=16)
        return [copy for copy in seen if b"qcos" in copy]

    samples = [{bytes(copy) for copy in tried(seed)} for seed in (1, 1, 2)]
    assert len(samples[0] & samples[1]) > len(samples[0] & samples[2])


def holed(forgives: str) -> Any:
    """A verifier that passes over one check."""

    def judge(copy: bytes, trust: bytes, now: datetime) -> Report:
        report = verify(copy, trust, now)
        wrong = [check.name for check in report.checks if not check.ok]
        return msgspec.structs.replace(report, verdict="valid") if wrong == [forgives] else report

    return judge


@pytest.mark.parametrize("check", ["timestamps", "inclusion"])
def test_a_verifier_with_a_hole_is_caught(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives is named, with its place, and nothing excuses it."""
    monkeypatch.setattr(attack, "verify", holed(check))
    found = attack.attack(good("completed_full"), TRUST, NOW, most=24)
    assert found.holes()
    assert found.kill_rate < 1
    assert all(one.path and one.attack for one in found.holes())


def test_a_verifier_that_breaks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verdict is no find: the copy is named, and the attack goes on."""

    def breaks(copy: bytes, trust: bytes, now: datetime) -> Report:
        if copy != good("denied"):
            raise ZeroDivisionError
        return verify(copy, trust, now)

    monkeypatch.setattr(attack, "verify", breaks)
    left = iter([True] * 30)
    found = attack.attack(good("denied"), TRUST, NOW, most=8, go_on=lambda _n, _t: next(left, False))
    assert {one.why for one in found.survived} == {"unexplained: the verifier broke with ZeroDivisionError"}
    assert found.found == 0


def test_only_a_valid_bundle_is_attacked() -> None:
    """The verdict of the untouched file comes first."""
    with pytest.raises(UsageError, match="only a valid bundle"):
        attack.attack((VECTORS / "bad" / "salt_changed.json").read_bytes(), TRUST, NOW)


def test_time_that_is_up_is_said() -> None:
    """A long attack ends, and the answer says that it isn't whole."""
    left = iter([True] * 50)
    found = attack.attack(good("denied"), TRUST, NOW, most=8, go_on=lambda _n, _t: next(left, False))
    assert (found.tried, found.complete) == (50, False)
    assert len(found.classes) == 17


def test_texts_that_hold_json_open() -> None:
    """A value within an artefact can be changed by itself."""
    tree = read(good("completed_full"))
    places = {at for at, _ in leaves(tree, inside=True)}
    shots = ("contents", "result", OPEN, "shots")
    assert shots in places
    assert ("proof", "leaf", OPEN, "tenant") in places
    changed = read(written(put(tree, shots, 7)))
    assert json.loads(binary(changed["contents"]["result"]) or b"")["shots"] == 7


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Table or document, 0 where nothing survived, 1 and a reason where the file isn't valid."""
    files = [str(VECTORS / "good" / "denied.json"), "--trust", str(VECTORS / "trust.json"), "--attack", "--copies", "8"]
    assert cli.main(["verify", *files]) == 0
    told = capsys.readouterr().out
    assert told.startswith("VALID (external_time)")
    assert "kill rate 100.00 %" in told
    assert cli.main(["verify", *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "valid"
    assert document["attack"]["kill_rate"] == 1.0
    assert document["attack"]["survived"] == []
    assert {"name", "tried", "found"} == set(document["attack"]["classes"][0])
    bad = VECTORS / "bad" / "salt_changed.json"
    assert cli.main(["verify", str(bad), *files[1:]]) == 1
    told_by = capsys.readouterr()
    assert told_by.err.startswith("not_attacked: only a valid bundle or statement can be attacked; this one is invalid")
    month = [str(STATEMENTS / "closed.json"), "--trust", str(STATEMENTS / "trust.json"), "--attack", "--copies", "8"]
    assert cli.main(["verify", *month, "--lines", str(STATEMENTS / "lines.jsonl")]) == 0
    assert "kill rate 100.00 %" in capsys.readouterr().out
    assert cli.main(["verify", *month, "--other", str(VECTORS / "good" / "denied.json")]) == 1
    (tmp_path / "none.json").write_text("no bundle")
    assert cli.main(["verify", *files, "--other", str(tmp_path / "none.json")]) == 2
