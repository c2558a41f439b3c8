# SPDX-License-Identifier: Apache-2.0
"""The policy files as one value: the revision covers every byte that decides, and rule locations are true."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from control_plane.policy.decision import REQUIRED, PolicyUnavailable
from control_plane.policy.document import Limits
from control_plane.policy.revision import PolicySet, default_folder, load, locations, read

POLICIES = load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_folder(), tmp_path / "policies"))


def test_each_location_is_the_line_of_its_rule() -> None:
    for rule, location in POLICIES.rules.items():
        path, _, number = location.rpartition(":")
        line = POLICIES.modules[f"qcos/{path}"].splitlines()[int(number) - 1]
        assert line.startswith("allow if" if rule.endswith(".allow") else ("deny contains", "duties contains")), (
            rule,
            location,
            line,
        )


def test_each_rule_that_denies_has_a_location_and_says_its_own_id() -> None:
    denying = 0
    for path, source in POLICIES.modules.items():
        package = path.split("/")[1]
        denying += len(re.findall(r"^(?:deny|duties) contains", source, re.MULTILINE))
        for named in re.findall(r'"rule": "([a-z_.]+)"', source):
            assert named in POLICIES.rules, (path, named)
            assert named.startswith(package + ".")
    names = {name for demanded in REQUIRED.values() for name in demanded}
    assert denying == len(POLICIES.rules) - len(names)
    assert {f"{name}.allow" for name in names} <= set(POLICIES.rules)


def test_every_file_that_decides_is_in_the_revision_and_no_test(folder: Path) -> None:
    assert load(folder).revision == POLICIES.revision
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".rego", ".json"}:
            before = path.read_bytes()
            path.write_bytes(before + b"\n")
            decides = not path.name.endswith("_test.rego") and path.parent.name != "schemas"
            assert (load(folder).revision != POLICIES.revision) == decides, path
            path.write_bytes(before)


def test_a_renamed_file_is_another_revision(folder: Path) -> None:
    (folder / "qcos/quota/shots.rego").rename(folder / "qcos/quota/day.rego")
    assert load(folder).revision != POLICIES.revision


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/broken.json", "{"),
        ("data/list.json", "[]"),
        ("data/zagain.json", '{"vocabulary": {}}'),
        ("qcos/quota/other.rego", "package elsewhere\n"),
        ("qcos/quota/zagain.rego", "package qcos.quota\n\nallow if true\n"),
    ],
)
def test_files_that_can_not_be_used_are_named(folder: Path, path: str, content: str) -> None:
    """I5: nothing is skipped in silence."""
    (folder / path).write_text(content)
    with pytest.raises(PolicyUnavailable, match=Path(path).name):
        load(folder)


def test_no_policies_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyUnavailable, match="no policy files"):
        load(tmp_path)


def test_a_code_belongs_to_the_next_rule_only() -> None:
    rules = "deny contains 1 if true\n\ndeny contains 2 if true\n"
    source = f"package qcos.x\n\n# METADATA\n# custom:\n#   code: a\n\n{rules}"
    assert locations("qcos/x/x.rego", source) == {"x.a": "x/x.rego:7"}


def test_limits_are_resolved_for_the_principal_and_fit_the_document() -> None:
    students = POLICIES.limits("demo", "students", "research")
    assert (students["team"]["name"], students["team"]["shots_per_day"]) == ("students", 50_000)
    assert (students["department"]["name"], students["department"]["purposes"]) == ("research", ["benchmark"])
    assert [line["always"] for line in students["department"]["hours"]] == [True]
    nobody = msgspec.convert(POLICIES.limits("demo", None, None), Limits)
    assert (nobody.team.name, nobody.department.purposes) == (None, ("*",))


def test_a_team_named_like_the_default_is_only_that() -> None:
    named, nobody = POLICIES.limits("demo", "*", None)["team"], POLICIES.limits("demo", None, None)["team"]
    assert named == nobody | {"name": "*"}


def test_tests_and_schemas_travel_with_the_rules_and_what_is_no_policy_file_stays_behind(folder: Path) -> None:
    """G2: a revision is whole: its tests can be run again when it is looked at later."""
    (folder / "README.md").write_text("x")
    (folder / ".regal").mkdir(exist_ok=True)
    (folder / ".regal/config.yaml").write_text("x")
    files = read(folder)
    assert files == read(default_folder())
    assert "schemas/input.json" in files
    assert PolicySet.of(files).tests.keys() == {path for path in files if path.endswith("_test.rego")}
    with pytest.raises(PolicyUnavailable, match=r"README\.md"):
        PolicySet.of({**files, "README.md": b"x"})
    with pytest.raises(PolicyUnavailable, match=r"x\.rego: not UTF-8"):
        PolicySet.of({**files, "qcos/x/x.rego": b"\xff"})
