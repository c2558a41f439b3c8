# SPDX-License-Identifier: Apache-2.0
"""One JSON object a line, in each process's own file of bounded size (G8, I10).

Every line has time, level, process, logger and message, the ids bound in its task (request, job, decision), the trace
that it belongs to, and what the caller adds. An error is its type, its stable code and where it happened; its text is
there only where the code is ours, for other texts may quote what they choked on. What looks like a credential is
struck out, whoever wrote it. A warning that repeats without end is thinned and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from control_plane import telemetry
from control_plane.errors import code_of

KEPT = 4
LONGEST = 4000
FRAMES = 12
REPEATS_S = 20.0  # alike warnings a second; the rest is counted on the next that is let through
_LOOK_EVERY = 100  # lines between two looks at the file's size
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# A JWT, a bearer or basic credential, a password in a URL, a private key.
_CREDENTIAL = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|(?i:\b(?:bearer|basic)\s+[\w.~+/=-]{8,})"
    r"|(?<=://)[^\s:/@]*:[^\s@/]+(?=@)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_begun = False
STRUCK = "[struck out]"


def document(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """What a line says, as values."""
    told: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "process": process,
        "logger": record.name,
        "message": clean(record.getMessage()),
        **telemetry.ids(),
    }
    here = telemetry.traceparent()
    if here is not None:
        told |= {"trace_id": here[3:35], "span_id": here[36:52]}
    for name, value in record.__dict__.items():
        if name not in _OWN and value is not None:
            told[name] = value if isinstance(value, bool | int | float) else clean(str(value))
    if record.exc_info and record.exc_info[1] is not None:
        told |= _fault(record.exc_info[1])
    return told


def clean(text: str) -> str:
    """The text without what looks like a credential, cut where it is long."""
    return _CREDENTIAL.sub(STRUCK, text)[:LONGEST]


def text_of(error: BaseException) -> str:
    """What may be said of an error: its own words where its code is ours, else its type."""
    kind = type(error).__name__
    if code_of(error) != "internal":
        return clean(f"{kind}: {error}")
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return f"{kind} {state}" if state else kind


def _fault(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": text_of(error), "code": code_of(error), "at": where}


class Lines(logging.Handler):
    """Writes JSON lines to standard error, which `up` has led into the process's log file, and turns that file over."""

    def __init__(self, process: str, file: Path, largest: int) -> None:
        """`file` is turned over at `largest` bytes, if standard error is that file."""
        super().__init__()
        self._process, self._file, self._largest = process, file, largest
        self._left = 0
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._thin = Thinning()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; never raises."""
        try:
            suppressed = self._thin.suppressed(record)
            if suppressed is None:
                return
            told = document(record, self._process)
            if suppressed:
                told["suppressed"] = suppressed
            os.write(2, self._encoder.encode(told) + b"\n")
            self._left -= 1
            if self._left <= 0:
                self._left = _LOOK_EVERY
                self._turn_over()
        except Exception:  # noqa: BLE001, S110 - a line that can't be written must not break what wrote it
            pass

    def _turn_over(self) -> None:
        here = os.fstat(2)
        if here.st_size < self._largest or not self._file.exists() or not os.path.samestat(here, self._file.stat()):
            return
        turn_over(self._file)
        fresh = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):  # what the interpreter itself says at its end goes to the new file too
            os.dup2(fresh, descriptor)
        os.close(fresh)


class Thinning:
    """How many warnings alike a second are let through; information is not thinned."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._seen: dict[tuple[str, str], list[float]] = {}  # (logger, template) -> left, at, suppressed

    def suppressed(self, record: logging.LogRecord) -> int | None:
        """None where the line is left out; else how many like it were since the last."""
        if record.levelno < logging.WARNING:
            return 0
        key = (record.name, str(record.msg)[:200])
        if len(self._seen) > 1000:
            self._seen.clear()
        now = time.monotonic()
        state = self._seen.setdefault(key, [REPEATS_S, now, 0])
        state[0] = min(REPEATS_S, state[0] + (now - state[1]) * REPEATS_S)
        state[1] = now
        if state[0] < 1:
            state[2] += 1
            return None
        found, state[0], state[2] = int(state[2]), state[0] - 1, 0
        return found


def turn_over(file: Path) -> None:
    """FILE becomes FILE.1, that FILE.2, and so on; the oldest goes."""
    _make_room(file)
    file.replace(file.with_name(f"{file.name}.1"))


def _make_room(file: Path) -> None:
    for number in range(KEPT - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        if older.exists():
            older.replace(file.with_name(f"{file.name}.{number + 1}"))


def bound(file: Path, largest: int) -> None:
    """Keep a file below `largest` that a program not ours appends to: its bytes are copied aside, then it is emptied.

    What is written between the two steps is lost; a program that keeps its descriptor leaves no other way.
    """
    with contextlib.suppress(OSError):
        if file.stat().st_size < largest:
            return
        _make_room(file)
        aside = file.with_name(f"{file.name}.1")
        shutil.copyfile(file, aside)
        aside.chmod(0o600)
        os.truncate(file, 0)


def begun() -> bool:
    """Whether this process writes JSON lines; before, and on a terminal, people read what it says."""
    return _begun


def begin(process: str, folder: Path, *, level: str, largest: int) -> None:
    """Every logger of this process, its warnings and its last words as JSON lines."""
    global _begun  # noqa: PLW0603 - standard error is a process's own
    _begun = True
    root = logging.getLogger()
    root.handlers[:] = [Lines(process, folder / f"{process}.log", largest)]
    root.setLevel(_LEVELS[level])
    for chatty in ("asyncio", "urllib3", "opentelemetry", "aiohttp"):
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _last_words


def message_of(line: str) -> str:
    """What a JSON line says; a line of another program is given back as it is."""
    try:
        return msgspec.json.decode(line, type=_Said).message
    except msgspec.DecodeError:
        return line.strip()


class _Said(msgspec.Struct):
    message: str


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del kind, trace
    logging.getLogger("qcos").critical("%s", text_of(error), exc_info=error)
