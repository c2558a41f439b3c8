# SPDX-License-Identifier: Apache-2.0
"""The command line as outside checks call it: words, documents, exit codes, one line an error (contracts.md)."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import ENDED, EXAMPLES, Plane, Ran, bell


@pytest.fixture(scope="module")
def done(plane: Plane) -> Any:
    """A completed bell, submitted on the command line."""
    ran = plane.cli("submit", str(EXAMPLES / "bell.json"), "--wait", "--json", user="engineer")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return ran.json


@pytest.mark.parametrize("name", ["bell.json", "bell.qasm"])
def test_submit_reads_standard_input(plane: Plane, name: str) -> None:
    given = (EXAMPLES / name).read_bytes()
    ran = plane.cli("submit", "-", "--dry-run", "--json", user="engineer", given=given)
    assert ran.code == 0, ran.err
    assert ran.json["decision"]["allow"] is True


def test_an_empty_standard_input_is_a_problem_and_no_crash(plane: Plane) -> None:
    ran = plane.cli("submit", "-", user="engineer")
    assert (ran.code, ran.err.partition(":")[0]) == (2, "malformed_json")


def test_status_names_every_process_and_no_password(plane: Plane) -> None:
    ran = plane.cli("status", "--json")
    assert ran.code == 0
    status = ran.json
    assert status["profile"] == "dev"
    assert status["url"].startswith("http://127.0.0.1:")
    assert Path(status["socket"]).is_socket()
    assert status["policy_engine"] in ("opa", "embedded")
    names = [process["name"] for process in status["processes"]]
    assert {"postgres", "tsa", "sealer", "worker-1", "api-1"} <= set(names)
    for process in status["processes"]:
        assert process["ready"] is True
        assert process["restarts"] == 0
        os.kill(process["pid"], 0)
    assert isinstance(status["sealed_age_ms"], int)
    admin = status["database_admin"]
    assert Path(admin["socket_folder"]).is_dir()
    password = Path(admin["password_file"])
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().strip() not in ran.out


def test_login_keeps_a_token_that_only_its_owner_may_read(plane: Plane, tmp_path: Path) -> None:
    ran = plane.cli("login", "--as", "user", "--json")
    assert ran.code == 0
    assert set(ran.json) == {"subject", "access_token", "expires_at"}
    assert ran.json["subject"] == "user"
    assert ran.json["expires_at"].endswith("Z")
    kept = plane.home / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    who = plane.cli("whoami", "--json").json
    assert (who["subject"], who["tenant"], who["roles"]) == ("user", "demo", ["quantum-user"])
    kept.chmod(0o644)
    shared = plane.cli("whoami")
    assert shared.code == 4
    assert shared.err.startswith("not_signed_in: ")
    kept.unlink()


def test_the_home_is_closed_to_other_users(plane: Plane) -> None:
    assert stat.S_IMODE(plane.home.stat().st_mode) & 0o077 == 0
    for secret in (*plane.home.glob("keys/**/*"), plane.home / "dev-login", *plane.home.glob("db/*")):
        if secret.is_file():
            assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0, secret


def most_of(plane: Plane, file: Path) -> str:
    """The highest price among the backends that the job's constraints leave: what is held (design path step 3)."""
    route = plane.cli("submit", str(file), "--dry-run", "--json", user="engineer").json["route"]
    return str(max((line["price"] for line in route if line["verdict"] != "excluded"), key=Decimal))


def test_submit_answers_with_the_decision_at_once(plane: Plane) -> None:
    ran = plane.cli("submit", str(EXAMPLES / "bell.json"), "--json", user="engineer")
    assert ran.code == 0
    job = ran.json
    assert {"job_id", "state", "decision", "cost", "evidence"} <= set(job)
    assert job["state"] == "QUEUED"
    decision = job["decision"]
    assert set(decision) == {"id", "allow", "checks", "reasons", "policy_revision"}
    assert decision["allow"] is True
    assert decision["reasons"] == []
    for check in decision["checks"]:
        assert set(check) == {"name", "result", "because", "rule"}
        assert check["result"] == "pass"
    assert {"access", "budget", "quota", "classification", "attributes"} <= {c["name"] for c in decision["checks"]}
    assert {"amount", "currency", "rate_card"} <= set(job["cost"])
    assert (job["cost"]["amount"], job["cost"]["currency"]) == (most_of(plane, EXAMPLES / "bell.json"), "USD")
    assert plane.end_of(job["job_id"])["state"] == "COMPLETED"


