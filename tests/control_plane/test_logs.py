# SPDX-License-Identifier: Apache-2.0
"""G8, I10: log lines are JSON, carry ids, stay bounded, and hold nothing that looks like a credential."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane import logs, telemetry
from control_plane.errors import Refused

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJlbmdpbmVlciJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


def record(message: str, *arguments: object, level: int = logging.INFO, error: BaseException | None = None) -> object:
    info = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("qcos.test", level, __file__, 1, message, arguments, info)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "Bearer abcdefghijklmnop",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        "postgresql://qcos_app:hunter2secret@/qcos",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_credential_is_struck_out(secret: str) -> None:
    told = logs.document(record("said %s here", secret), "api-1")  # type: ignore[arg-type]
    assert logs.STRUCK in told["message"]
    for part in ("eyJ", "abcdefgh", "dXNlcjp", "hunter2", "MC4CAQ"):
        assert part not in json.dumps(told)


def test_an_unforeseen_error_is_told_by_type_and_place_alone() -> None:
    """I10: such a text may quote a circuit or a token; one with a code of ours is said as it is."""
    try:
        raise ValueError("line 3: OPENQASM secret source")
    except ValueError as error:
        told = logs.document(record("failed", error=error), "worker-1")  # type: ignore[arg-type]
    assert (told["error"], told["code"]) == ("ValueError", "internal")
    assert "test_logs.py" in told["at"][-1]
    assert "secret" not in json.dumps(told)
    known = logs.document(record("refused", error=Refused("no_result", "the job ended")), "api-1")  # type: ignore[arg-type]
    assert (known["error"], known["code"]) == ("Refused: the job ended", "no_result")


def test_ids_bound_in_a_task_are_in_its_lines() -> None:
    telemetry.bind(request_id="r-1", job_id="j-1", decision_id=None)
    try:
        told = logs.document(record("x"), "api-1")  # type: ignore[arg-type]
    finally:
        telemetry.unbind()
    assert (told["request_id"], told["job_id"], "decision_id" in told) == ("r-1", "j-1", False)


def test_files_are_turned_over_and_nothing_is_lost(tmp_path: Path) -> None:
    """Bounded: one file and four older ones; what the interpreter says at its end stands in the newest."""
    code = (
        "import logging, pathlib, sys; from control_plane import logs; "
        f"logs.begin('part', pathlib.Path({str(tmp_path)!r}), level='info', largest=50_000); "
        "[logging.getLogger('qcos').info('line', extra={'number': n}) for n in range(2000)]; "
        "raise RuntimeError('the end')"
    )
    with (tmp_path / "part.log").open("ab") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file, stderr=file, check=False)
    assert done.returncode == 1
    files = sorted(tmp_path.glob("part.log*"))
    assert 2 < len(files) <= 1 + logs.KEPT
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {line["number"] for line in lines if "number" in line} == set(range(2000))
    (last,) = [line for line in lines if line["level"] == "critical"]
    assert (last["message"], last["process"]) == ("RuntimeError", "part")


def test_a_foreign_programs_file_is_kept_below_its_size(tmp_path: Path) -> None:
    file = tmp_path / "postgres.log"
    with file.open("ab") as held:
        for number in range(8):
            held.write(b"%d" % number * 1000)
            held.flush()
            logs.bound(file, 500)
        held.write(b"after")
        held.flush()
    assert file.read_bytes() == b"after"
    older = {f"postgres.log.{number}" for number in range(1, 1 + logs.KEPT)}
    assert {path.name for path in tmp_path.iterdir()} == {"postgres.log", *older}
    assert (tmp_path / "postgres.log.1").read_bytes() == b"7" * 1000


def test_a_warning_without_end_is_thinned_and_counted() -> None:
    thin = logs.Thinning()
    let = [thin.suppressed(record("flood %d", n, level=logging.WARNING)) for n in range(1000)]  # type: ignore[arg-type]
    passed = [found for found in let if found is not None]
    assert len(passed) < 40
    assert thin.suppressed(record("other", level=logging.WARNING)) == 0  # type: ignore[arg-type]
    assert all(thin.suppressed(record("line %d", n)) == 0 for n in range(100))  # type: ignore[arg-type]
