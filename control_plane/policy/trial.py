# SPDX-License-Identifier: Apache-2.0
"""Whether a set of policy files may be put in force: the one judgement behind `qcos policy check` and a push (I5).

Files enter; the `PolicySet` leaves, or faults with file, line and rule, and what this machine could not check. In
order: form (`shape`), data by its schemas (`data`), then `opa fmt` and `opa check --strict` with the schemas, and what
may be called. A later step is taken only where the earlier ones found nothing, because it would tell of their
consequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from control_plane.policy import data, dialect, shape, tools
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.fault import Fault
from control_plane.policy.revision import PolicySet, load


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
    skipped = [] if opa else ["opa fmt, opa check --strict: no opa here (make tools gets it)"]
    found = shape.faults(files) or data.faults(files)
    if found:
        return Trial(policies=None, faults=tuple(found), skipped=tuple(skipped))
    async with tools.laid(files) as folder:
        if opa:
            found = await tools.strict(opa, folder) or await tools.formatted(opa, folder)
        if not found and regal and regal_config:
            found = await tools.linted(regal, folder, regal_config)
        if found:
            return Trial(policies=None, faults=tuple(found), skipped=tuple(skipped))
        try:
            policies = load(folder)
        except PolicyUnavailable as error:
            return Trial(policies=None, faults=(_named(error, files),), skipped=tuple(skipped))
    found = [*dialect.check(policies.modules, policies.data), *dialect.check_tests(_tests(files))]
    if found:
        return Trial(policies=None, faults=tuple(found), skipped=tuple(skipped))
    return Trial(policies=policies, faults=(), skipped=tuple(skipped))


def _tests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in files.items() if path.endswith("_test.rego")}


def _named(error: PolicyUnavailable, files: Mapping[str, bytes]) -> Fault:
    """The fault of an error whose text begins with the path that it is about."""
    path, _, message = str(error).partition(": ")
    if path in files:
        return Fault(path, 1, "policy", message)
    return Fault("qcos", 1, "policy", str(error))