def test_submit_wait_shows_what_jobs_show_shows(plane: Plane, done: Any) -> None:
    shown = plane.cli("jobs", "show", done["job_id"], "--json", user="engineer").json
    assert shown == done
    assert shown["state"] == "COMPLETED"
    wanted = {"job_id", "state", "decision", "cost", "evidence", "attempt", "backend", "history", "route", "error"}
    assert wanted <= set(shown)
    path = ["QUEUED", "COMPILING", "RESERVING", "EXECUTING", "SEALING", "COMPLETED"]
    assert [event["state"] for event in shown["history"]] == path
    times = [event["at"] for event in shown["history"]]
    assert times == sorted(times)
    assert all(at.endswith("Z") for at in times)
    assert all({"backend", "verdict", "reason", "price", "queue_s"} <= set(line) for line in shown["route"])
    verdicts = {line["backend"]: line["verdict"] for line in shown["route"]}
    assert verdicts == {"aer": "chosen", "braket-local": "excluded", "ibm-fake": "excluded"}  # the bell asks for aer
    assert shown["attempt"] == 1
    assert shown["error"] is None


def test_a_job_shows_what_it_used_and_who_says_so(plane: Plane, done: Any) -> None:
    """G6: as its evidence has it."""
    facts = {fact["meter"]: fact for fact in done["facts"]}
    assert facts["two_qubit_gate_shots"]["quantity"] == facts["shots"]["quantity"] == "1000"
    assert facts["submitted_one_qubit_gates"] | {"quantity": "1"} == facts["submitted_one_qubit_gates"]
    assert (facts["simulator_cpu_seconds"]["source"], facts["simulator_cpu_seconds"]["by"]) == ("measured", "aer")
    assert "qpu_seconds" not in facts
    listed = plane.cli("jobs", "show", done["job_id"], "--facts", user="engineer").out.splitlines()
    names = ("meter", "quantity", "unit", "source", "by")
    assert [line.split("\t") for line in listed] == [[fact[name] for name in names] for fact in done["facts"]]


def test_accounting_lists_what_a_slurm_job_submitted(plane: Plane) -> None:
    """G6: `submit` tells in which it runs; sites join on its id, and nobody sees what `jobs list` doesn't show them."""
    words = ("submit", str(EXAMPLES / "bell.json"), "--wait", "--json")
    job = plane.cli(
        *words, user="engineer", SLURM_JOB_ID="424242", SLURM_JOB_ACCOUNT="chem", SLURM_CLUSTER_NAME="hpc1"
    ).json
    assert job["accounting"] == {"slurm_job_id": "424242", "account": "chem", "cluster": "hpc1"}
    (line,) = plane.cli("accounting", "--job", "424242", "--json", user="engineer").json
    assert (line["job_id"], line["state"], line["shots"], line["exit"]) == (job["job_id"], "COMPLETED", 1000, "0:0")
    assert line["cost"] == job["cost"]["amount"]
    heading, row = plane.cli("accounting", "--job", "424242", "-P", user="engineer").out.splitlines()
    assert dict(zip(heading.split("|"), row.split("|"), strict=True))["JobID"] == "424242"
    assert len(plane.cli("accounting", "--account", "chem", "--format", "csv", user="engineer").out.splitlines()) == 2
    refused = plane.cli("accounting", "--since", "yesterday", user="engineer")
    assert (refused.code, refused.err.partition(":")[0]) == (2, "request_invalid")


def test_result_holds_every_shot_in_qiskits_order(plane: Plane, done: Any) -> None:
    result = plane.cli("result", done["job_id"], "--json", user="engineer").json
    assert result["job_id"] == done["job_id"]
    assert result["fragment_results"] == []
    counts = result["quantum_result"]["counts"]
    assert set(counts) <= {"00", "11"}
    assert sum(counts.values()) == 1000


