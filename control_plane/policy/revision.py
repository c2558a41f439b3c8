# SPDX-License-Identifier: Apache-2.0
"""The policy files as one value: sources, data, revision, and where each rule stands.

Files enter, a `PolicySet` leaves; both engines are given exactly this. `revision` is a hash over every byte that can
change a decision, so that a decision names the rules that made it; tests and schemas travel with it and are no part of
that hash. `PolicySet.of` is pure; `read` and `load` read files, and nothing else is opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.limits import LimitsInvalid, resolve

ENTRYPOINT = "qcos/main/decision"
"""Path of the rule that decides, under `data`."""

_PACKAGE = re.compile(r"^package qcos\.(\w+)$", re.MULTILINE)
_CODE = re.compile(r"^#\s+code:\s*(\w+)\s*$")


class PolicySet(Struct, frozen=True):
    """`modules` and `tests` by path, `data` by key; `rules`: `package.code` to `package/file.rego:LINE`.

    `files` is all of it as it came in: rules, data, tests and schemas.
    """

    modules: Mapping[str, str]
    data: Mapping[str, Any]
    rules: Mapping[str, str]
    revision: str
    tests: Mapping[str, str]
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> PolicySet:
        """The set of these files by path; raises PolicyUnavailable, naming the file, if they can't be used."""
        texts: dict[str, str] = {}
        rules: dict[str, str] = {}
        data: dict[str, Any] = {}
        for path, content in sorted(files.items()):
            kind = kind_of(path)
            if kind in {"rule", "test"}:
                texts[path] = _text(path, content)
            if kind == "rule":
                _add(rules, locations(path, texts[path]), path)
            elif kind == "data":
                _add(data, _document(path, content), path)
            elif kind is None:
                raise PolicyUnavailable(f"{path}: neither a rule, a test, data nor a schema")
        modules = {path: source for path, source in texts.items() if kind_of(path) == "rule"}
        if not modules:
            raise PolicyUnavailable("no policy files")
        return cls(
            modules=modules,
            data=data,
            rules=rules,
            revision=digest({path: files[path] for path in files if decides(path)}),
            tests={path: source for path, source in texts.items() if path not in modules},
            files=dict(files),
        )

    def limits(
        self, project: str, team: str | None, department: str | None, tenant: str | None = None
    ) -> dict[str, Any]:
        """The slice of `data/limits.json` that goes into an input document as `limits`."""
        try:
            return resolve(self.data.get("limits"), project, team, department, tenant)
        except LimitsInvalid as fault:
            raise PolicyUnavailable(f"data/limits.json has another shape: {fault.reason}") from fault


def default_folder() -> Path:
    """The policies that this installation ships."""
    import policies  # a data package: not needed by those who bring their own folder

    return Path(policies.__file__).parent


def load(folder: Path | None = None) -> PolicySet:
    """The set of a folder's files; raises PolicyUnavailable, naming the file, if they can't be used."""
    return PolicySet.of(read(folder or default_folder()))


def read(folder: Path) -> dict[str, bytes]:
    """The policy files below a folder, by path; what is none (a README, a linter's settings) is left out."""
    try:
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {path: file.read_bytes() for path, file in found.items() if kind_of(path) is not None}
    except OSError as fault:
        raise PolicyUnavailable(f"the policy files can't be read: {fault}") from fault
    if not files:
        raise PolicyUnavailable(f"no policy files below {folder}")
    return files


def kind_of(path: str) -> Literal["rule", "test", "data", "schema"] | None:
    """What a file is, by its path alone; None where it is no policy file."""
    match path.split("/"):
        case ["data", name] if name.endswith(".json"):
            return "data"
        case ["schemas", *_, name] if name.endswith((".json", ".schema")):
            return "schema"
        case [*folders, name] if folders and name.endswith(".rego"):
            return "test" if name.endswith("_test.rego") else "rule"
        case _:
            return None


def decides(path: str) -> bool:
    """Whether the file's bytes can change a decision: these are what the revision is a hash of."""
    return kind_of(path) in {"rule", "data"}


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


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        raise PolicyUnavailable(f"{path}: not UTF-8") from fault


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
