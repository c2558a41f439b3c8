# SPDX-License-Identifier: Apache-2.0
"""A month of a real plane, closed; its statement judged offline as anybody may, and every change of it found (G7)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from control_plane.costs import judging
from ledger.canonical import dumps, sha256
from ledger.errors import UsageError
from ledger.verify import Report, verify
from tests.e2e.plane import Plane
from tests.ledger.test_verify import mutants

VECTORS = Path(__file__).parents[1] / "vectors" / "bundles"
METHOD = {"version": 1, "name": "labs", "revision": 3, "rules": [{"pool": "*", "by": "spend"}]}
FIRST = dt.datetime.now(dt.UTC).replace(day=1)
MONTH = f"{FIRST - dt.timedelta(days=1):%Y-%m}"
EARLIER = f"{(FIRST - dt.timedelta(days=1)).replace(day=1) - dt.timedelta(days=1):%Y-%m}"
NO_SOCKET = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from control_plane.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Closed(Struct, frozen=True):
    """What whoever judges it was handed."""

    plane: Plane
    statement: bytes
    lines: bytes
    trust: bytes
    bundle: bytes
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def closed() -> Iterator[Closed]:
    """A plane of its own, for what is closed stays closed: the last month with charges, and an empty one before it."""
    plane = Plane(QCOS_WORKERS="1")
    plane.start()
    try:
        made = plane.cli("demo-data", "month", "--scale", "0.03", "--json").json
        assert made["jobs"] == made["ended"]["COMPLETED"] > 1
        files = {name: plane.folder / name for name in ("statement", "lines", "trust", "bundle", "method")}
        files["method"].write_bytes(json.dumps(METHOD).encode())
        assert plane.cli("costs", "allocation", "set", str(files["method"]), user="finops").code == 0
        for month in (EARLIER, MONTH):
            ended = plane.cli("costs", "close", month, "--reason", "month end", "--json", user="finops")
            assert (ended.code, ended.json["month"], ended.json["state"]) == (0, month, "closed"), ended
        asked = ("costs", "statement", MONTH, "-o", str(files["statement"]), "--lines", str(files["lines"]), "--json")
        fetched = plane.cli(*asked, user="finops")
        assert fetched.code == 0, fetched.err
        assert plane.cli("trust", "export", "-o", str(files["trust"]), user="admin").code == 0
        job = plane.cli("jobs", "list", "--json", user="admin").json[0]["job_id"]
        assert plane.cli("evidence", "get", job, "-o", str(files["bundle"]), user="auditor").code == 0
        given = {name: files[name].read_bytes() for name in ("statement", "lines", "trust", "bundle")}
        yield Closed(plane, shown=ended.json, **given)
    finally:
        plane.stop()


def judge(closed: Closed, statement: bytes, lines: bytes | None = None, trust: bytes | None = None) -> Report:
    given = None if lines is None else lines.splitlines(keepends=True)
    return judging.judge(statement, trust or closed.trust, dt.datetime.now(dt.UTC), lines=given)


def offline(closed: Closed, statement: bytes, lines: bytes | None = None) -> tuple[int, str]:
    """Exit code and output of `qcos verify` in a process that may open no socket."""
    folder = closed.plane.folder
    (folder / "judged").write_bytes(statement)
    (folder / "by").write_bytes(closed.trust)
    words = ["verify", str(folder / "judged"), "--trust", str(folder / "by")]
    if lines is not None:
        (folder / "with").write_bytes(lines)
        words += ["--lines", str(folder / "with")]
    ran = subprocess.run(
        [sys.executable, "-c", NO_SOCKET, *words], capture_output=True, text=True, check=False, timeout=60
    )
    return ran.returncode, ran.stdout + ran.stderr


def changed(closed: Closed, change: Callable[[Any], object]) -> bytes:
    file = json.loads(closed.statement)
    change(file)
    return dumps(file)


def test_a_closed_month_has_a_statement_that_anybody_can_judge_offline(closed: Closed) -> None:
    """Sums computed again from the lines, method, entry, log, both signatures, time: exit 0, and no socket."""
    file = json.loads(closed.statement)
    assert file["lines"]["count"] == closed.lines.count(b"\n") > 1
    assert file["lines"]["sha256"] == sha256(closed.lines)
    assert float(file["totals"][0]["net"]) > 0
    assert file["allocation"]["name"] == "labs"
    assert file["previous"]["month"] == EARLIER
    code, said = offline(closed, closed.statement, closed.lines)
    assert code == 0, said
    assert said.startswith("VALID (")
    assert f"{file['lines']['count']} lines give every sum again" in said
    assert offline(closed, closed.statement)[0] == 0  # without the lines: what was signed, and that it adds up


def test_a_month_that_is_closed_is_listed_and_has_one_statement(closed: Closed) -> None:
    """Closed twice: the same. It is what `statements` lists, and what the file says."""
    plane = closed.plane
    assert plane.cli("costs", "close", MONTH, "--json", user="finops").json == closed.shown
    listed = plane.cli("costs", "statements", "--json", user="finops").json
    assert [one["month"] for one in listed] == [EARLIER, MONTH]
    assert listed[1] == closed.shown
    assert [one["lines"] for one in listed] == [0, closed.lines.count(b"\n")]
    for words in ((EARLIER,), ("2020-02", "--dry-run")):
        noted = plane.cli("costs", "close", *words, user="finops")
        assert (noted.code, noted.err) == (
            0,
            f"Note: nothing was charged in {words[0]}: its statement is of no lines\n",
        )
    assert json.loads(closed.statement)["previous"]["sha256"] == listed[0]["statement"]
    empty = plane.folder / "empty"
    assert plane.cli("costs", "statement", EARLIER, "-o", str(empty), user="finops").code == 0
    assert judge(closed, empty.read_bytes(), b"").verdict == "valid"
    assert plane.cli("ledger", "replay", "--compare", "--json", user="auditor").json["agrees"]
    assert plane.cli("ledger", "verify", "--json", user="auditor").code == 0


@pytest.mark.parametrize(
    ("month", "why"),
    [
        (f"{FIRST:%Y-%m}", "isn't over before"),
        ("9998-12", "isn't over before"),
        ("2024-02", "months close in their order"),
    ],
)
def test_what_cannot_be_closed_is_refused_with_the_reason(closed: Closed, month: str, why: str) -> None:
    refused = closed.plane.cli("costs", "close", month, user="finops")
    assert refused.code == 1
    assert refused.err.startswith("month_invalid: ")
    assert why in refused.err
    assert refused.err.count("\n") == 1


def test_a_month_that_is_not_closed_has_no_statement(closed: Closed) -> None:
    """And who doesn't manage costs closes none."""
    out = closed.plane.folder / "none"
    refused = closed.plane.cli("costs", "statement", f"{FIRST:%Y-%m}", "-o", str(out), user="finops")
    assert refused.code != 0
    assert refused.err.startswith("not_found: ")
    assert not out.exists()
    refused = closed.plane.cli("costs", "close", MONTH, user="engineer")
    assert (refused.code, refused.err[:11]) == (1, "forbidden: ")


