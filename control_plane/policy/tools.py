# SPDX-License-Identifier: Apache-2.0
"""`opa` and `regal` run over policy files, their complaints as faults.

Files are laid into a private folder and the tools run there, so that they see a revision and nothing beside it. Each
run has a time limit and a memory limit, ends with this process, needs no network and inherits nothing of the
environment but PATH. A tool that dies or says something else than its JSON is a fault too, never silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from control_plane import enter
from control_plane.policy.fault import Fault

CPU_S = 20
"""The processor's time for one run of one tool, which a busy machine doesn't use up; shipped rules take a second."""

LIMIT_S = 120.0
"""For the same, by the clock: what waits instead of working ends too."""

_MEMORY = 2 * 1024**3
_LARGEST_OUTPUT = 64 * 1024 * 1024
_SHOWN = 500


class Run(Struct, frozen=True):
    """How a run of a tool ended; `timed_out` means that it was ended for its time."""

    code: int
    out: bytes
    err: bytes
    timed_out: bool = False


@contextlib.asynccontextmanager
async def laid(files: Mapping[str, bytes]) -> AsyncIterator[Path]:
    """The files in a private folder that is gone afterwards."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="qcos-policy-"))
    try:
        await asyncio.to_thread(_lay, folder, files)
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def run(
    command: Sequence[str | Path],
    folder: Path,
    limit_s: float = LIMIT_S,
    stdin: bytes = b"",
    memory: int | None = _MEMORY,
    cpu_s: int = CPU_S,
) -> Run:
    """Run one tool in `folder`; it is ended with its output after `limit_s` or with us."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "GOMEMLIMIT": str(_MEMORY // 2)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ending = [enter.__file__, "plain", "0", "0", str(int(signal.SIGKILL)), str(os.getpid())]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", *ending),
            *map(str, command),
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=err,
        )
        with contextlib.suppress(OSError):  # it has ended already
            if memory is not None:
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (cpu_s, cpu_s))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_LARGEST_OUTPUT, _LARGEST_OUTPUT))
        timed_out = False
        try:
            async with asyncio.timeout(limit_s):
                await process.communicate(stdin)
        except TimeoutError:
            timed_out = True
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        out.seek(0)
        err.seek(0)
        code = process.returncode or 0
        return Run(code, out.read(), err.read(_LARGEST_OUTPUT), timed_out or code == -signal.SIGKILL)


async def formatted(opa: Path, folder: Path) -> list[Fault]:
    """`opa fmt`: a fault for each file that it would write differently, at the first such line."""
    done = await run([opa, "fmt", "--list", "qcos"], folder)
    if done.code or done.timed_out:
        return []  # it doesn't parse: the strict check says where
    found = []
    for path in done.out.decode().split("\n"):
        if path:
            shown = await run([opa, "fmt", path], folder)
            line = _first_difference((folder / path).read_bytes(), shown.out)
            found.append(Fault(path, line, "opa-fmt", "not formatted; opa fmt -w does it"))
    return found


async def strict(opa: Path, folder: Path) -> list[Fault]:
    """`opa check --strict`, the input typed by the schemas."""
    schemas = ["--schema", "schemas"] if (folder / "schemas").is_dir() else []
    done = await run([opa, "check", "--strict", "--format", "json", *schemas, "--ignore", "schemas", "."], folder)
    if done.code == 0 and not done.timed_out:
        return []
    return complaints(done, folder, "opa check")


async def linted(regal: Path, folder: Path, config: Path) -> list[Fault]:
    """`regal lint` with a configuration."""
    done = await run([regal, "lint", "--format", "json", "--config-file", config, "qcos"], folder)
    try:
        told = msgspec.json.decode(done.out, type=_Lint)
    except ValueError:
        return [_broken("regal lint", done)]
    found = [_violation(one, folder) for one in told.violations if one.level == "error"]
    return sorted(found, key=lambda fault: (fault.path, fault.line, fault.rule))


def complaints(done: Run, folder: Path, what: str) -> list[Fault]:
    """The errors of an `opa` command that printed JSON, on either stream."""
    for stream in (done.out, done.err):
        with contextlib.suppress(ValueError):
            told = msgspec.json.decode(stream, type=_Errors)
            if told.errors:
                return list(dict.fromkeys(_complaint(one, folder) for one in told.errors))
    return [_broken(what, done)]


def _violation(one: _Violation, folder: Path) -> Fault:
    """With the line that it is about: regal's own words name nothing of it."""
    text = one.location.text.strip()
    told = f"{one.description}: {text}" if text else one.description
    path = _below(one.location.file, folder)
    return Fault(path, max(1, one.location.row), f"{one.category}/{one.title}", told[:_SHOWN])


def _complaint(one: _Error, folder: Path) -> Fault:
    place = one.location or _Location(file="qcos", row=1)
    code = one.code if isinstance(one.code, str) and one.code else "opa"
    return Fault(_below(place.file, folder) or "qcos", max(1, place.row), code, one.message[:_SHOWN])


def _broken(what: str, done: Run) -> Fault:
    if done.timed_out:
        return Fault("qcos", 1, "time", f"{what} took longer than {CPU_S} s of work and was ended")
    said = (done.err or done.out).decode(errors="replace").strip()[:_SHOWN]
    return Fault("qcos", 1, what.replace(" ", "-"), f"{what} failed with {done.code}: {said or 'no word'}")


def _below(path: str, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(folder).as_posix()
    return path.removeprefix("./")


def _first_difference(left: bytes, right: bytes) -> int:
    held, wanted = left.split(b"\n"), right.split(b"\n")
    differ = (number for number, pair in enumerate(zip(held, wanted, strict=False), start=1) if pair[0] != pair[1])
    return next(differ, min(len(held), len(wanted)))


def _lay(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class _Location(Struct, frozen=True):
    file: str = ""
    row: int = 1
    text: str = ""


class _Error(Struct, frozen=True):
    message: str
    code: Any = None
    location: _Location | None = None


class _Errors(Struct, frozen=True):
    errors: list[_Error]


class _Violation(Struct, frozen=True):
    title: str
    category: str
    description: str
    level: str
    location: _Location


class _Lint(Struct, frozen=True):
    violations: list[_Violation]
