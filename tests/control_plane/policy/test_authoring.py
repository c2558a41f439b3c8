# SPDX-License-Identifier: Apache-2.0
"""A folder that `qcos policy init` made is whole: OPA, regal and `qcos policy` pass on it as it is (G2)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from control_plane import cli
from control_plane.policy import revision
from control_plane.policy.choice import find_opa, find_regal

OPA, REGAL = find_opa(None), find_regal()
needs_opa = pytest.mark.skipif(OPA is None, reason="no opa; make tools gets it")
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOS_HOME", str(tmp_path / "home"))
    for name in ("QCOS_URL", "QCOS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if OPA is not None:
        monkeypatch.setenv("QCOS_OPA_BIN", str(OPA))


@pytest.fixture
def rules(tmp_path: Path, capsys: Printed) -> Path:
    """A folder of the shipped policies."""
    assert cli.main(["policy", "init", str(tmp_path / "rules"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["revision"] == revision.load().revision
    assert told["from"] == "the shipped policies: no plane answers"
    return tmp_path / "rules"


def test_its_revision_is_the_one_that_is_shipped_and_its_files_are_all_there(rules: Path) -> None:
    assert revision.load(rules).revision == revision.load().revision
    shipped = revision.default_folder()
    for path in (*revision.read(shipped), "README.md", ".regal/config.yaml"):
        assert (rules / path).read_bytes() == (shipped / path).read_bytes()


@needs_opa
@pytest.mark.skipif(REGAL is None, reason="no regal; make tools gets it")
@pytest.mark.parametrize(
    "command",
    ["{opa} test .", "{opa} check --strict --schema schemas .", "{opa} fmt --fail --list qcos", "{regal} lint ."],
)
def test_the_tools_pass_on_it_as_typed(rules: Path, command: str) -> None:
    words = command.format(opa=OPA, regal=REGAL).split()
    done = subprocess.run(words, cwd=rules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_opa
def test_check_says_what_it_looked_at(rules: Path, capsys: Printed) -> None:
    assert cli.main(["policy", "check", str(rules), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["faults"] == []
    assert told["revision"] == revision.load().revision
    assert told["tools"]["opa"] == str(OPA)
    assert set(told) == {"ok", "revision", "faults", "tools", "skipped"}
    assert any("regal" in one for one in told["skipped"]) == (REGAL is None)


def test_check_tells_each_fault_with_its_line_and_the_first_with_its_code(rules: Path, capsys: Printed) -> None:
    (rules / "data" / "torn.json").write_text('{\n"a": ')
    (rules / "qcos" / "quota" / "more.rego").write_bytes(b"package qcos.quota\r\n")
    assert cli.main(["policy", "check", str(rules)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "data/torn.json:2: json: Expecting value, at column 6"
    assert out.splitlines()[1].startswith("qcos/quota/more.rego:1: encoding: ")
    assert err == "policy_refused: data/torn.json:2: json: Expecting value, at column 6 (the first of 2)\n"
    assert cli.main(["policy", "check", str(rules), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["faults"][0] == {
        "path": "data/torn.json",
        "line": 2,
        "rule": "json",
        "message": "Expecting value, at column 6",
    }
    assert json.loads(out)["revision"] is None
    assert json.loads(err)["code"] == "policy_refused"


def test_nothing_that_stands_there_is_overwritten(rules: Path, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for place in (rules, tmp_path / "file", tmp_path / "link"):
        assert cli.main(["policy", "init", str(place)]) == 2
        assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_revision_of_a_plane_that_is_not_there_is_no_shipped_one(tmp_path: Path, capsys: Printed) -> None:
    assert cli.main(["policy", "init", str(tmp_path / "x"), "--revision", "sha256:" + "0" * 64]) == 3
    assert capsys.readouterr().err.startswith("plane_unreachable: ")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["check", "test"])
def test_what_is_no_folder_of_rules_is_unusable(tmp_path: Path, capsys: Printed, command: str) -> None:
    assert cli.main(["policy", command, str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("unusable_input: ")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two rules and their tests: of a whole set each run takes a second."""
    package = tmp_path / "small" / "qcos" / "quota"
    package.mkdir(parents=True)
    (package / "shots.rego").write_text("package qcos.quota\n\na if input.x == 1\n\nb if input.x == 2\n")
    tests = 'test_a if quota.a with input as {"x": 1}\n\ntest_b if quota.b with input as {"x": 2}\n'
    head = "package qcos.quota_test\n\nimport data.qcos.quota\n\n"
    (package / "shots_test.rego").write_text(head + tests)
    return tmp_path / "small"


@needs_opa
def test_tests_are_counted_by_package_with_what_they_reach(small: Path, capsys: Printed) -> None:
    assert cli.main(["policy", "test", str(small), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["tests"], told["coverage"], told["wanted"]) == (True, 2, 100, 100)
    assert told["packages"] == [{"name": "quota", "tests": 2, "failed": 0, "coverage": 100.0}]


@needs_opa
def test_a_rule_that_no_test_reaches_fails_unless_less_is_asked_for(small: Path, capsys: Printed) -> None:
    rule = small / "qcos" / "quota" / "shots.rego"
    rule.write_text(rule.read_text() + "\nextra if input.job.shots == 5\n")
    line = len(rule.read_text().splitlines())
    assert cli.main(["policy", "test", str(small)]) == 1
    out, err = capsys.readouterr()
    assert f"qcos/quota/shots.rego:{line}: coverage: no test reaches this line" in out.splitlines()
    assert err.startswith(f"policy_refused: qcos/quota/shots.rego:{line}: coverage: ")
    assert cli.main(["policy", "test", str(small), "--coverage", "60"]) == 0
    assert cli.main(["policy", "test", str(small), "--coverage", "101"]) == 2


@needs_opa
def test_a_failed_test_and_one_that_does_not_compile_have_their_lines(small: Path, capsys: Printed) -> None:
    test = small / "qcos" / "quota" / "shots_test.rego"
    whole = test.read_text()
    test.write_text(whole + "\ntest_wrong if 1 == 2\n")
    assert cli.main(["policy", "test", str(small), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [one["rule"] for one in told["failures"]] == ["test_wrong"]
    assert told["failures"][0]["line"] == len(test.read_text().splitlines())
    test.write_text(whole + "\ntest_torn if {\n")
    assert cli.main(["policy", "test", str(small)]) == 1
    assert capsys.readouterr().err.startswith("policy_refused: qcos/quota/shots_test.rego:")


def test_a_folder_without_tests_does_not_pass(small: Path, capsys: Printed) -> None:
    for path in small.rglob("*_test.rego"):
        path.unlink()
    assert cli.main(["policy", "test", str(small)]) == 1
    assert ("no tests" if OPA else "tool_missing") in capsys.readouterr().err


def test_without_opa_tests_are_said_not_to_run(rules: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOS_OPA_BIN", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(rules)
    assert cli.main(["policy", "test", str(rules)]) == 1
    assert capsys.readouterr().err.startswith("tool_missing: ")
    assert cli.main(["policy", "check", str(rules), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tools"] == {"opa": None, "regal": None}
    assert len(told["skipped"]) == 2