def test_every_changed_dropped_or_added_member_is_found(closed: Closed) -> None:
    """Of all members at every depth; none is valid, and the reason names a check."""
    tried = 0
    for path, mutant in mutants(json.loads(closed.statement)):
        tried += 1
        try:
            report = judge(closed, dumps(mutant))
        except UsageError:
            continue
        assert report.verdict != "valid", (path, report)
        if report.verdict == "unanchored":  # an unknown key or authority: only where one is named
            assert path.startswith(("$.proof.checkpoint", "$.signatures")), (path, report)
        assert ": " in report.reason
    assert tried > 100


BY_MEMBER: dict[str, tuple[Callable[[Any], object], str]] = {
    "amount": (lambda f: f["totals"][0].update(net="0.01"), "sums"),
    "amounts that agree": (
        lambda f: f.update(totals=[], projects=[], providers=[], cost_centers=[], pools=[]),
        "statement_commitment",
    ),
    "month": (lambda f: f.update(month=EARLIER), "statement_commitment"),
    "tenant": (lambda f: f["scope"].update(tenant="other"), "statement_commitment"),
    "profile": (lambda f: f["scope"].update(profile="onprem"), "statement_commitment"),
    "plane": (lambda f: f["scope"].update(plane="other"), "statement_commitment"),
    "lines": (lambda f: f["lines"].update(sha256="sha256:" + "0" * 64), "statement_commitment"),
    "method named": (lambda f: f["allocation"].update(sha256="sha256:" + "0" * 64), "method"),
    "method dropped": (lambda f: f.update(method=None), "method"),
    "method": (lambda f: f.update(method=base64.b64encode(dumps({**METHOD, "revision": 4})).decode()), "method"),
    "previous": (lambda f: f["previous"].update(sha256="sha256:" + "0" * 64), "statement_commitment"),
    "previous dropped": (lambda f: f.update(previous=None), "statement_commitment"),
    "signature": (
        lambda f: f["signatures"].update(qcos_signature=_flipped(f["signatures"]["qcos_signature"])),
        "qcos_signature",
    ),
    "no signature": (lambda f: f["signatures"].update(qcos_signature=None), "qcos_signature"),
    "member dropped": (lambda f: f.pop("rate_cards"), "statement_closed"),
    "member added": (lambda f: f.update(paid=True), "statement_closed"),
    "version": (lambda f: f.update(version=2), "statement_closed"),
}


