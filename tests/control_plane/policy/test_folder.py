# SPDX-License-Identifier: Apache-2.0
"""A policy author's folder means the same to the plane as to OPA, or a line says which file doesn't (G2)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from control_plane.errors import Refused
from control_plane.policy import folder, shape
from control_plane.policy.revision import default_folder


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """A copy of the shipped policies."""
    return Path(shutil.copytree(default_folder(), tmp_path / "rules", ignore=shutil.ignore_patterns("__*")))


def _told(author: Path) -> list[str]:
    found = folder.read(author)
    return [str(fault) for fault in (*found.faults, *shape.faults(found.files))]


def test_the_shipped_policies_are_a_folder_without_a_fault(author: Path) -> None:
    assert _told(author) == []
    assert sorted(folder.read(author).files) == sorted(
        path.relative_to(author).as_posix()
        for path in author.rglob("*.*")
        if path.suffix in {".rego", ".json", ".schema"}
    )


def test_files_that_no_engine_loads_are_the_authors_own(author: Path) -> None:
    for name in ("README.md", ".hidden.json", "Makefile", "report.html"):
        (author / name).write_text("x")
    assert _told(author) == []


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("data/big.json", None, f"data/big.json:1: size: 104857600 bytes; a file has at most {shape.LARGEST_FILE}"),
        ("data/bin.json", b'{\n"a": "\0"}', "data/bin.json:2: encoding: binary: it has a NUL byte"),
        ("data/l1.json", b'{\n\n"a": "\xe9"}', "data/l1.json:3: encoding: no UTF-8: byte 0xe9"),
        (
            "qcos/quota/bom.rego",
            b"\xef\xbb\xbfpackage qcos.quota\n",
            "qcos/quota/bom.rego:1: encoding: begins with a byte order mark; save it as UTF-8 without one",
        ),
        (
            "qcos/quota/crlf.rego",
            b"package qcos.quota\n\r\n",
            "qcos/quota/crlf.rego:2: encoding: a carriage return; lines end by \\n alone",
        ),
        (
            "qcos/quota/none.rego",
            b"# nothing\n",
            "qcos/quota/none.rego:1: package: states no package; here it is qcos.quota",
        ),
        (
            "qcos/quotas/shots.rego",
            b"# a copy\npackage qcos.quota\n",
            (
                "qcos/quotas/shots.rego:2: package: package qcos.quota is that of qcos/quota/shots.rego already; "
                "here it is qcos.quotas"
            ),
        ),
        (
            "qcos/access/admin.rego",
            b"package system.authz\n",
            "qcos/access/admin.rego:1: package: package system.authz stands in another folder; here it is qcos.access",
        ),
        (
            "data/torn.json",
            b'{\n  "a": 1,\n',
            "data/torn.json:3: json: Expecting property name enclosed in double quotes, at column 1",
        ),
        ("data/list.json", b"[]", "data/list.json:1: json: not an object"),
        ("data/nan.json", b'{"a": NaN}', "data/nan.json:1: json: NaN is no number of JSON"),
        ("data/twice.json", b'{"a": 1,\n"a": 2}', 'data/twice.json:2: json: the key "a" stands twice'),
        ("data/deep.json", b'{"a":' * 101 + b"1" + b"}" * 101, "data/deep.json:1: json: nested deeper than 100"),
        (
            "data/more.json",
            b'{\n"limits": {}}',
            'data/more.json:2: json: the key "limits" is that of data/limits.json already',
        ),
        (
            "data/a.yaml",
            b"a: 1\n",
            "data/a.yaml:1: place: OPA would load it and the plane would not take it: rules are .rego, data is .json",
        ),
        (
            "qcos/quota/limits.json",
            b"{}",
            (
                "qcos/quota/limits.json:1: place: data stands in data/FILE.json, a schema below schemas/; "
                "OPA would read this one as data of its own"
            ),
        ),
        (
            "schemas/limits.json",
            b"{}",
            (
                "schemas/limits.json:1: place: "
                "a schema beside input.json ends in .schema: opa test would load two .json as data that clash"
            ),
        ),
        ("main.rego", b"package qcos.main\n", "main.rego:1: place: rules stand in qcos/PACKAGE/FILE.rego"),
        ("data/a b.json", b"{}", "data/a b.json:1: place: a path is of plain names: letters, digits, _ . -"),
    ],
)
def test_each_unfit_file_has_its_line(author: Path, path: str, content: bytes | None, told: str) -> None:
    (author / path).parent.mkdir(exist_ok=True)
    if content is None:
        (author / path).touch()
        os.truncate(author / path, 100 * 1024 * 1024)
    else:
        (author / path).write_bytes(content)
    assert told in _told(author)


def test_a_link_out_of_the_folder_is_not_followed(author: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    (author / "data" / "secret.json").symlink_to(tmp_path / "secret.json")
    (author / "data" / "nowhere.json").symlink_to(author / "data" / "nowhere.json")
    (author / "qcos" / "elsewhere").symlink_to(tmp_path)
    found = folder.read(author)
    assert [(fault.path, fault.rule) for fault in found.faults] == [
        ("data/nowhere.json", "link"),
        ("data/secret.json", "link"),
        ("qcos/elsewhere", "link"),
    ]
    assert not any("secret" in path for path in found.files)


def test_a_link_that_stays_inside_is_a_file_like_others(author: Path) -> None:
    (author / "schemas" / "same.schema").symlink_to(author / "schemas" / "input.json")
    assert folder.read(author).faults == ()


def test_a_pipe_and_a_file_without_rights_do_not_hang_or_stop_the_rest(author: Path) -> None:
    os.mkfifo(author / "data" / "pipe.json")
    assert "data/pipe.json:1: unreadable: not a plain file" in _told(author)


def test_too_many_files_end_the_reading(author: Path) -> None:
    for number in range(shape.MOST_FILES):
        (author / "schemas" / f"s{number}.schema").write_text("{}")
    assert [fault.rule for fault in folder.read(author).faults] == ["size"]


def test_too_much_in_all_is_refused() -> None:
    files = {f"data/d{number}.json": b" " * shape.LARGEST_FILE for number in range(3)}
    assert [fault.rule for fault in shape.faults(files)] == ["size"]


@pytest.mark.parametrize(
    "path", ["../qcos/a/b.rego", "/qcos/a/b.rego", "qcos/../b.rego", "qcos/a/.rego", "qcos\\a\\b.rego"]
)
def test_a_pushed_path_never_leaves_its_folder(path: str) -> None:
    assert "place" in [fault.rule for fault in shape.faults({path: b"package qcos.a\n"})]


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_what_is_no_policy_folder_is_unusable(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty" / "docs").mkdir(parents=True)
    (tmp_path / "empty" / "docs" / "a.json").write_text("{}")
    with pytest.raises(Refused) as refused:
        folder.read(tmp_path / name)
    assert refused.value.code == "unusable_input"