def test_the_last_classical_bit_stands_left(plane: Plane) -> None:
    source = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[3] c;\nx q[0];\nc = measure q;\n'
    file = plane.folder / "left.qasm"
    file.write_text(source)
    job = plane.cli("submit", str(file), "--wait", "--json", user="engineer").json
    assert job["project"] == "demo"
    counts = plane.cli("result", job["job_id"], "--json", user="engineer").json["quantum_result"]["counts"]
    assert counts == {"001": 1000}


def test_a_dry_run_prices_decides_and_leaves_nothing(plane: Plane) -> None:
    project = plane.project("10")
    file = plane.folder / "dry.json"
    file.write_text(json.dumps(bell(governance__project=project, job_id="dry-run-only")))
    ran = plane.cli("submit", str(file), "--dry-run", "--json", user="engineer")
    assert ran.code == 0
    assert ran.json["advisory"] is True
    assert ran.json["decision"]["allow"] is True
    assert ran.json["cost"]["amount"] == most_of(plane, file)
    assert plane.http("GET", "/api/v1/jobs/dry-run-only").code == "not_found"
    file.write_text(json.dumps(bell(governance__project=project)))
    assert plane.cli("submit", str(file), "--dry-run", "--wait", "--json", user="engineer").code == 0
    (budget,) = [one for one in plane.get("/budgets", "admin") if one["scope"] == f"project:{project}"]
    assert (budget["held"], budget["captured"]) == ("0", "0")


@pytest.mark.parametrize("words", [("plan",), ("submit", "--alias-model", "swap")])
def test_without_a_network_a_circuit_of_aliases_is_refused_with_a_code(plane: Plane, words: tuple[str, ...]) -> None:
    """N3, N4: never planned on what isn't there, and never sent to a backend that doesn't know the words."""
    ran = plane.cli(*words, str(EXAMPLES / "network.qasm"), user="engineer")
    code = {"plan": "network_off", "submit": "program_unsupported"}[words[0]]
    assert (ran.code, ran.err.partition(":")[0], ran.out) == (1, code, "")


def test_jobs_list_has_one_line_a_job_newest_first(plane: Plane, done: Any) -> None:
    listed = plane.cli("jobs", "list", "--json", user="engineer").json
    assert set(listed[0]) == {"job_id", "state", "submitted_at", "project", "backend"}
    times = [job["submitted_at"] for job in listed]
    assert times == sorted(times, reverse=True)
    (line,) = [job for job in listed if job["job_id"] == done["job_id"]]
    assert (line["state"], line["project"], line["backend"]) == ("COMPLETED", "demo", done["backend"])


def test_backends_list_shows_what_each_can_do(plane: Plane) -> None:
    listed = {row["id"]: row for row in plane.cli("backends", "list", "--json", user="engineer").json}
    aer = listed["aer"]
    wanted = {"id", "provider", "state", "qubits", "formats", "region", "compliance_zone", "reason"}
    assert wanted <= set(aer)
    assert (aer["provider"], aer["state"]) == ("aer", "online")
    assert {"QASM2", "QASM3"} <= set(aer["formats"])


NOTIFY = (("--notify", ""), ("--mode", "soft"), ("--notify-all",))


def test_budget_set_and_show_speak_of_the_same_budget(plane: Plane) -> None:
    words = ("budget", "set", "cost_center:CC-SHOW", "12.50", "USD", "--period", "quarterly")
    (was_set,) = plane.cli(*words, "--json", user="admin").json
    contract = {"scope", "period", "limit", "held", "captured", "available", "currency"}
    assert set(was_set) == contract | {"mode", "thresholds", "notify"}
    assert (was_set["mode"], was_set["thresholds"]) == ("hard", [80, 100])
    assert (was_set["period"], was_set["limit"], was_set["available"]) == ("quarterly", "12.5", "12.5")
    shown = plane.cli("budget", "show", "--json", user="admin").json
    assert was_set in shown
    told = [plane.cli(*words, *more, "--json", user="admin").json[0]["notify"] for more in NOTIFY]
    assert told == [[], [], None]
    demo = next(one for one in shown if one["scope"] == "project:demo")
    assert (demo["limit"], demo["currency"], demo["period"]) == ("1000", "USD", "monthly")


