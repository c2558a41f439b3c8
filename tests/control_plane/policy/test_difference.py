# SPDX-License-Identifier: Apache-2.0
"""What differs between two revisions: rules by line, data by key (G2)."""

from __future__ import annotations

from control_plane.policy.difference import Change, KeyChange, between

BEFORE = {
    "data/limits.json": '{"limits": {"default": {"max_shots": 10, "flag": true}, "projects": {"a": {"max_shots": 1}}}}',
    "qcos/a/a.rego": "package qcos.a\n\nallow if input.x == 1\n",
    "qcos/b/b.rego": "package qcos.b\n",
}


def test_data_is_told_by_key_and_rules_by_line() -> None:
    after = {
        "data/limits.json": '{"limits": {"projects": {"b": {"max_shots": 1}}, "default": {"flag": 1, "max_shots": 7}}}',
        "qcos/a/a.rego": "package qcos.a\n\nallow if input.x == 2\n",
        "qcos/c/c.rego": "package qcos.c\n",
    }
    found = {change.path: change for change in between(BEFORE, after)}
    assert [(path, change.kind) for path, change in found.items()] == [
        ("data/limits.json", "changed"),
        ("qcos/a/a.rego", "changed"),
        ("qcos/b/b.rego", "removed"),
        ("qcos/c/c.rego", "added"),
    ]
    assert found["data/limits.json"].keys == (
        KeyChange("limits.default.flag", "true", "1"),
        KeyChange("limits.default.max_shots", "10", "7"),
        KeyChange("limits.projects.a", '{"max_shots": 1}', None),
        KeyChange("limits.projects.b", None, '{"max_shots": 1}'),
    )
    assert found["qcos/a/a.rego"].lines[-2:] == ("-allow if input.x == 1", "+allow if input.x == 2")
    assert found["qcos/c/c.rego"].lines[-1] == "+package qcos.c"


def test_equal_files_differ_in_nothing_and_a_new_layout_is_shown_as_one() -> None:
    assert between(BEFORE, dict(BEFORE)) == []
    (change,) = between({"data/a.json": '{"a": 1}'}, {"data/a.json": '{ "a": 1 }'})
    lines = ("--- a/data/a.json", "+++ b/data/a.json", "@@ -1 +1 @@", '-{"a": 1}', '+{ "a": 1 }')
    assert change == Change("data/a.json", "changed", lines=lines)
