# SPDX-License-Identifier: Apache-2.0
"""Policies are written in the dialect or told where they aren't, by file, line and rule; texts and comments are no
code, and no way of writing a call hides it (G2, I5).
"""

from __future__ import annotations

import pytest

from control_plane.policy import dialect
from control_plane.policy.revision import load

HEAD = "package qcos.x\n\n"
DATA: dict[str, object] = {"vocabulary": {"purposes": []}}


def faults(source: str, **others: str) -> list[str]:
    modules = {"qcos/x/x.rego": HEAD + source} | {f"qcos/{name}/{name}.rego": text for name, text in others.items()}
    return [str(fault) for fault in dialect.check(modules, DATA)]


def test_the_shipped_policies_and_tests_are_written_in_it() -> None:
    policies = load()
    assert dialect.check(policies.modules, policies.data) == ()
    assert len(policies.tests) > 8
    assert dialect.check_tests(policies.tests) == ()


def test_a_fault_names_file_line_and_rule() -> None:
    source = "# METADATA\n# title: x\ndeny contains m if {\n\tm := http.send({}).body\n}\n"
    assert faults(source) == ["qcos/x/x.rego:6: dialect: x.deny: http.send asks the network"]


@pytest.mark.parametrize(
    "source",
    [
        'a := "http.send(1)" # eval(2)',
        'a := `\nhttp.send(1) $"{x}" \\`',
        'a := "\\"http.send(1)\\""',
        "# http.send({}) with input as 1\na := 1",
        'a := {"http.send": 1}["http.send"]',
        "a if every x in [1] { x == 1 }".replace("every", "{\nevery").replace("}", "}\n}"),
        "f(x) := y if y := x\n\na := f(f(1))",
        "default f(_) := 0\n\nf(x) := x if x\n\na := f(\n\t1,\n)",
        "a contains x if some x in input.count",
        "a if {\n\tinput.x | {1} == {2}\n\tsome k, v in input.y\n\tk == v\n}",
        "a := {k: v | some k, v in input.x}",
        "a := [[k, f(k, 1)] | some k in input.x]\n\nf(x, y) := {x, y} | {1, 2}",
        "a := {1 | every k, v in input.x { k == v }}",
        "a if every k, v in input.x {\n\tb := {1} | {2}\n\tsome i, j in b\n\ti == j\n}".replace(
            "if every", "if {\nevery"
        )
        + "\n}",
        "a if regex.match(`^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$`, input.x)",
        "a if regex.match(`^(eu|us)-[a-z]+-\\d{1,2}\\.x?$`, input.x)",
        "a := format_int(input.x + 1, 10)",
        "a := concat(`, `, sort({`a`, `b`}))",
        "a := input.http.send",
        "a := [x | some x in (input.a | {1})]",
        "a if not (input.x)",
        "a := data.data.vocabulary.purposes[0]",
        'import data.data.vocabulary\n\na := vocabulary["purposes"]',
        "import rego.v1\n\na := 1",
        "import input.job as asked\n\na := asked.shots",
        "a := set() | {count([1])}",
        'a := "é 🎈 \\u0000 \\ud83d\\ude00"',
        "a := b if {\n\tb := true\n}\n\nc := null\n\nd := a",
    ],
)
def test_what_is_in_the_dialect(source: str) -> None:
    assert faults(source + "\n") == []


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("a := http.send({})", 3, "asks the network"),
        ("a := http\n\t.send({})", 4, "dot"),
        ('a := http["send"]({})', 3, "with dots"),
        ("a := http . send({})", 3, "dot"),
        ("a := count # x\n([1])", 4, "bracket"),
        ("a if {\n\tinput.x\n\t(1 | 2) == 3\n}", 5, "bracket"),
        ("a if {\n\tinput.x[0]\n\t[1][0] == 3\n}", 5, "bracket"),
        ("a := b[0](1)", 3, "bracket"),
        ("a := y if y := count([1]) with count as startswith", 3, "another document"),
        ('a if input.x with input as {"x": 1}', 3, "another document"),
        ("a if input.x with http.send as f", 3, "another document"),
        ('a := $"{http.send({})}"', 3, "template"),
        ('a := $"{http.send({}', 3, "template"),
        ("a := $`{http.send({})}`", 3, "template"),
        ("import future.keywords.not\n\na := 1", 3, "imported"),
        ("import data.system\n\na := system.log", 3, "data"),
        ("a := data.system.version", 3, "data"),
        ("a := data", 3, "data"),
        ("a := data[input.x]", 3, "data"),
        ('a := data["system"].x', 3, "data"),
        ("a := data.qcos[input.x].deny", 3, "data"),
        ("a := data.qcos.y.deny", 3, "no package qcos.y"),
        ("a := data.qcos.x.nothing", 3, "no rule nothing"),
        ("a := data.qcos.x", 3, "not all of it"),
        ("a := data.data.nothing", 3, "no file"),
        ("import data.qcos.nothing\n\na := 1", 3, "no package"),
        ("a := opa.runtime()", 3, "environment"),
        ("a := time.now_ns()", 3, "clock"),
        ("a := rand.intn(`x`, 3)", 3, "chance"),
        ("a if print(1)", 3, "outside of the answer"),
        ("a := [p | walk(input, [p, _])]", 3, "order"),
        ("a := sprintf(`%s`, [1])", 3, "concat"),
        ("a := max([1])", 3, "999"),
        ("a := object.subset(input, {})", 3, "process"),
        ("a := json.unmarshal(`1`)", 3, "no built-in of the dialect"),
        ("a := input.x / 2", 3, "rounds"),
        ("a if input.x % 2 == 0", 3, "rounds"),
        ('a if input.x < "b"', 3, "numbers"),
        ('a if "b" >= input.x', 3, "numbers"),
        ("a := format_int(input.x, 16)", 3, "base 10"),
        ("a := concat(`,`, {`a`, `b`})", 3, "list"),
        ("a if regex.match(input.x, input.y)", 3, "written out"),
        *(
            (f"a if regex.match(`{x}`, input.y)", 3, "simpler")
            for x in ("a.b", "[^a]", "(?i)a", "\\s", "{x}", "(a", "a**")
        ),
        ("a := [k | some k, v in input.x]", 3, "comma"),
        ("a := {k |\n\tinput.y\n\tsome k, v in input.x\n}", 5, "comma"),
        ("a := count({1 | 0, 1 in input.x})", 3, "comma"),
        ("a := nothing_such(1)", 3, "no built-in of the dialect"),
        ("a := rego.metadata.rule()", 3, "unknown"),
        ("a := rego.metadata", 3, "no value"),
        ("a := http.send", 3, "no value"),
        ("count(x) := x\n\na := count(1)", 3, "Rego has already"),
        ("http := input\n\na := 1", 3, "Rego has already"),
        ("a if some data in [1]", 3, "Rego has already"),
        ("f([input, b]) := b", 3, "Rego has already"),
        ("a := 1.5", 3, "whole number"),
        ("a := 1e3", 3, "whole number"),
        ("a := 0x10", 3, "whole number"),
        ("a := 007", 3, "whole number"),
        ("a if every x in [1] { x == 1 }", 3, "every"),
        ("é := 1", 3, "no part of Rego"),
        ("a := 1\r", 3, "U+000D"),
        ("a := \x00 1", 3, "U+0000"),
        ('a := "x', 3, "without an end"),
        ("a := `x", 3, "without an end"),
        ('a := "\\x41"', 3, "JSON text"),
        ('a := "\\ud800"', 3, "JSON text"),
        ("a := [1", 3, "no end"),
        ("a := 1]", 3, "closes nothing"),
        ("a := " + "[" * 70 + "]" * 70, 3, "deep"),
        ("p.f(x) := x", 3, "one word"),
        ("import data.qcos.x as y\nimport data.data.vocabulary as y\n\na := 1", 4, "two imports"),
        ("import data.data.vocabulary\n\nf(vocabulary) := vocabulary", 5, "hides"),
    ],
)
def test_what_is_not(source: str, line: int, what: str) -> None:
    found = faults(source + "\n")
    assert any(f"x.rego:{line}: " in fault and what in fault for fault in found), found