def test_evidence_and_trust_are_fetched_and_verify_says_valid(plane: Plane, done: Any) -> None:
    bundle, trust = plane.folder / "b.json", plane.folder / "t.json"
    assert plane.cli("evidence", "get", done["job_id"], "-o", str(bundle), user="engineer").code == 0
    assert plane.cli("trust", "export", "-o", str(trust), user="engineer").code == 0
    ran = plane.cli("verify", str(bundle), "--trust", str(trust), "--json")
    assert ran.code == 0
    assert set(ran.json) == {"verdict", "reason", "assurance", "checks", "time", "trust_as_of"}
    assert (ran.json["verdict"], ran.json["assurance"]) == ("valid", "self_issued")
    assert set(ran.json["time"]) == {"value", "operator"}
    assert ran.json["time"]["operator"] == "self"
    assert all(set(check) == {"name", "ok", "detail"} and check["ok"] for check in ran.json["checks"])


def test_the_ledger_verifies_and_its_replay_agrees(plane: Plane, done: Any) -> None:
    verified = plane.cli("ledger", "verify", "--json")
    assert verified.code == 0
    assert set(verified.json) == {"ok", "size", "root", "checked", "failures"}
    assert verified.json["ok"] is True
    assert verified.json["size"] == verified.json["checked"] > 0
    assert verified.json["failures"] == []
    replayed = plane.cli("ledger", "replay", "--compare", "--json")
    assert replayed.code == 0
    assert replayed.json["agrees"] is True
    assert replayed.json["differences"] == []


def test_a_denied_job_exits_1_and_says_why(plane: Plane) -> None:
    file = plane.folder / "denied.json"
    file.write_text(json.dumps(bell(governance__purpose="production-benchmark")))
    ran = plane.cli("submit", str(file), "--json", user="user")
    assert ran.code == 1
    problem = ran.problem
    assert problem["code"] == "policy_denied"
    assert problem["job_id"] == ran.json["job_id"]
    assert ran.json["state"] == "DENIED"
    assert ran.json["decision"]["allow"] is False
    for reason in ran.json["decision"]["reasons"]:
        assert {"code", "level", "message"} <= set(reason)
    said = plane.cli("submit", str(file), user="user")
    assert said.code == 1
    assert one_line(said).startswith("policy_denied: ")


def test_submit_wait_is_0_for_completed_alone(plane: Plane) -> None:
    file = plane.folder / "failing.qasm"
    file.write_text("OPENQASM 3.0;\nthis is no circuit;\n")
    ran = plane.cli("submit", str(file), "--wait", user="engineer")
    assert ran.code == 1
    assert one_line(ran).startswith("circuit_invalid: ")


@pytest.mark.parametrize(
    "words",
    [
        ("submit",),
        ("no-such-command",),
        ("jobs",),
        ("jobs", "list", "--limit", "many"),
        ("verify", "x"),
        ("submit", "/nowhere/spec.json"),
        ("verify", "/nowhere/b", "--trust", "/nowhere/t"),
        ("submit", str(EXAMPLES / "invalid" / "negative_shots.json")),
        ("submit", str(EXAMPLES / "invalid" / "unknown_field.json")),
        ("submit", str(EXAMPLES / "invalid" / "not_base64.json")),
        ("budget", "set", "project:demo", "much", "USD"),
        ("budget", "set", "nothing:demo", "1", "USD"),
        ("budget", "set", "project:demo", "1", "USD", "--period", "daily"),
    ],
    ids=" ".join,
)
def test_usage_and_unusable_input_exit_2(plane: Plane, words: tuple[str, ...]) -> None:
    ran = plane.cli(*words, user="admin")
    assert ran.code == 2, ran
    assert ran.out == ""
    code, _, detail = one_line(ran).partition(": ")
    assert code.replace("_", "").isalpha()
    assert detail
    as_document = plane.cli(*words, "--json", user="admin")
    assert as_document.code == 2
    assert as_document.problem["code"] == code
    assert {"type", "title", "status", "detail", "errors"} <= set(as_document.problem)


