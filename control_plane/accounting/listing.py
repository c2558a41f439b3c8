# SPDX-License-Identifier: Apache-2.0
"""Accounts as other tools read them: CSV, and what `sacct --parsable2` writes (G6). Pure.

Enter lines as the API gives them. Of `parsable2` the first columns have sacct's names and spellings (times without a
zone, in UTC, `Unknown` where there is none yet; elapsed time as [D-]HH:MM:SS), so that what reads one reads the other;
ours follow. A `|` in a name is written `%7C`, a line's end `%0A`: sacct itself quotes nothing.
"""

from __future__ import annotations

import csv as writer
import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

from control_plane.accounting.record import Accounted

COLUMNS: Final = {
    "JobID": "slurm_job_id",
    "Account": "account",
    "User": "user",
    "Cluster": "cluster",
    "Partition": "partition",
    "Submit": "created",
    "Start": "running",
    "End": "finished",
    "Elapsed": "elapsed",
    "State": "state",
    "ExitCode": "exit",
    "SubmitEpoch": "created_epoch",
    "StartEpoch": "running_epoch",
    "EndEpoch": "finished_epoch",
    "RanJobID": "ran_slurm_job_id",
    "QCOSJobID": "job_id",
    "QCOSState": "qcos_state",
    "AcquisitionID": "acquisition_id",
    "Session": "session",
    "Resource": "resource",
    "Project": "project",
    "Shots": "shots",
    "QPUSeconds": "qpu_seconds",
    "SimulatorSeconds": "simulator_seconds",
    "Cost": "cost",
    "Currency": "currency",
}
"""Heading of `parsable2` → member of a line; `elapsed` is made of two."""
_TIMES: Final = ("created", "running", "finished")
_SECONDS_OF_TIME: Final = 19  # of 2026-11-22T04:05:06.789Z


def elapsed(line: Mapping[str, Any]) -> str:
    """From start to end, as sacct spells it; of what hasn't started or ended, none."""
    if line["running_epoch"] is None or line["finished_epoch"] is None:
        return "00:00:00"
    seconds = max(0, line["finished_epoch"] - line["running_epoch"])
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{days}-{clock}" if days else clock


def parsable(lines: Iterable[Mapping[str, Any]]) -> str:
    """Headings, and a line a job."""
    rows = ["|".join(COLUMNS)]
    rows += ["|".join(_cell(line, name) for name in COLUMNS.values()) for line in lines]
    return "\n".join(rows) + "\n"


def csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """RFC 4180, under the names that the API has."""
    file = io.StringIO()
    made = writer.DictWriter(file, Accounted.__struct_fields__)
    made.writeheader()
    made.writerows({name: _tame(line[name]) for name in Accounted.__struct_fields__} for line in lines)
    return file.getvalue()


def _cell(line: Mapping[str, Any], name: str) -> str:
    if name == "elapsed":
        return elapsed(line)
    value = line[name]
    if name in _TIMES:
        return "Unknown" if value is None else str(value)[:_SECONDS_OF_TIME]
    text = "" if value is None else str(value)
    return text.replace("|", "%7C").replace("\r", "%0D").replace("\n", "%0A")


def _tame(value: Any) -> Any:
    """A name that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
