# SPDX-License-Identifier: Apache-2.0
"""Policies are pushed to a running plane: in force without a restart, one of two at once, and back again (G2, G5)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.policy.revision import default_folder, read
from tests.e2e.plane import LIMIT_S, Answer, Plane, bell

PUSH = "/api/v1/policy/revisions"


@pytest.fixture
def before(plane: Plane) -> Iterator[str]:
    """The revision that is in force, and again afterwards."""
    revision = plane.get("/policy", user="admin")["revision"]
    yield revision
    assert plane.cli("policy", "push", "--revision", revision, user="admin").code == 0


def limited(project: str, shots: int) -> dict[str, str]:
    """The shipped policies with a limit of shots for one project."""
    files = {path: content.decode() for path, content in read(default_folder()).items()}
    limits = json.loads(files["data/limits.json"])
    limits["limits"]["projects"][project] = {"max_shots": shots}
    return files | {"data/limits.json": json.dumps(limits)}


def laid(files: dict[str, str], folder: Path) -> Path:
    """The files in a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def push(plane: Plane, files: dict[str, str], base: str | None = None, user: str = "admin") -> Answer:
    """Push as a program does."""
    return plane.http("POST", PUSH, json.dumps({"files": files, "base": base}).encode(), user=user)


def test_a_push_is_in_force_without_a_restart_and_can_be_taken_back(plane: Plane, before: str, tmp_path: Path) -> None:
    """G2: what was allowed is denied by the new limit, under the new revision; the old one pushed again allows it."""
    project = plane.project("10")
    folder = laid(limited(project, 999), tmp_path)
    processes = plane.cli("status", "--json").json["processes"]
    pushed = plane.cli("policy", "push", str(folder), "--message", "fewer shots", "--json", user="admin").json
    assert (pushed["replaced"], pushed["base"], pushed["in_force"]) == (before, before, True)
    shown = plane.cli("policy", "show", "--json", user="auditor").json
    assert (shown["revision"], shown["engine"]["revision"], shown["alarms"]) == (pushed["revision"],) * 2 + ([],)
    shown = plane.cli("policy", "diff", user="auditor").out
    assert f'limits.projects.{project}: (none) → {{"max_shots": 999}}' in shown
    denied = plane.run(bell(governance__project=project))
    assert [reason["code"] for reason in denied["decision"]["reasons"]] == ["limit_exceeded"]
    assert denied["decision"]["policy_revision"] == pushed["revision"]
    assert plane.run(bell(governance__project=project, execution__shots=999))["state"] == "COMPLETED"
    back = plane.cli("policy", "push", "--revision", before[7:20], "--json", user="admin").json
    assert (back["revision"], back["number"]) == (before, pushed["number"] + 1)
    assert plane.run(bell(governance__project=project))["state"] == "COMPLETED"
    again = plane.cli("policy", "push", "--revision", before, "--json", user="admin").json
    assert again["number"] == back["number"]  # nothing changed, nothing told
    assert plane.cli("status", "--json").json["processes"] == processes
    told = plane.cli("policy", "list", "--json", user="engineer").json
    assert [one["in_force"] for one in told[:2]] == [True, False]
    assert told[1]["message"] == "fewer shots"
    files = plane.get(f"/policy/revisions/{pushed['revision']}", user="auditor")["files"]
    assert files["data/limits.json"] == (folder / "data/limits.json").read_text()
    assert "qcos/quota/shots_test.rego" in files


def test_a_faulty_push_is_refused_with_file_and_line(plane: Plane, before: str) -> None:
    """G2: the last good policies stay in force."""
    files = limited("none", 1)
    rule = files["qcos/quota/shots.rego"]
    for path, content, said in (
        ("qcos/quota/shots.rego", rule + "\nmore := http.send({})\n", "shots.rego"),
        ("qcos/quota/shots.rego", rule + "\nmore := [1\n", "shots.rego"),
        ("data/limits.json", '{"limits": {"default": {"max_shots": "many"}}}', "limits.json"),
        ("data/permissions.json", files["data/permissions.json"].replace('"policy:push", ', ""), "permissions.json"),
        ("elsewhere.yaml", "x", "elsewhere.yaml"),
    ):
        answer = push(plane, files | {path: content})
        assert (answer.status, answer.code) == (422, "policy_refused"), (path, content, answer)
        assert said in answer.json["faults"][0]["path"]
        assert answer.json["faults"][0]["line"] >= 1
        assert answer.fields[0].startswith(answer.json["faults"][0]["path"] + ":")
    assert plane.get("/policy", user="admin")["revision"] == before


def test_of_two_pushes_on_one_base_one_wins(plane: Plane, before: str) -> None:
    """G2: the other is told that the policies moved; whichever it is, the numbers have no gap."""
    first = plane.get("/policy", user="admin")["number"]
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(push(plane, limited("none", n), before))) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [201, 409]
    (lost,) = (answer for answer in answers if answer.status == 409)
    assert lost.code == "policy_moved"
    (won,) = (answer.json for answer in answers if answer.status == 201)
    assert (won["number"], won["base"]) == (first + 1, before)


def test_rights_are_those_of_the_policies_in_force(plane: Plane, before: str) -> None:
    """G13: a role may do what the pushed table says, from then on, and no restart is needed."""
    assert push(plane, limited("none", 1), user="engineer").code == "forbidden"
    assert plane.http("GET", PUSH, user="outsider").code == "forbidden"  # they name projects of every tenant
    assert plane.http("GET", "/api/v1/policy", user="outsider").json["revision"] == before
    files = limited("none", 1)
    table: dict[str, Any] = json.loads(files["data/permissions.json"])
    table["permissions"]["roles"]["auditor"].remove("policy:read")
    changed = files | {"data/permissions.json": json.dumps(table)}
    assert push(plane, changed).status == 201
    until = time.monotonic() + LIMIT_S
    while plane.http("GET", "/api/v1/policy", user="auditor").status == 200:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert plane.http("GET", "/api/v1/policy", user="auditor").code == "forbidden"