def test_an_imported_package_is_read_by_its_rules_alone() -> None:
    other = "package qcos.y\n\nf(x) := x\n\nr := 1\n"
    assert faults("import data.qcos.y\n\na := y.f(y.r)\n", y=other) == []
    assert faults("import data.qcos.y as z\n\na := z.f(data.qcos.y.r)\n", y=other) == []
    assert "is no function" in faults("import data.qcos.y\n\na := y.r(1)\n", y=other)[0]
    assert "has no rule s" in faults("import data.qcos.y\n\na := y.s\n", y=other)[0]
    assert "not all of it" in faults("import data.qcos.y\n\na := y\n", y=other)[0]


def test_a_package_of_another_place_is_none() -> None:
    modules = {"qcos/x/x.rego": "package system\n\na := 1\n"}
    assert [str(fault) for fault in dialect.check(modules, {})] == [
        "qcos/x/x.rego:1: dialect: a package is called qcos.NAME"
    ]


def test_tests_may_call_what_they_like_but_what_reaches_out() -> None:
    source = "package qcos.x_test\n\ntest_a if json.patch({}, []) == {} with input as {}\n\ntest_b if %s\n"
    assert dialect.check_tests({"x_test.rego": source % "walk({}, [1, 2])"}) == ()
    for call in ("http.send({})", 'http["send"]({})', '$"{http.send({})}"', "opa.runtime().env", "http.send"):
        found = dialect.check_tests({"x_test.rego": source % call})
        assert [str(fault).partition("test_b: ")[0] for fault in found] == ["x_test.rego:5: dialect: x_test."], call
