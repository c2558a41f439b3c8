# SPDX-License-Identifier: Apache-2.0
"""Whether a set of policy files may be put in force: the one judgement behind `qcos policy check` and a push (I5).

Files enter; the `PolicySet` leaves, or faults with file, line and rule, and what this machine could not check. In
order: form (`shape`), data by its schemas (`data`), `opa check --strict` with the schemas, `opa fmt`, regal where it is
given, the dialect, and the self-test on an engine of its own. A later step is taken only where the earlier ones found
nothing, because it would tell of their consequences. Nothing here touches what the plane decides by.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from control_plane.policy import data, dialect, private, selftest, shape, specimen, tools
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.fault import Fault
from control_plane.policy.revision import PolicySet, default_folder, read

DECISION_LIMIT_S = 5.0
"""For one decision of the self-test; a live one takes a thousandth of this."""

_CPU_S = 2
"""For one package, where a decision took too long: of the processor's time, which a busy machine doesn't use up."""

_EMBEDDED_LIMIT_S = 5.0
_INPUT = "schemas/input.json"
_WITHOUT_OPA = "opa fmt, opa check --strict: no opa here (make tools gets it); the self-test ran on the embedded engine"


class Judgement(NamedTuple):
    """`policies` is None where there are faults."""

    policies: PolicySet | None
    faults: tuple[Fault, ...]


class Trial(Struct, frozen=True):
    """The judgement, and what could not be checked here and why."""

    policies: PolicySet | None
    faults: tuple[Fault, ...]
    skipped: tuple[str, ...] = ()


async def judge(files: Mapping[str, bytes], opa: Path | None) -> Judgement:
    """Judge the files of a revision; without `opa` by the embedded engine alone."""
    found = await examine(files, opa)
    return Judgement(found.policies, found.faults)


async def examine(
    files: Mapping[str, bytes], opa: Path | None, regal: Path | None = None, regal_config: Path | None = None
) -> Trial:
    """As `judge`, with regal where it is given, saying what was skipped."""
    skipped = () if opa else (_WITHOUT_OPA,)
    try:
        found = shape.faults(files) or data.faults(files) or await _linted(files, opa, regal, regal_config)
        policies = None if found else PolicySet.of(files)
        if policies is not None:
            found = [*dialect.check(policies.modules, policies.data), *dialect.check_tests(policies.tests)]
            found = found or await _tried(policies, opa)
    except PolicyUnavailable as error:
        found = [_named(error, files)]
    return Trial(policies=None if found else policies, faults=tuple(found), skipped=skipped)


async def _linted(
    files: Mapping[str, bytes], opa: Path | None, regal: Path | None, regal_config: Path | None
) -> list[Fault]:
    if not (opa or regal):
        return []
    # The document that the plane gives to rules is what it is, whatever schema of it a set brings.
    shipped = {path: content for path, content in read(default_folder()).items() if path.startswith("schemas/")}
    async with tools.laid({**shipped, **files, _INPUT: shipped[_INPUT]}) as folder:
        found = []
        if opa:
            found = await tools.strict(opa, folder) or await tools.formatted(opa, folder)
        if regal and regal_config and not found:
            found = await tools.linted(regal, folder, regal_config)
        return found


async def _tried(policies: PolicySet, opa: Path | None) -> list[Fault]:
    """The self-test, where nothing that it does can harm this process."""
    async with tools.laid(policies.files) as folder:
        if opa is None:
            return await _tried_embedded(policies, folder)
        async with private.opened(policies, opa, DECISION_LIMIT_S) as engine:
            found = await selftest.faults(policies, engine)
        late = any(fault.rule == selftest.TIME for fault in found)
        return (late and await _slow(policies, opa, folder)) or found


async def _tried_embedded(policies: PolicySet, folder: Path) -> list[Fault]:
    command: list[str | Path] = [sys.executable, "-m", selftest.__name__, folder, str(_EMBEDDED_LIMIT_S)]
    # No memory limit: regopy's allocator reserves more than there is, and starts under none.
    done = await tools.run(command, folder, memory=None)
    try:
        return msgspec.json.decode(done.out, type=list[Fault])
    except ValueError:
        how = f"took longer than {tools.CPU_S} s of work" if done.timed_out else f"ended the engine with {done.code}"
        return [selftest.fault_at(policies, "main", f"the self-test {how}")]


async def _slow(policies: PolicySet, opa: Path, folder: Path) -> list[Fault]:
    """Which package is it that takes longer than a decision may?"""
    names = sorted({path.split("/")[1] for path in policies.modules} - {"main"})
    for made in (next(specimen.nobodys(policies)), next(specimen.ordinary(policies))):
        for name in names:
            command = [str(opa), "eval", "--stdin-input", "--data", ".", "--ignore", "schemas", f"data.qcos.{name}"]
            done = await tools.run(command, folder, stdin=msgspec.json.encode(made), cpu_s=_CPU_S)
            if done.timed_out:
                told = f"a decision takes longer than {DECISION_LIMIT_S:g} s, because of package qcos.{name}"
                found = selftest.fault_at(policies, name, told)
                return [Fault(found.path, found.line, selftest.TIME, found.message)]
    return []


def _named(error: PolicyUnavailable, files: Mapping[str, bytes]) -> Fault:
    """The fault of an error whose text begins with the path that it is about."""
    path = str(error).partition(" ")[0].removesuffix(":")
    if path in files:
        return Fault(path, 1, "policy", str(error).removeprefix(path).lstrip(": "))
    return Fault("qcos", 1, "policy", str(error))
