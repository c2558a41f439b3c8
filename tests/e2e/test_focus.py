# SPDX-License-Identifier: Apache-2.0
"""A month of a running plane as FOCUS files, each line of which is made anew from evidence (G7, G3)."""

from __future__ import annotations

import csv
import datetime as dt
import io
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import Plane, Ran
from tests.focus.judge import KNOWN, PROGRAM, judged

NOW = f"{dt.datetime.now(dt.UTC):%Y-%m}"
BEFORE = f"{dt.datetime.now(dt.UTC).replace(day=1) - dt.timedelta(days=1):%Y-%m}"


@pytest.fixture(scope="module")
def files(stranger: Plane, sampled: Any) -> dict[str, Path]:
    """The sample month as CSV and Parquet, and the month that runs, with a credit and a refund in it."""
    assert sampled["jobs"] > 3
    made: dict[str, Path] = {}
    for name, month, form, version in (
        ("before.csv", BEFORE, "csv", "1.2"),
        ("before.parquet", BEFORE, "parquet", "1.4"),
        ("now.csv", NOW, "csv", "1.2"),
    ):
        if name == "now.csv":
            job = read(made["before.csv"])[0]
            given = ("costs", "credit", "1.25", "USD", "--project", job["x_Project"], "--reason", "goodwill")
            assert stranger.cli(*given, user="finops").code == 0
            assert stranger.cli("costs", "refund", job["x_JobId"], "--reason", "a fault", user="finops").code == 0
        made[name] = stranger.folder / name
        asked = ("--month", month, "--format", form, "--focus", version, "-o", str(made[name]))
        ran = stranger.cli("costs", "export", *asked, user="finops")
        assert ran.code == 0, ran.err
    return made


def read(file: Path) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    return list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))


