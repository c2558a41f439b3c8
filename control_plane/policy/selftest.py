# SPDX-License-Identifier: Apache-2.0
"""Policies tried on sample documents before they are put in force: sound answers, nothing for nobody, something for
somebody (I5).

A `PolicySet` and a private engine enter, faults leave. Each answer is judged by the PDP as a live one would be, so that
what would be `policy_unavailable` in force is refused here. As a program it tries the policies of a folder by the
embedded engine: a rule that never ends, or brings the interpreter down, then takes only that process with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from control_plane.policy import specimen
from control_plane.policy.decision import Decision, PolicyUnavailable
from control_plane.policy.fault import Fault
from control_plane.policy.held import Held
from control_plane.policy.pdp import Engine, Pdp
from control_plane.policy.revision import PolicySet, load

TIME = "time"
"""The rule of a fault that says that a decision did not end in its time."""

_THEN = datetime(2026, 11, 18, 10, tzinfo=UTC)


async def faults(policies: PolicySet, engine: Engine) -> list[Fault]:
    """What speaks against these policies; the first thing found, because the next would be its consequence."""
    pdp = Pdp(engine, Held(policies))
    try:
        for document in specimen.nobodys(policies):
            decision = await pdp.judge(policies, document, "self-test", _THEN)
            if decision.allow:
                return [_allowed_to_nobody(policies, document)]
        first = None
        for document in specimen.ordinary(policies):
            decision = await pdp.judge(policies, document, "self-test", _THEN)
            if decision.allow:
                return []
            first = first or (document, decision)
    except PolicyUnavailable as error:
        return [_unsound(policies, str(error))]
    return [_nothing_allowed(policies, first)]


def fault_at(policies: PolicySet, package: str, message: str) -> Fault:
    """A fault of a whole package, at its rule `decision` or `check`."""
    for path, source in policies.modules.items():
        if path.startswith(f"qcos/{package}/"):
            for number, line in enumerate(source.splitlines(), start=1):
                if line.startswith(("decision :=", "check :=")):
                    return Fault(path, number, "self-test", message)
            return Fault(path, 1, "self-test", message)
    return Fault("qcos", 1, "self-test", f"{message} (there is no package qcos.{package})")


def _unsound(policies: PolicySet, said: str) -> Fault:
    """At the file that the error names, or the line where a rule's name stands that it names, or where decisions are
    put together.
    """
    told = f"no sound answer to a sample document: {said}"
    if (path := said.partition(" ")[0].removesuffix(":")) in policies.files:
        return Fault(path, 1, "self-test", told)
    if (late := "took longer" in said) or not (place := _quoting(policies, said.rpartition(" ")[2])):
        found = fault_at(policies, "main", told)
        return Fault(found.path, found.line, TIME if late else found.rule, told)
    return Fault(*place, "self-test", told)


def _quoting(policies: PolicySet, word: str) -> tuple[str, int] | None:
    for path, source in policies.modules.items():
        for number, line in enumerate(source.splitlines(), start=1):
            if f'"{word}"' in line:
                return path, number
    return None


def _allowed_to_nobody(policies: PolicySet, document: dict[str, Any]) -> Fault:
    job = document["job"]
    told = f"a principal without any role may submit: purpose {job['purpose']}, classification {job['classification']}"
    return fault_at(policies, "access", told)


def _nothing_allowed(policies: PolicySet, first: tuple[dict[str, Any], Decision] | None) -> Fault:
    if first is None:
        return fault_at(policies, "main", "the vocabulary leaves nobody and nothing to try")
    document, decision = first
    reason = decision.reasons[0]
    role, purpose = document["principal"]["roles"][0], document["job"]["purpose"]
    told = f"nothing that was tried is allowed to anybody; {role} for {purpose}, one shot: {reason.message}"
    path, _, line = reason.rule.rpartition(":")
    return Fault(f"qcos/{path}", int(line), "self-test", told)


async def _main(folder: Path, limit_s: float) -> None:
    from control_plane.policy.embedded import EmbeddedEngine

    policies = load(folder)
    engine = EmbeddedEngine(limit_s)
    try:
        await engine.ready(policies)
        found = await faults(policies, engine)
    except PolicyUnavailable as error:
        found = [fault_at(policies, "main", str(error))]
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.flush()
    os._exit(0)  # a rule that never ends holds its thread for ever


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), float(sys.argv[2])))
