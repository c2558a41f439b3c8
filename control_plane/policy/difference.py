# SPDX-License-Identifier: Apache-2.0
"""What differs between two revisions: files line by line, data by key (G2).

Pure. Files by path enter; `Change`s leave, in order of path. A data file that both have is told by the keys whose
values differ, so that a new layout of the same data is no difference.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

_ABSENT = object()


class KeyChange(Struct, frozen=True):
    """A value of a data file, by its keys with dots between; None where the key isn't there."""

    key: str
    before: str | None
    after: str | None


class Change(Struct, frozen=True):
    """One file that differs: `lines` as a unified diff, or the `keys` of a data file that both have."""

    path: str
    kind: Literal["added", "removed", "changed"]
    lines: tuple[str, ...] = ()
    keys: tuple[KeyChange, ...] = ()


def between(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """What has to be done to the files `before` to have those `after`."""
    return [
        _changed(path, before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _changed(path: str, before: str | None, after: str | None) -> Change:
    kind: Literal["added", "removed", "changed"] = (
        "added" if before is None else "removed" if after is None else "changed"
    )
    if kind == "changed" and path.startswith("data/"):
        try:
            keys = tuple(_keys("", json.loads(before or ""), json.loads(after or "")))
        except ValueError:
            keys = ()
        if keys:
            return Change(path, kind, keys=keys)
    old, new = (before or "").splitlines(), (after or "").splitlines()
    return Change(path, kind, lines=tuple(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", lineterm="")))


def _keys(place: str, before: Any, after: Any) -> Iterator[KeyChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{place}.{name}" if place else name
            yield from _keys(inner, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield KeyChange(place, _shown(before), _shown(after))


def _shown(value: Any) -> str | None:
    return None if value is _ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)
