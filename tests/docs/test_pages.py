# SPDX-License-Identifier: Apache-2.0
"""What the pages say can be followed: links lead somewhere, commands exist, decisions are numbered and complete."""

import contextlib
import io
import re
import shlex
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from control_plane.cli import build

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text outside fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_lines(page: Path) -> list[str]:
    """Each command line of a page's `sh` blocks, continued lines joined, comments off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def commands(line: str, program: str) -> list[list[str]]:
    """The arguments of each call of `program` in a line, also inside `$( )` and after `|` or a variable."""
    calls = re.findall(rf"(?:^|[|;&(]\s*|^\w+=\S+ ){program}( [^|;&)]*)?", line)
    return [shlex.split(call) for call in calls]


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{file} has no heading {anchor}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_exist(page: Path) -> None:
    parser = build()
    for line in shell_lines(page):
        for arguments in commands(line, "qcos"):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                parser.parse_args([word for word in arguments if not word.startswith((">", "2>"))])


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for line in shell_lines(page):
        for arguments in commands(line, "make"):
            assert {word for word in arguments if "=" not in word} <= targets, line  # VARIABLE=value is no target
    assert set(re.findall(r"`make ([a-z-]+)`", prose(page))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_page_installs_a_strangers_package(page: Path) -> None:
    """`qcos` on the public index is a stranger's."""
    assert not re.search(
        r"(pip|pipx|uv)\S* (install|add|run)[^\n]*\bqcos\b(?!-plane)", page.read_text(encoding="utf-8")
    )


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DECISIONS if page.name not in listed] == []


@pytest.mark.parametrize("page", DECISIONS, ids=by_name)
def test_a_decision_says_context_choice_and_consequence(page: Path) -> None:
    headings = re.findall(r"^## (\w+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]


def test_every_dependency_has_its_reason() -> None:
    """A dependency without a line in the decision that lists them is one that nobody decided on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[<>=!~ ]", dependency)[0] for dependency in asked}
    listed = set(re.findall(r"^\| `([^`]+)` \|", DECISIONS[0].read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert names == listed


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "img").glob("*.svg")), ids=by_name)
def test_a_picture_is_well_formed_and_says_what_it_shows(picture: Path) -> None:
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    names = {element.tag.rpartition("}")[2] for element in root}
    assert {"title", "desc"} <= names