def _flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[100] ^= 1
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("member", BY_MEMBER)
def test_a_change_is_named_by_the_check_that_finds_it(closed: Closed, member: str) -> None:
    change, check = BY_MEMBER[member]
    report = judge(closed, changed(closed, change))
    assert report.verdict == "invalid"
    assert report.reason.startswith(f"{check}: ")


def test_a_changed_statement_ends_with_one_and_what_is_none_with_two(closed: Closed) -> None:
    """By the command, as a script sees it."""
    code, said = offline(closed, changed(closed, BY_MEMBER["amount"][0]), closed.lines)
    assert (code, said[:14]) == (1, "INVALID sums: ")
    assert offline(closed, closed.statement[:200])[0] == 2
    code, said = offline(closed, closed.statement, closed.lines.replace(b'"amount":"', b'"amount":"1', 1))
    assert code == 1
    assert said.startswith("INVALID lines: ")


def test_lines_that_were_not_signed_for_are_found(closed: Closed) -> None:
    """Changed, missing, added, in another order, of another month, in another form; told by the number of the line."""
    lines = closed.lines.splitlines(keepends=True)
    other = json.loads(lines[1])
    other["amount"] = "0.5"
    changes = {
        b"".join([lines[0], dumps(other) + b"\n", *lines[2:]]): "not the lines that were signed for",
        b"".join(lines[:-1]): "not the lines that were signed for",
        b"".join([*lines, lines[-1]]): f"line {len(lines) + 1}: twice",
        b"".join([lines[1], lines[0], *lines[2:]]): "line 2: twice, or before",
        closed.lines.replace(b'"month":"' + MONTH.encode(), b'"month":"' + EARLIER.encode(), 1): "line 1: ",
        b"".join([lines[0], b" " + lines[1], *lines[2:]]): "line 2: ",
        b"".join([lines[0], b"\n", *lines[1:]]): "line 2: ",
        closed.lines[:-1]: f"line {len(lines)}: ",
        b"": "0 lines",
    }
    assert len(changes) == 9
    for bad, why in changes.items():
        report = judge(closed, closed.statement, bad)
        assert report.verdict == "invalid", why
        assert report.reason.startswith("lines: ")
        assert why in report.reason


def test_the_trust_of_another_plane_reaches_no_statement(closed: Closed) -> None:
    """Nothing is wrong with it, and nothing proves it: exit code 1 all the same."""
    report = judge(closed, closed.statement, closed.lines, (VECTORS / "trust.json").read_bytes())
    assert report.verdict == "unanchored"
    assert report.reason.startswith("checkpoint_signatures: ")


@pytest.mark.parametrize("scope", [{"profile": "onprem"}, {"plane": "other"}, {"tenants": ["other"]}])
def test_a_development_key_speaks_for_no_other_scope(closed: Closed, scope: dict[str, Any]) -> None:
    """Neither where the trust file is of another scope, nor where the statement claims that one."""
    trust = json.loads(closed.trust)
    trust["scope"] |= scope
    report = judge(closed, closed.statement, closed.lines, dumps(trust))
    assert report.verdict == "invalid"
    assert report.reason.startswith("trust_scope: ")
    claimed = {"tenant": scope["tenants"][0]} if "tenants" in scope else scope
    both = judge(closed, changed(closed, lambda f: f["scope"].update(claimed)), closed.lines, dumps(trust))
    assert both.verdict == "invalid"
    assert both.reason.startswith("statement_commitment: ")


def test_evidence_is_no_statement_and_a_statement_no_evidence(closed: Closed) -> None:
    """Each is judged as what it is, also where somebody names it the other or takes the other's proof."""
    now = dt.datetime.now(dt.UTC)
    assert verify(closed.bundle, closed.trust, now).verdict == "valid"
    assert verify(closed.statement, closed.trust, now).verdict == "invalid"
    assert judge(closed, closed.bundle).verdict == "invalid"
    code, said = offline(closed, closed.bundle)
    assert code == 0
    assert "statement_closed" not in said
    assert offline(closed, closed.bundle, closed.lines)[0] == 2  # a job's evidence has no lines
    job = json.loads(closed.bundle)

    def lent(file: Any) -> None:
        file["bundle_id"], file["proof"], file["signatures"] = job["bundle_id"], job["proof"], job["signatures"]

    report = judge(closed, changed(closed, lent))
    assert report.verdict == "invalid"
    assert report.reason.startswith("statement_commitment: ")
