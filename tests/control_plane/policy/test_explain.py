# SPDX-License-Identifier: Apache-2.0
"""A recorded decision is explained by its own revision: a sentence, the deciding rule's steps, the same answer (G2)."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane import cli
from control_plane.policy import explain, revision
from control_plane.policy.choice import find_opa
from control_plane.policy.explain import Told
from ledger import canonical
from tests.control_plane.policy import sample

OPA = find_opa(None)
needs_opa = pytest.mark.skipif(OPA is None, reason="no opa; make tools gets it")
POLICIES = revision.load()
VECTORS = Path("tests/vectors/bundles/good")
Printed = pytest.CaptureFixture[str]


async def _told(document: dict[str, Any], engine: Path | None = None) -> Told:
    """A decision as a plane would have recorded it."""
    bare = Told("d-1", "qcos-job-7", "2025-11-21T02:00:00.000Z", True, POLICIES.revision, "opa", document)
    made = await explain.again(bare, POLICIES, engine)
    shown: dict[str, Any] = made.document()
    return msgspec.structs.replace(
        bare, allow=made.allow, checks=tuple(shown["checks"]), reasons=tuple(shown["reasons"])
    )


async def test_the_sentence_says_rule_file_line_what_was_asked_and_what_would_pass() -> None:
    told = await _told(sample.DENIED["team-quota"])
    line = POLICIES.rules["quota.quota_exceeded"].rpartition(":")[2]
    said = explain.sentence(told)
    assert said.startswith(f"job qcos-job-7 was denied on 2025-11-21 by qcos/quota/shots.rego:{line} (quota_exceeded, ")
    assert "49001 used, 1000 asked for" in said
    assert "what would have been allowed: at most 50000 shots today (ask for at most 999 shots" in said
    assert "\n" not in said


async def test_what_was_allowed_is_said_to_have_passed_and_the_weightiest_reason_decides() -> None:
    told = await _told(sample.document())
    assert (
        explain.sentence(told)
        == f"job qcos-job-7 was allowed on 2025-11-21: all {len(told.checks or ())} checks passed."
    )
    several = await _told(sample.document(principal__roles=["auditor"], budgets=[]))
    assert explain.deciding(several) == (several.reasons or ())[0]
    assert "more reason" in explain.sentence(several)
    soft = {**(several.reasons or ())[0], "level": "soft"}
    assert explain.deciding(msgspec.structs.replace(several, reasons=(soft, (several.reasons or ())[1]))) != soft


async def test_each_engine_gives_the_recorded_answer_and_another_record_is_seen() -> None:
    told = await _told(sample.DENIED["budget-missing"])
    for engine in {OPA, None}:
        assert explain.differences(told, await explain.again(told, POLICIES, engine)) == []
    changed = msgspec.structs.replace(told, allow=True, reasons=())
    found = explain.differences(changed, await explain.again(changed, POLICIES, None))
    assert found[0] == "recorded allow, replayed deny"
    assert found[1].startswith("only replayed: code budget_missing")


@needs_opa
async def test_the_trace_shows_the_deciding_rule_as_its_author_wrote_it() -> None:
    assert OPA is not None
    told = await _told(sample.DENIED["budget-missing"])
    rule = str((explain.deciding(told) or {})["rule"])
    lines = await explain.trace(POLICIES, told.input or {}, rule, OPA)
    assert lines[0].split() == [f"qcos/{rule}", "enter", "budget.deny"]
    assert any(line.split("\t")[1].split() == ["eval", "not", "covered"] for line in lines)
    assert all(line.startswith("qcos/budget/") for line in lines)
    assert len(lines) < explain.MOST_LINES < len(await explain.trace(POLICIES, told.input or {}, None, OPA))


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evidence of a denied job, as a plane writes it, away from any plane."""
    monkeypatch.setenv("QCOS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("QCOS_URL", raising=False)
    if OPA is not None:
        monkeypatch.setenv("QCOS_OPA_BIN", str(OPA))
    bundle = json.loads((VECTORS / "denied.json").read_text())
    document = json.dumps(sample.DENIED["team-quota"]).encode()
    bundle["contents"]["decision_input"] = base64.b64encode(document).decode()
    bundle["governance_record"]["policy_revision"] = POLICIES.revision
    (tmp_path / "denied.json").write_bytes(canonical.dumps(bundle))
    return tmp_path / "denied.json"


def _changed(evidence: Path, old: str, new: str) -> Path:
    text = evidence.read_text()
    assert old in text
    evidence.write_text(text.replace(old, new))
    return evidence


def test_a_jobs_evidence_is_explained_without_a_plane(evidence: Path, capsys: Printed) -> None:
    assert cli.main(["policy", "explain", str(evidence), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["allow"] is False
    assert told["rule"].startswith("qcos/quota/shots.rego:")
    assert told["replay"]["same"] is True
    assert told["replay"]["revision"] == POLICIES.revision
    assert bool(told["trace"]) == (OPA is not None)
    assert cli.main(["policy", "explain", str(evidence), "--trace", "none"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == told["sentence"]
    assert f"replayed\tthe same answer by {POLICIES.revision} on {told['replay']['engine']}" in out.splitlines()


def test_a_revision_that_is_gone_is_named_and_a_copy_of_it_serves(
    evidence: Path, tmp_path: Path, capsys: Printed
) -> None:
    copy = Path(shutil.copytree(revision.default_folder(), tmp_path / "copy", ignore=shutil.ignore_patterns("__*")))
    limits = copy / "data" / "limits.json"
    limits.write_text(limits.read_text().replace('"max_windows": 8', '"max_windows": 9'))
    wanted = revision.load(copy).revision
    _changed(evidence, POLICIES.revision, wanted)
    assert cli.main(["policy", "explain", str(evidence)]) == 1
    assert capsys.readouterr().err.startswith(f"not_replayable: revision {wanted} is gone here")
    assert cli.main(["policy", "explain", str(evidence), "--policies", str(copy), "--trace", "none"]) == 0
    assert cli.main(["policy", "explain", str(evidence), "--policies", str(revision.default_folder())]) == 1
    assert f"wanted is {wanted}" in capsys.readouterr().err


def test_an_answer_that_is_another_than_recorded_is_no_success(evidence: Path, capsys: Printed) -> None:
    _changed(evidence, '"policy_decisions":["deny"]', '"policy_decisions":["allow"]')
    assert cli.main(["policy", "explain", str(evidence), "--trace", "none"]) == 1
    out, err = capsys.readouterr()
    assert "difference\trecorded allow, replayed deny" in out.splitlines()
    assert err.startswith("replay_differs: ")


def test_other_files_are_said_to_be_no_evidence(evidence: Path, capsys: Printed) -> None:
    whole = json.loads(evidence.read_bytes())
    for changed, code, told in (
        (b"{}", 2, "unusable_input: "),
        (evidence.read_bytes() + b"\0", 2, "unusable_input: "),
        (canonical.dumps(whole | {"contents": {}}), 1, "not_replayable: "),
        (canonical.dumps(whole | {"contents": {"decision_input": "ew=="}}), 2, "unusable_input: "),
    ):
        evidence.write_bytes(changed)
        assert cli.main(["policy", "explain", str(evidence)]) == code
        assert capsys.readouterr().err.startswith(told)


def test_an_id_needs_a_plane(evidence: Path, capsys: Printed) -> None:
    del evidence
    assert cli.main(["policy", "explain", "qcos-job-2025-01-01-aaaa"]) == 3
    assert capsys.readouterr().err.startswith("plane_unreachable: ")
