# SPDX-License-Identifier: Apache-2.0
"""What the commands of money say before a plane is asked, and how they say what it refuses (G6, G7)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from litestar.exceptions import ValidationException

from control_plane import answers, home
from control_plane.api import costs, forecasts
from control_plane.cli import complain, main
from control_plane.errors import problem
from finops.errors import InvoiceInvalid


def test_a_refusal_says_which_line_or_field_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(InvoiceInvalid("has 3 cells, the header 1", field="line 3"), as_json=False) == 2
    assert capsys.readouterr().err == "invoice_invalid: line 3: has 3 cells, the header 1\n"
    assert problem(InvoiceInvalid("has 3 cells", field="line 3"))[1]["detail"] == "has 3 cells"


@pytest.mark.parametrize(
    ("handler", "key", "said"),
    [
        (costs.shown, "since", "since: want a day (UTC), YYYY-MM-DD, or a moment with its zone"),
        (costs.shown, "month", "month: want a month (UTC), YYYY-MM"),
        (forecasts.foreseen, "narrowed", "scope: want as project:NAME"),
        (forecasts.unusual, "by", "by: want one of project, team"),
    ],
)
def test_a_parameter_is_told_by_its_own_name_and_in_words(handler: object, key: str, said: str) -> None:
    """Not by Python's name for it, and not as a regular expression."""
    wrong = {"key": key, "source": "query", "message": "Expected `str` matching regex '^[0-9]{4}$'"}
    status, _, body = answers.document_of_error({"route_handler": handler}, ValidationException(extra=[wrong]))
    assert status == 400
    assert f'"detail":"{said}'.encode() in body


def test_an_export_that_nobody_answers_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or the next one, once the plane is there, would find the place taken."""
    file = tmp_path / "october.csv"
    monkeypatch.setenv("QCOS_URL", f"unix:{tmp_path}/nobody.sock")
    monkeypatch.setenv("QCOS_TOKEN", "anything")
    assert main(["costs", "export", "--month", "2026-10", "-o", str(file)]) == 3
    assert capsys.readouterr().err.startswith("plane_unreachable: ")
    assert not file.exists()


def test_sample_data_never_enters_a_plane_of_another_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever this shell's own settings say: what runs was started with others."""
    monkeypatch.setenv("QCOS_HOME", str(tmp_path))
    monkeypatch.setenv("QCOS_PROFILE", "dev")
    (tmp_path / "run").mkdir()
    started = home.started_at(os.getpid())
    runs = home.PlaneRecord(os.getpid(), started, "onprem", "http://127.0.0.1:1", "", "opa", "", None, (), ready=True)
    home.write_record(tmp_path, runs)
    with (tmp_path / "run" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for command in (["month", "--invoice", str(tmp_path / "invoice.csv")], ["decisions", "5"]):
            assert main(["demo-data", *command]) == 2
            assert capsys.readouterr().err.startswith("setting_invalid: profile = 'onprem'")
    assert not (tmp_path / "invoice.csv").exists()


def test_each_commands_own_help_begins_with_what_the_list_says(capsys: pytest.CaptureFixture[str]) -> None:
    for command, said in (("close", "Close a month that is over"), ("statements", "Months that are closed")):
        with pytest.raises(SystemExit):
            main(["costs", command, "--help"])
        assert capsys.readouterr().out.split("\n\n")[1].startswith(said)