def changed(file: Path, place: int, **cells: str) -> Path:
    """A copy of a CSV file with other cells in one line."""
    lines = read(file)
    lines[place] |= cells
    copy = file.with_name("changed.csv")
    with copy.open("w", encoding="utf-8", newline="") as to:
        writer = csv.DictWriter(to, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return copy


def recomputed(plane: Plane, file: Path, *words: str, user: str = "finops") -> Ran:
    """What the command says of a file."""
    return plane.cli("costs", "recompute", str(file), *words, "--json", user=user)


def test_each_line_of_a_month_is_made_anew_to_the_last_digit(stranger: Plane, files: dict[str, Path]) -> None:
    """By finance itself, of either form; a credit and a refund from their entries; with a trust file of one's own."""
    lines = len(read(files["before.csv"]))
    for name in ("before.csv", "before.parquet"):
        ran = recomputed(stranger, files[name])
        assert (ran.code, ran.json["same"], ran.json["lines"]) == (0, lines, []), ran
        assert (ran.json["difference"], ran.json["trust"]) == ({"USD": "0"}, "plane")
    now = read(files["now.csv"])
    assert {"credit", "refund", "usage"} == {line["x_Category"] for line in now}
    (refund,) = [line for line in now if line["x_Category"] == "refund"]
    assert (refund["ChargeCategory"], refund["ChargeClass"]) == ("Usage", "Correction")
    used = read(files["before.csv"])[0]
    times = ("ChargePeriodStart", "ChargePeriodEnd")
    assert [refund[name] for name in times] == [used[name] for name in times]
    trust = stranger.folder / "focus-trust.json"
    assert stranger.cli("trust", "export", "-o", str(trust), user="admin").code == 0
    for user in ("finops", "auditor"):
        ran = recomputed(stranger, files["now.csv"], "--trust", str(trust), user=user)
        assert (ran.code, ran.json["same"], ran.json["trust"]) == (0, len(now), "file"), ran
    said = stranger.cli("costs", "recompute", str(files["now.csv"]), user="finops")
    assert "trust from the plane itself" in said.err


def test_one_changed_digit_is_named_by_its_line(stranger: Plane, files: dict[str, Path]) -> None:
    """Of a usage and of a credit; what the line belongs to counts too."""
    before, now = read(files["before.csv"]), read(files["now.csv"])
    used = next(place for place, line in enumerate(before) if line["BilledCost"] != "0.0000000000")
    credit = next(place for place, line in enumerate(now) if line["x_Category"] == "credit")
    for file, place, cells in (
        (files["before.csv"], used, {"BilledCost": before[used]["BilledCost"][:-1] + "1"}),
        (files["before.csv"], used, {"x_CostCenter": "CC-other"}),
        (files["before.csv"], used, {"x_User": "somebody"}),
        (files["before.csv"], used, {"x_JobId": "a-job-that-nobody-ran"}),
        (files["before.csv"], used, {"x_LedgerEntryId": "no entry"}),
        (files["now.csv"], credit, {"BilledCost": "-1.2600000000"}),
    ):
        ran = recomputed(stranger, changed(file, place, **cells))
        (found,) = ran.json["lines"]
        assert (ran.code, found["state"], found["line"]) == (1, "differs", place + 1), ran
        assert found["detail"] == next(iter(cells))


def test_what_a_file_lacks_is_missing_unless_it_is_a_part(stranger: Plane, files: dict[str, Path]) -> None:
    """A whole job, and a credit, which isn't the last line: a month that runs may have gone on after the file."""
    for name, category in (("before.csv", "usage"), ("now.csv", "credit")):
        whole = read(files[name])
        gone = next(line["x_LedgerEntryId"] for line in whole if line["x_Category"] == category)
        kept = [line for line in files[name].read_text().splitlines(keepends=True) if gone not in line]
        cut = stranger.folder / "cut.csv"
        cut.write_text("".join(kept))
        ran = recomputed(stranger, cut)
        assert (ran.code, ran.json["missing"]) == (1, len(whole) + 1 - len(kept)), ran
        assert recomputed(stranger, cut, "--part").code == 0


def test_a_file_of_no_line_passes_for_no_month(stranger: Plane, files: dict[str, Path]) -> None:
    """It says of none that nothing was charged; told which, all of it is missing."""
    empty = stranger.folder / "empty.csv"
    empty.write_text(files["before.csv"].read_text().splitlines(keepends=True)[0])
    ran = stranger.cli("costs", "recompute", str(empty), user="finops")
    assert (ran.code, ran.err.split(":")[0]) == (2, "unusable_input"), ran
    ran = recomputed(stranger, empty, "--month", BEFORE)
    assert (ran.code, ran.json["missing"]) == (1, len(read(files["before.csv"]))), ran
    assert ran.json["looked_for"] == {"months": [BEFORE], "project": None, "among": "plane"}
    empty.write_text(files["before.csv"].read_text().replace(",", ";"))
    ran = stranger.cli("costs", "recompute", str(empty), user="finops")
    assert (ran.code, ran.err.split(":")[:2]) == (2, ["focus_invalid", " heading"]), ran


def test_what_no_folder_can_show_is_said(stranger: Plane, files: dict[str, Path], tmp_path: Path) -> None:
    """Without the plane a job that is in neither FILE nor FOLDER is unknown; who wants a part looks for none."""
    trust = tmp_path / "trust.json"
    assert stranger.cli("trust", "export", "-o", str(trust), user="admin").code == 0
    words = ("costs", "recompute", str(files["before.csv"]), "--trust", str(trust), "--evidence", str(tmp_path))
    ran = stranger.cli(*words, "--json", user="finops")
    assert (ran.code, ran.json["unproven"]) == (1, len(read(files["before.csv"])))
    assert ran.json["looked_for"]["among"] == "evidence"
    assert "nobody knows without the plane" in stranger.cli(*words, user="finops").err
    assert stranger.cli(*words, "--part", user="finops").err == ""
    ran = stranger.cli("costs", "recompute", str(files["before.csv"]), "--project", "chemistry", user="finops")
    assert (ran.code, ran.err.split(": ")[0]) == (2, "unusable_input")
    assert "not of project chemistry alone: demo" in ran.err


def test_who_may_not_see_costs_recomputes_none(stranger: Plane, files: dict[str, Path]) -> None:
    """And a folder without a trust file proves nothing."""
    ran = stranger.cli("costs", "recompute", str(files["before.csv"]), user="user")
    assert (ran.code, ran.err.split(":")[0]) == (1, "forbidden"), ran
    ran = stranger.cli("costs", "recompute", str(files["before.csv"]), "--evidence", ".", user="finops")
    assert (ran.code, ran.err.split(":")[0]) == (2, "usage")


@pytest.mark.skipif(not PROGRAM.exists(), reason="focus-validator is not installed (make focus-tools)")
def test_the_month_of_a_plane_passes_focus_own_validator(files: dict[str, Path], tmp_path: Path) -> None:
    """Real jobs, a credit and a refund."""
    broken, passed = judged(files["now.csv"], tmp_path)
    assert broken == KNOWN
    assert passed > 280
