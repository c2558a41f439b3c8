# SPDX-License-Identifier: Apache-2.0
"""Costs of a running plane: by command and API, and by a login for reports (G7, I7)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import psycopg

from tests.e2e.plane import Plane, bell


def test_what_a_job_cost_is_shown_by_whatever_it_is_of(plane: Plane) -> None:
    """The same in the job, by `costs show`, by the API, and after the ledger was folded again."""
    job = plane.http("POST", "/api/v1/jobs?wait=60", json.dumps(bell()).encode()).json
    cost = job["cost"]
    by = ("--by", "job,purpose", "--by", "user")
    rows = json.loads(plane.cli("costs", "show", *by, "--limit", "10000", "--json", user="admin").out)
    (mine,) = [row for row in rows if row["job"] == job["job_id"]]
    assert (mine["spend"], mine["currency"], mine["jobs"]) == (cost["amount"], cost["currency"], 1)
    assert (mine["purpose"], mine["user"]) == (bell()["governance"]["purpose"], "user:engineer@demo")
    first = plane.http("GET", "/api/v1/costs?by=job,purpose,user&limit=1", user="admin")
    assert first.json == rows[:1]
    if len(rows) > 1:
        cursor = first.headers["x-next-cursor"]
        assert (
            plane.http("GET", f"/api/v1/costs?by=job,purpose,user&limit=1&cursor={cursor}", user="admin").json
            == rows[1:2]
        )
    table = plane.cli("costs", "show", "--top", "3", user="admin").out
    assert table.splitlines()[0].split("\t")[0] == "demo"


def test_what_is_asked_wrongly_is_said(plane: Plane) -> None:
    for query, code in (
        ("month=2026-13", "period_invalid"),
        ("since=2026-02-30", "period_invalid"),
        ("since=2026-11-02&until=2026-11-01", "period_invalid"),
        ("month=2026-11&since=2026-11-01", "period_invalid"),
        ("top=3&until=2026-11-01", "period_invalid"),
        ("by=colour", "request_invalid"),
        ("by=", "request_invalid"),
        ("cursor=eA", "request_invalid"),
        ("month=November", "request_invalid"),
    ):
        answer = plane.http("GET", f"/api/v1/costs?{query}", user="admin")
        assert (answer.status, answer.code) == (400, code), query
    wrong = plane.cli("accounting", "--since", "2026-11-02", "--until", "2026-11-01", user="finops")
    assert (wrong.code, wrong.err) == (2, "period_invalid: until: ends before it begins\n")
    assert plane.cli("accounting", "--until", "2001-01-01", "--json", user="finops").json == []
    wrong = plane.cli("costs", "show", "--by", "colour", user="admin")
    assert (wrong.code, wrong.err.split(":")[0]) == (2, "usage")
    for words in (("--limit", "-1"), ("--top", "0"), ("--by", "project,team,user,day,month")):
        wrong = plane.cli("costs", "show", *words, user="admin")
        assert (wrong.code, wrong.err.split(":")[0]) == (2, "usage"), words
    for words in (("--month", "2026-13"), ("--since", "yesterday"), ("--until", "2026-02-29")):
        wrong = plane.cli("costs", "show", *words, user="admin")
        assert (wrong.code, wrong.err.split(":")[0]) == (2, "period_invalid"), words


def test_a_login_for_reports_reads_its_tenant_until_it_is_dropped(plane: Plane, tmp_path: Path) -> None:
    """On the plane's machine, while it runs; its password is in a file of its own and in no answer."""
    assert plane.http("POST", "/api/v1/jobs?wait=60", json.dumps(bell()).encode()).json["state"] == "COMPLETED"
    file = tmp_path / "password"
    made = plane.cli("admin", "reader", "create", "demo", "-o", str(file), "--reason", "a report", "--json")
    told = json.loads(made.out)
    password = file.read_text().strip()
    assert told["confined"] is True
    assert (stat.S_IMODE(file.stat().st_mode), password in made.out) == (0o600, False)
    again = plane.cli("admin", "reader", "create", "demo", "-o", str(file), "--reason", "a report")
    assert again.err.startswith("unusable_input"), "a file that is there is left alone"
    place = {"host": told["host"], "dbname": told["database"], "user": told["login"], "password": password}
    with psycopg.connect(**place) as reader:
        ((spend, jobs),) = reader.execute("SELECT sum(spend), sum(jobs) FROM reporting.spend_by_project").fetchall()
    assert (spend > 0, jobs >= 1) == (True, True)
    dropped = plane.cli("admin", "reader", "drop", "demo", "--reason", "a test", "--json")
    assert json.loads(dropped.out)["login"] == told["login"]
    assert plane.cli("admin", "reader", "drop", "demo", "--reason", "a test").err.startswith("not_found")
    assert plane.cli("admin", "reader", "create", "nobody", "-o", str(tmp_path / "x"), "--reason", "x").err.startswith(
        "not_found"
    )
