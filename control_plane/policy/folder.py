# SPDX-License-Identifier: Apache-2.0
"""A policy author's folder, read: the files of a revision by path, and what may not lie there.

Only `qcos/*/*.rego`, `data/*.json` and what stands below `schemas` belong to a revision; hidden files, and what no
engine would load, are the author's own. What OPA would load by itself and the plane would not take (YAML, data
elsewhere) is a fault: the same folder must mean the same to both. A link that leaves the folder, and what isn't a plain
file, is never opened; a file too large is never read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from control_plane.errors import Refused
from control_plane.policy.fault import Fault
from control_plane.policy.revision import default_folder
from control_plane.policy.shape import LARGEST_FILE, MOST_FILES, in_place

_LOADED = (".rego", ".json", ".yaml", ".yml", ".tar.gz", ".schema")
"""What `opa test FOLDER` or `opa check --schema` would load."""


class Found(Struct, frozen=True):
    """`files` by path below the folder; `faults` of those that could not be taken."""

    files: dict[str, bytes]
    faults: tuple[Fault, ...]


def read(folder: Path) -> Found:
    """Read it; raises Refused `unusable_input` where it is no folder, can't be read, or holds no policy."""
    if not folder.is_dir():
        raise Refused("unusable_input", f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if not (folder / "qcos").is_dir():
        raise Refused("unusable_input", f"{folder}: holds no rules (no folder qcos); qcos policy init makes a folder")
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    try:
        for path in _walk(folder, folder.resolve()):
            if isinstance(path, Fault):
                faults.append(path)
            else:
                _take(folder, path, files, faults)
    except OSError as error:
        raise Refused("unusable_input", f"{error.filename}: {error.strerror}") from None
    return Found(files=files, faults=tuple(sorted(faults, key=lambda fault: fault.path)))


def regal_config(folder: Path) -> Path:
    """The configuration that regal would take for this folder: its own, the nearest above, or the shipped one."""
    here = folder.resolve()
    for place in (here, *here.parents):
        for name in (".regal/config.yaml", ".regal.yaml"):
            if (place / name).is_file():
                return place / name
    return default_folder() / ".regal" / "config.yaml"


def _walk(folder: Path, root: Path) -> Iterator[str | Fault]:
    """Paths of files that an engine would load, or that look like links out."""
    seen = 0
    waiting = [folder]
    while waiting:
        for entry in sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name):
            path = os.fsencode(Path(entry.path).relative_to(folder)).decode(errors="backslashreplace")
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _inside(entry, root):
                yield Fault(path, 1, "link", f"points out of the folder, to {Path(entry.path).readlink()}")
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_dir():
                yield Fault(path, 1, "link", "a link to a folder; OPA doesn't follow it")
            elif entry.name.endswith(_LOADED):
                seen += 1
                if seen > MOST_FILES:
                    yield Fault(path, 1, "size", f"more than {MOST_FILES} files")
                    return
                yield path


def _inside(entry: os.DirEntry[str], root: Path) -> bool:
    try:
        return Path(entry.path).resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # it points nowhere, or at itself
        return False


def _take(folder: Path, path: str, files: dict[str, bytes], faults: list[Fault]) -> None:
    place = in_place(path)
    if place is not None:
        faults.append(Fault(path, 1, "place", place))
        return
    try:
        # Not blocking: a named pipe would wait for its writer.
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        faults.append(Fault(path, 1, "unreadable", error.strerror or "can't be read"))
        return
    with os.fdopen(descriptor, "rb") as file:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            faults.append(Fault(path, 1, "unreadable", "not a plain file"))
        elif told.st_size > LARGEST_FILE:
            faults.append(Fault(path, 1, "size", f"{told.st_size} bytes; a file has at most {LARGEST_FILE}"))
        else:
            files[path] = file.read(LARGEST_FILE + 1)
