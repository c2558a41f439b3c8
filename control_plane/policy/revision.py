# SPDX-License-Identifier: Apache-2.0
"""The policy files as one value: sources, data, revision, and where each rule stands.

A folder enters, a `PolicySet` leaves; both engines are given exactly this, and `revision` is a hash over
every byte that can change a decision, so that a decision names the rules that made it. Tests and schemas are
no part of it. Reads files; opens nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from control_plane.policy.decision import PolicyUnavailable

ENTRYPOINT = "qcos/main/decision"
"""Path of the rule that decides, under `data`."""

_PACKAGE = re.compile(r"^package qcos\.(\w+)$", re.MULTILINE)
_CODE = re.compile(r"^#\s+code:\s*(\w+)\s*$")


class PolicySet(Struct, frozen=True):
    """`modules` and `data` by path in `folder`; `rules`: `package.code` to `package/file.rego:LINE`."""

    folder: Path
    modules: Mapping[str, str]
    data: Mapping[str, Any]
    rules: Mapping[str, str]
    revision: str

    def limits(self, project: str, team: str | None, department: str | None) -> dict[str, object]:
        """The slice of `data/limits.json` that goes into an input document as `limits`.

        Resolved here and not in Rego: a rule that falls back to a default when a key is missing would turn a
        lost key into an allow (I5). Project values go before the plane's.
        """
        held: dict[str, Any] = dict(self.data["limits"]["default"])
        held.update(self.data["limits"]["projects"].get(project, {}))
        shots = held.pop("team_shots_per_day")
        purposes = held.pop("purposes_by_department")
        held["team"] = {"name": team, "shots_per_day": shots.get(team, shots["*"])}
        held["department"] = {"name": department, "purposes": purposes.get(department, purposes["*"])}
        return held


def default_folder() -> Path:
    """The policies that this installation ships."""
    import policies  # a data package: not needed by those who bring their own folder

    return Path(policies.__file__).parent


def load(folder: Path | None = None) -> PolicySet:
    """Read all policy files; raises PolicyUnavailable, naming the file, if they can't be used."""
    root = folder or default_folder()
    try:
        modules = {_below(path, root): path.read_text("utf-8") for path in sorted(root.rglob("*.rego")) if _rule(path)}
        documents = {_below(path, root): path.read_bytes() for path in sorted((root / "data").glob("*.json"))}
    except (OSError, UnicodeDecodeError) as fault:
        raise PolicyUnavailable(f"the policy files can't be read: {fault}") from fault
    if not modules:
        raise PolicyUnavailable(f"no policy files below {root}")
    rules: dict[str, str] = {}
    for path, source in modules.items():
        _add(rules, locations(path, source), path)
    data: dict[str, Any] = {}
    for path, document in documents.items():
        _add(data, _document(path, document), path)
    files = {**{path: source.encode() for path, source in modules.items()}, **documents}
    return PolicySet(folder=root, modules=modules, data=data, rules=rules, revision=digest(files))


def digest(files: Mapping[str, bytes]) -> str:
    """`sha256:` over sorted lines of hash and path, as `sha256sum` prints them."""
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def locations(path: str, source: str) -> dict[str, str]:
    """Where the rules of one module stand: `package.code` of each METADATA block that has one,
    `package.allow` too.
    """
    package = _PACKAGE.search(source)
    if package is None:
        raise PolicyUnavailable(f"{path}: not a package below qcos")
    shown = path.removeprefix("qcos/")
    found: dict[str, str] = {}
    code: str | None = None
    for number, line in enumerate(source.splitlines(), start=1):
        if line == "# METADATA":
            code = None
        elif match := _CODE.match(line):
            code = match.group(1)
        elif line and not line.startswith("#"):
            if code is not None:
                _add(found, {f"{package.group(1)}.{code}": f"{shown}:{number}"}, path)
            elif line.startswith("allow if"):
                _add(found, {f"{package.group(1)}.allow": f"{shown}:{number}"}, path)
            code = None
    return found


def _rule(path: Path) -> bool:
    return not path.name.endswith("_test.rego")


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _document(path: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as fault:
        raise PolicyUnavailable(f"{path}: {fault}") from fault
    if not isinstance(value, dict):
        raise PolicyUnavailable(f"{path}: not a JSON object")
    return value


def _add(into: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    twice = into.keys() & more.keys()
    if twice:
        raise PolicyUnavailable(f"{path}: {sorted(twice)} is there twice")
    into.update(more)
