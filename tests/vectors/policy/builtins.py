# SPDX-License-Identifier: Apache-2.0
"""Makes `builtins.json`, what a real OPA answers of each case of the dialect; or hunts for what engines disagree on.

`python -m tests.vectors.policy.builtins` writes the file; with `--hunt 2000` so many arguments a case go to both
engines and the disagreements are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from control_plane.policy import private
from control_plane.policy.embedded import EmbeddedEngine
from tests.control_plane.policy.opa_server import OPA
from tests.control_plane.policy.parity import CASES, POLICIES, said

GOLDEN = Path(__file__).with_name("builtins.json")
_EACH = 12
_SEED = 20261121


async def golden() -> dict[str, list[Any]]:
    """Arguments and OPA's answer, by case; of each kind of answer at least one where there is one."""
    made: dict[str, list[Any]] = {}
    async with private.opened(POLICIES, OPA) as engine:
        for name, case in CASES.items():
            random = Random(_SEED)
            given = [case.arguments(random) for _ in range(_EACH)]
            made[name] = [[arguments, await said(engine, name, arguments)] for arguments in given]
    return made


async def hunt(cases: int, seed: int, names: list[str]) -> int:
    """How many disagreements were found."""
    found = 0
    embedded = EmbeddedEngine()
    async with private.opened(POLICIES, OPA) as engine:
        for name, case in CASES.items():
            if names and name not in names:
                continue
            random = Random(seed)
            bad = []
            for _ in range(cases):
                arguments = case.arguments(random)
                answers = await said(engine, name, arguments), await said(embedded, name, arguments)
                if answers[0] != answers[1]:
                    bad.append((len(str(arguments)), f"  {arguments!a}: OPA {answers[0]!a}, embedded {answers[1]!a}\n"))
            sys.stdout.write(f"{name}: {len(bad)} of {cases}\n" + "".join(line for _, line in sorted(bad)[:4]))
            found += len(bad)
    await embedded.close()
    return found


def main() -> int:
    """Write the file, or hunt."""
    parser = argparse.ArgumentParser(prog="python -m tests.vectors.policy.builtins")
    parser.add_argument("--hunt", type=int, metavar="CASES")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.hunt:
        return 1 if asyncio.run(hunt(arguments.hunt, arguments.seed, arguments.names)) else 0
    rows = asyncio.run(golden())
    lines = [f"{json.dumps(name)}: [\n{_lines(cases)}\n]" for name, cases in rows.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return 0


def _lines(cases: list[Any]) -> str:
    return ",\n".join(json.dumps(case, ensure_ascii=True, sort_keys=True) for case in cases)


if __name__ == "__main__":
    sys.exit(main())
