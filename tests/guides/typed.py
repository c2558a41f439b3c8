# SPDX-License-Identifier: Apache-2.0
"""A guide's commands, typed as they stand in the page, and the lines of text that the page says they answer.

Enters: a page and the heading under which its walk stands. A fenced `sh` block is typed line by line; a `text` block
after it is what those lines answered. Numbers, hashes, ids and times stand for any other; `…` for any rest of a line;
lines that the page leaves out are passed over. A command that fails is a fault unless its answer in the page begins
with an error's code.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

LIMIT_S = 1200.0
_FENCE = re.compile(r"^```(\w*)$")
_ANY = re.compile(r"sha256:[0-9a-f]+|qcos-job-[0-9-]+[0-9a-f]{12}|[0-9][0-9,.:TZ-]*")
_CODE = re.compile(r"^[a-z_]+: ")


Act = Callable[["subprocess.Popen[str]"], list[str]]
"""Does something while a command waits for a person; leaves the lines of it that it read."""


class Step(Struct, frozen=True):
    """Commands that stand together, and the lines that they answer."""

    commands: tuple[str, ...]
    answers: tuple[str, ...]


class Mistold(AssertionError):
    """The page says something that the plane doesn't."""


def steps(page: Path, heading: str) -> list[Step]:
    """The steps below a heading, up to the next of its rank or above."""
    rank = tuple("#" * level + " " for level in range(1, heading.index(" ") + 1))
    lines = page.read_text(encoding="utf-8").splitlines()
    begin = lines.index(heading) + 1
    rest = [number for number in range(begin, len(lines)) if lines[number].startswith(rank)]
    found: list[Step] = []
    for language, block in _blocks(lines[begin : rest[0] if rest else len(lines)]):
        if language == "sh":
            found.append(Step(tuple(block), ()))
        elif language == "text" and found:
            found[-1] = Step(found[-1].commands, tuple(block))
    return found


def play(
    page: Path,
    heading: str,
    folder: Path,
    replaced: Mapping[str, str],
    acts: Mapping[str, Act] = {},
) -> None:
    """Type it all in `folder`; `replaced` are words that are typed otherwise. Raises Mistold.

    `acts` says who does something while a command that begins so waits for a person.
    """
    for step in steps(page, heading):
        said: list[str] = []
        for command in step.commands:
            typed = command
            for word, other in replaced.items():
                typed = typed.replace(word, other)
            act = next((act for begin, act in acts.items() if command.startswith(begin)), None)
            said += _typed(typed, folder, act, allowed=bool(step.answers and _CODE.match(step.answers[0])))
        _hold(step, said)


def told(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _typed(command: str, folder: Path, act: Act | None, *, allowed: bool) -> list[str]:
    told(f"$ {command}")
    begun = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment(folder), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as ran:
        try:
            seen = act(ran) if act is not None else []
            out, err = ran.communicate(timeout=LIMIT_S)
        finally:
            ran.kill()
    said = [*seen, *(out + err).splitlines()]
    for line in said[:12]:
        told(f"  {line}")
    told(f"  [{time.monotonic() - begun:.1f} s]")
    if ran.returncode and not (allowed and ran.returncode == 1):
        raise Mistold(f"{command}: ended with {ran.returncode}: {' '.join(said)[-500:]}")
    return said


def environment(folder: Path) -> dict[str, str]:
    """What a command in this folder is given: a home of its own, and qcos on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QCOS_") or name == "QCOS_OPA_BIN"}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "QCOS_HOME": str(folder / "home"), "QCOS_HTTP_PORT": "0"}


def _hold(step: Step, said: list[str]) -> None:
    place = 0
    for line in step.answers:
        if not line.strip() or line.strip() == "…":
            continue
        wanted = _pattern(line)
        here = next((number for number in range(place, len(said)) if wanted.fullmatch(_words(said[number]))), None)
        if here is None:
            raise Mistold(f"{step.commands[-1]}: the page has {line!r}; it answered:\n" + "\n".join(said))
        place = here + 1


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(re.escape(_words(line)).replace("…", ".*"))


def _words(line: str) -> str:
    """Numbers and names replaced, spaces as one: a table's columns have other widths with other numbers."""
    return " ".join(_ANY.sub("#", line).split())


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    inside: str | None = None
    block: list[str] = []
    for line in lines:
        fence = _FENCE.match(line)
        if fence and inside is None:
            inside, block = fence.group(1), []
        elif line == "```" and inside is not None:
            yield inside, block
            inside = None
        elif inside is not None:
            block.append(line)
