# SPDX-License-Identifier: Apache-2.0
"""What the shipped policies may say against a request, read from their own METADATA: a table of docs/policies.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from control_plane.policy.revision import load

_RULE = re.compile(
    r"^# METADATA\n# title: (?P<title>.*)\n(?:#.*\n)*?#   code: (?P<name>\w+)\n"
    r"(?P<deny>deny contains (?:.|\n)*?)(?:\n\n|\Z)",
    re.MULTILINE,
)
_CODE = re.compile(r'"code": "(\w+)"|_passing\("(\w+)"|(_over\()')


class Said(NamedTuple):
    """One rule that denies."""

    package: str
    rule: str
    code: str
    title: str


def said() -> Iterator[Said]:
    """Each rule of each package, in order of the files."""
    for path, source in sorted(load().modules.items()):
        for rule in _RULE.finditer(source):
            found = _CODE.search(rule["deny"])
            if found is None:
                raise ValueError(f"{path}: {rule['name']} names no code")
            code = found[1] or found[2] or "limit_exceeded"
            yield Said(path.split("/")[1], rule["name"], code, rule["title"])


def codes() -> str:
    """By code: its level as shipped, which levels it may have, and the rules that say it."""
    levels, rules = load().data["reasons"], sorted(said(), key=lambda one: (one.code, one.package, one.rule))
    rows = [f"| `{one.code}` | {levels[one.code]} | `{one.package}.{one.rule}` | {one.title} |" for one in rules]
    return "\n".join(["| code | level | rule | says |", "|---|---|---|---|", *rows]) + "\n"
