# SPDX-License-Identifier: Apache-2.0
"""No policy that would answer unsoundly, never, to nobody or not at all is put in force; a line says why (G2, I5)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from control_plane.policy import selftest, trial
from control_plane.policy.choice import find_opa
from control_plane.policy.revision import default_folder, load, read

OPA = find_opa(None)
SHIPPED = read(default_folder())
QUOTA, ACCESS, LIMITS = "qcos/quota/shots.rego", "qcos/access/roles.rego", "data/limits.json"
TEN = "\n".join(f"\tsome {name} in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for name in "abcdefgh")
LOOPS = f"\n_slow := {{[a, b, c, d, e, f, g, h] |\n{TEN}\n}}\n"

needs_opa = pytest.mark.skipif(OPA is None, reason="no opa; make tools gets it")
each_engine = pytest.mark.parametrize(
    "opa", [pytest.param(OPA, marks=needs_opa, id="opa"), pytest.param(None, id="embedded")]
)


def changed(path: str, old: str, new: str) -> dict[str, bytes]:
    """The shipped files with one text replaced."""
    source = SHIPPED[path].decode()
    assert old in source
    return {**SHIPPED, path: source.replace(old, new).encode()}


async def refusal(files: Mapping[str, bytes], opa: Path | None) -> str:
    """The first fault's line, and that there are no policies beside it."""
    policies, faults = await trial.judge(files, opa)
    assert policies is None
    return str(faults[0])


@each_engine
async def test_the_shipped_policies_pass(opa: Path | None) -> None:
    found = await trial.examine(SHIPPED, opa)
    assert found.faults == ()
    assert found.policies is not None
    assert found.policies.revision == load().revision
    assert bool(found.skipped) == (opa is None)


@each_engine
async def test_what_is_allowed_to_nobody_is_refused(opa: Path | None) -> None:
    source = SHIPPED[ACCESS].decode().replace("default allow := false", "default allow := true")
    source = source.replace("deny contains", "gone contains").replace("deny == set()", "gone == set()")
    told = await refusal({**SHIPPED, ACCESS: (source + "\ndeny := set()\n").encode()}, opa)
    assert "self-test: a principal without any role may submit" in told


@each_engine
async def test_policies_that_allow_nothing_are_refused_with_the_rule_that_denies(opa: Path | None) -> None:
    told = await refusal(changed(LIMITS, '"max_qubits": 1024', '"max_qubits": 0'), opa)
    assert told.startswith("qcos/constraints/constraints.rego:")
    assert "nothing that was tried is allowed to anybody; quantum-engineer" in told
    assert "at most 0 qubits a job" in told


@each_engine
async def test_a_forbidden_built_in_is_named_with_its_line(opa: Path | None) -> None:
    told = await refusal(
        changed(ACCESS, "member if roles != set()\n", 'member if {\n\thttp.send({"url": "x"})\n}\n'), opa
    )
    assert told.startswith(ACCESS)
    assert "http.send asks the network" in told


@each_engine
async def test_limits_of_another_shape_are_refused_by_file(opa: Path | None) -> None:
    for new in ('"max_qubits": "many"', '"more_qubits": 7'):
        assert (await refusal(changed(LIMITS, '"max_qubits": 1024', new), opa)).startswith(LIMITS)
    assert (await refusal({**SHIPPED, LIMITS: b"{}"}, opa)).startswith(LIMITS)


@each_engine
async def test_an_answer_of_another_shape_is_refused_where_it_is_made(opa: Path | None) -> None:
    line = (
        SHIPPED[QUOTA]
        .decode()
        .splitlines()
        .index(next(x for x in SHIPPED[QUOTA].decode().splitlines() if '"quota.allow"' in x))
    )
    assert (await refusal(changed(QUOTA, '"quota.allow"', '"quota.alow"'), opa)).startswith(
        f"{QUOTA}:{line + 1}: self-test: "
    )


@needs_opa
@pytest.mark.parametrize(
    ("files", "told"),
    [
        (changed(QUOTA, "allow if {", "allow if {{"), "rego_parse_error: "),
        (
            changed(QUOTA, 'kept contains "team" if {', 'kept contains "team" if {\n\tnothing'),
            "rego_unsafe_var_error: ",
        ),
        (changed(QUOTA, "input.limits.max_windows", "input.limits.max_window"), "rego_type_error: "),
        (changed(QUOTA, "default because", "a if b\n\nb if a\n\ndefault because"), "rego_recursion_error: "),
        (changed(QUOTA, "default allow :=", "default  allow :="), "opa-fmt: "),
    ],
    ids=["syntax", "unsafe", "schema", "recursion", "format"],
)
async def test_what_opa_refuses_has_its_line(files: dict[str, bytes], told: str) -> None:
    said = await refusal(files, OPA)
    path, line, rest = said.split(":", 2)
    assert (path, rest.strip().startswith(told)) == (QUOTA, True), said
    assert int(line) > 1


@needs_opa
async def test_a_rule_that_does_not_end_is_found_in_time_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "DECISION_LIMIT_S", 0.5)
    slow = changed(QUOTA, "\tdeny == set()\n", "\tcount(_slow) > 7\n\tdeny == set()\n")
    told = await refusal({**slow, QUOTA: slow[QUOTA] + LOOPS.encode()}, OPA)
    assert told.startswith(f"{QUOTA}:")
    assert "time: a decision takes longer than 0.5 s, because of package qcos.quota" in told


async def test_without_opa_a_rule_that_does_not_end_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_EMBEDDED_LIMIT_S", 0.5)
    slow = changed(QUOTA, "\tdeny == set()\n", "\tcount(_slow) > 7\n\tdeny == set()\n")
    told = await refusal({**slow, QUOTA: slow[QUOTA] + LOOPS.encode()}, None)
    assert "took longer than 0.5 s" in told


@needs_opa
async def test_an_opa_that_fails_is_a_fault_and_not_a_pass(tmp_path: Path) -> None:
    broken = tmp_path / "opa"
    shutil.copy("/bin/false", broken)
    assert (await refusal(SHIPPED, broken)).startswith("qcos:1: opa-check: opa check failed with 1")


def test_a_fault_of_a_package_that_is_not_there_still_has_a_line() -> None:
    assert str(selftest.fault_at(load(), "nowhere", "x")).startswith("qcos:1: self-test: x")