def test_what_isnt_there_exits_1(plane: Plane) -> None:
    for words in (
        ("jobs", "show", "nope"),
        ("result", "nope"),
        ("jobs", "cancel", "../x y"),
        ("jobs", "show", "a%2fb"),
    ):
        ran = plane.cli(*words, user="engineer")
        assert ran.code == 1, ran
        assert one_line(ran).startswith("not_found: ")


def test_no_plane_exits_3(plane: Plane, tmp_path: Path) -> None:
    for words in (("status",), ("jobs", "list"), ("down",), ("login", "--as", "engineer")):
        ran = plane.cli(*words, QCOS_HOME=str(tmp_path / "nothing"), user="engineer")
        assert ran.code == 3, (words, ran)
        assert one_line(ran).startswith("plane_unreachable: ")
    dead = plane.cli("jobs", "list", QCOS_URL="http://127.0.0.1:1", user="engineer")
    assert dead.code == 3


def test_a_register_whose_database_is_away_exits_3(plane: Plane, tmp_path: Path) -> None:
    home = tmp_path / "stopped"
    shutil.copytree(plane.home / "db", home / "db", ignore=shutil.ignore_patterns("data"))
    place = home / "db" / "place"
    place.write_text(re.sub("host=.*", f"host={tmp_path / 'nowhere'}", place.read_text()))
    for words in (("verify",), ("replay", "--compare")):
        ran = plane.cli("ledger", *words, QCOS_HOME=str(home))
        assert ran.code == 3, ran
        assert one_line(ran).startswith("plane_unreachable: ")


def test_not_signed_in_exits_4(plane: Plane) -> None:
    assert plane.cli("jobs", "list").code == 4
    ran = plane.cli("jobs", "list", QCOS_TOKEN="not.a.token")
    assert ran.code == 4
    assert one_line(ran).startswith("token_invalid: ")


def test_a_second_up_is_told_that_one_runs(plane: Plane) -> None:
    ran = plane.cli("up", "--detach")
    assert ran.code == 3
    assert one_line(ran).startswith("already_running: ")
    assert plane.cli("status").code == 0


def test_piped_tables_are_tabs_without_heading_or_colour(plane: Plane, done: Any) -> None:
    for words in (
        ("jobs", "list"),
        ("jobs", "show", done["job_id"]),
        ("backends", "list"),
        ("budget", "show"),
        ("status",),
        ("result", done["job_id"]),
    ):
        ran = plane.cli(*words, user="engineer")
        assert ran.code == 0
        assert "\x1b" not in ran.out
        lines = ran.out.splitlines()
        assert lines
        assert all("\t" in line for line in lines), ran.out
    first = plane.cli("jobs", "list", "--limit", "1", user="engineer").out.split("\t")
    assert first[1] in ENDED | {"QUEUED", "COMPILING", "RESERVING", "EXECUTING", "SEALING", "HELD"}


def test_the_unix_socket_serves_the_same_commands(plane: Plane, done: Any) -> None:
    ran = plane.cli(
        "jobs", "show", done["job_id"], "--json", user="engineer", QCOS_URL=f"unix:{plane.status['socket']}"
    )
    assert ran.code == 0
    assert ran.json == done


def test_every_command_prints_its_help(plane: Plane) -> None:
    top = plane.cli("--help")
    assert top.code == 0
    for word in (
        "up",
        "down",
        "status",
        "login",
        "whoami",
        "submit",
        "jobs",
        "result",
        "backends",
        "evidence",
        "trust",
    ):
        assert word in top.out
        assert plane.cli(word, "--help").code == 0


def one_line(ran: Ran) -> str:
    """The one line on standard error."""
    (line,) = ran.err.splitlines()
    return line
