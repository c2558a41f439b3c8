# SPDX-License-Identifier: Apache-2.0
"""`qcos policy …`: the commands of those who write the rules, each family a module `_policy_NAME` beside this one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def register(groups: Any) -> None:
    """Add the commands."""
    policy = groups.add_parser("policy", help="write, check, test, push and explain the rules").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    for path in sorted(Path(__file__).parent.glob("_policy_*.py")):
        importlib.import_module(f"control_plane.commands.{path.stem}").register(policy)
