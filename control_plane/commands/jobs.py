# SPDX-License-Identifier: Apache-2.0
"""`qcos submit`, `jobs list|show|cancel|hold|resume`, `result`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, write
from control_plane.commands._spec import accounted, alias_model, read_body

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})
WAIT_S = 30.0


def register(groups: Any) -> None:
    """Add the commands."""
    submit = groups.add_parser("submit", help="submit a job spec, or a circuit (.qasm, .qpy)")
    submit.add_argument("file", metavar="FILE", type=Path, help="a file; - is standard input")
    submit.add_argument("--wait", action="store_true", help="until the job has ended; 0 only for COMPLETED")
    submit.add_argument("--dry-run", action="store_true", help="price and decide; nothing is stored")
    alias_model(submit)
    submit.add_argument("--idempotency-key", metavar="KEY", help="the same key submits once")
    signing(submit)
    submit.add_argument("--json", action="store_true", help="one document")
    submit.set_defaults(run=_submit)
    jobs = groups.add_parser("jobs", help="list and steer jobs").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    listing = jobs.add_parser("list", help="jobs, newest first")
    listing.add_argument("--state", metavar="STATE")
    listing.add_argument("--project", metavar="PROJECT")
    listing.add_argument("--workflow", metavar="ID", help="the steps of a workflow")
    listing.add_argument("--limit", metavar="N", type=int, default=100)
    listing.add_argument("--json", action="store_true", help="one document")
    listing.set_defaults(run=_list)
    for name, words in (
        ("show", "decision, route, history, cost"),
        ("cancel", "stop a job"),
        ("hold", "keep a queued job from starting"),
        ("resume", "let a held job go on"),
    ):
        one = jobs.add_parser(name, help=words)
        one.add_argument("job", metavar="JOB")
        if name == "show":
            one.add_argument("--facts", action="store_true", help="what it used, and who says so")
        signing(one)
        one.add_argument("--json", action="store_true", help="one document")
        one.set_defaults(run=_show if name == "show" else _signal)
    settle = jobs.add_parser("settle", help="end the hold of a job whose outcome nobody knows")
    settle.add_argument("job", metavar="JOB")
    decided = settle.add_mutually_exclusive_group(required=True)
    decided.add_argument("--released", action="store_true", help="it cost nothing")
    decided.add_argument("--charged", metavar="AMOUNT", help="what it cost, at most what is held")
    settle.add_argument("--reason", metavar="TEXT", required=True, help="who said so; the ledger keeps it")
    settle.add_argument("--json", action="store_true", help="one document")
    settle.set_defaults(run=_settle)
    result = groups.add_parser("result", help="the counts of a completed job")
    result.add_argument("job", metavar="JOB")
    result.add_argument("--file", metavar="NAME", help="a part that is too large to stand in it")
    result.add_argument("-o", "--output", metavar="FILE", type=Path, help="where the part goes; - is standard output")
    signing(result)
    result.add_argument("--json", action="store_true", help="one document")
    result.set_defaults(run=_result)


def signing(parser: argparse.ArgumentParser) -> None:
    """Add what signs a request."""
    parser.add_argument("--sign", action="store_true", help="under your own key: qcos signing-key create")
    parser.add_argument("--signing-key", metavar="KEY", help="which one; else the newest of yours here")
    parser.add_argument("--envelope", choices=("jose", "cose"), default="jose", help="as JWS or COSE_Sign1")


def _signed(arguments: argparse.Namespace, kind: Any, body: bytes, query: str = "", limit_s: float = 30.0) -> Any:
    """The answer to a request that is sent in an envelope."""
    from control_plane import signer
    from control_plane.settings import located

    key = arguments.signing_key
    data, headers = signer.request(located().home, kind, body, key, arguments.envelope)
    return plane().ask("POST", f"/api/v1/envelopes{query}", data, headers=headers, limit_s=limit_s)


def _signed_about(arguments: argparse.Namespace, kind: Any) -> Any:
    import json

    return _signed(arguments, kind, json.dumps({"job_id": arguments.job}).encode())


def _signed_submission(arguments: argparse.Namespace, spec: bytes) -> Any:
    import json

    key = arguments.idempotency_key
    rest = ({"idempotency_key": key} if key else {}) | ({"dry_run": True} if arguments.dry_run else {})
    more = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in rest.items())
    query = f"?wait={WAIT_S:g}" if arguments.wait and not arguments.dry_run else ""
    return _signed(arguments, "submit", b'{"spec": ' + spec + more.encode() + b"}", query, WAIT_S + 30)


def _submit(arguments: argparse.Namespace) -> int:
    import os

    from control_plane import tables
    from control_plane.client import Answered

    client = plane()
    body = accounted(read_body(client, arguments.file, arguments.alias_model), os.environ)
    headers = {"Idempotency-Key": arguments.idempotency_key} if arguments.idempotency_key else {}
    query = "?dry_run=true" if arguments.dry_run else f"?wait={WAIT_S:g}" if arguments.wait else ""
    try:
        if arguments.sign:
            job = _signed_submission(arguments, body)
        else:
            job = client.ask("POST", f"/api/v1/jobs{query}", body, headers=headers, limit_s=WAIT_S + 30)
    except Answered as refused:
        # A denial is an answer about a job: with --json it goes where the answer goes, beside the problem.
        if arguments.json and "job_id" in refused.document:
            tables.document(_denied(refused.document))
        raise
    while arguments.wait and not arguments.dry_run and job["state"] not in ENDED:
        job = client.ask("GET", f"/api/v1/jobs/{job['job_id']}?wait={WAIT_S:g}", limit_s=WAIT_S + 30)
    if arguments.json:
        tables.document(job)
    else:
        _tell(job)
        if arguments.dry_run:
            _tell_route(job["route"])
    return _exit_code(job, arguments)


def _denied(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_id": problem["job_id"],
        "state": problem["state"],
        "decision": problem["decision"],
        "cost": None,
        "evidence": None,
    }


def _exit_code(job: dict[str, Any], arguments: argparse.Namespace) -> int:
    from control_plane.errors import Refused

    if arguments.dry_run:
        return 0 if job["decision"]["allow"] else 1
    if arguments.wait and job["state"] != "COMPLETED":
        error = job.get("error") or {}
        raise Refused(error.get("code", "job_failed"), f"{job['job_id']}: {job['state']}: {error.get('detail', '')}")
    return 0


def _approval(job: dict[str, Any]) -> str:
    """Where the job's approval stands, and what somebody else may do about it."""
    given, answer = job["approval"], job["approval"].get("answer")
    said = f"{given['state']}: {answer['by']}: {answer['reason']}" if answer else given["state"]
    if job["state"] == "AWAITING_APPROVAL":
        said += f"; somebody else until {given['wait_until']}: qcos approve {job['job_id']} --reason TEXT"
    return said


def _tell(job: dict[str, Any]) -> None:
    from control_plane import tables

    decision, cost = job.get("decision"), job["cost"]
    pairs: list[tuple[str, Any]] = [("job", job["job_id"]), ("state", tables.state(job["state"]))]
    if job.get("advisory"):
        pairs.append(("advisory", "nothing was stored; the decision at submission counts"))
    if decision is not None:
        word, result = ("allowed", "pass") if decision["allow"] else ("denied", "fail")
        counted = sum(check["result"] == result for check in decision["checks"])
        pairs.append(("decision", f"{word} by {counted} of {len(decision['checks'])} checks ({decision['id']})"))
        pairs += [("reason", f"{reason['code']}: {reason['message']}") for reason in decision["reasons"]]
    if job.get("envelope"):
        pairs.append(("signed", f"{job['envelope']['alg']} {job['envelope']['key_id']}"))
    if job.get("approval"):
        pairs.append(("approval", _approval(job)))
    basis = {"upper_bound": "at most", "held": "held", "charged": "charged"}.get(cost["basis"], "")
    pairs.append(("cost", f"{cost['amount']} {cost['currency']} {basis}".rstrip()))
    if cost.get("estimate") and cost["basis"] != "charged":
        pairs.append(("estimate", _estimate(cost["estimate"])))
    if job.get("backend"):
        pairs.append(("backend", job["backend"]))
    if job.get("partial"):
        pairs.append(("partial", job["partial"]))
    if job.get("workflow"):
        pairs += [(f"workflow {name}", value) for name, value in job["workflow"].items()]
    for told, words in (("accounting", "submitted by"), ("ran_as", "ran as")):
        pairs += [(f"{words} {name}", value) for name, value in (job.get(told) or {}).items()]
    if job.get("error"):
        pairs.append(("error", f"{job['error']['code']}: {job['error']['detail']}"))
    if job.get("waiting"):
        pairs.append(("waiting", f"{job['waiting']['code']}: {job['waiting']['detail']}"))
    if job.get("settlement"):
        settled = job["settlement"]
        told = f"{settled['outcome']} {settled['amount']} {settled['currency']} by {settled['by']} at {settled['at']}"
        pairs.append(("settled", f"{told}: {settled['reason']}"))
    if job.get("evidence"):
        pairs.append(("evidence", f"{job['evidence']['state']} ({job['evidence']['level']})"))
    tables.facts(pairs)


def _estimate(told: dict[str, Any]) -> str:
    """What it will probably cost, in one line."""
    jobs, of = told["basis"]["jobs"], told["basis"]["of"]
    amount = f"{told['amount']} {told['currency']}"
    if of == "card":
        return f"{amount}, by the rate card alone"
    between = f"{amount}, between {told['low']} and {told['high']}"
    if of == "none":
        return f"{between}; too few past jobs to say more ({jobs})"
    whose = told["backend"] if of == "backend" else f"{told['backend']}'s provider"
    said = f"{between} in {float(told['coverage']):.0%} of cases, by {jobs} jobs of {whose}"
    return f"{said}; it has changed of late" if told["basis"]["drift"] else said


def _list(arguments: argparse.Namespace) -> None:
    from urllib.parse import urlencode

    from control_plane import tables

    wanted = {name: getattr(arguments, name) for name in ("state", "project", "workflow", "limit")}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    jobs = plane().ask("GET", f"/api/v1/jobs?{query}")
    if arguments.json:
        tables.document(jobs)
        return
    rows = [(j["job_id"], tables.state(j["state"]), j["submitted_at"], j["project"], j["backend"]) for j in jobs]
    tables.table(("job", "state", "submitted", "project", "backend"), rows)


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    if arguments.sign:
        job = _signed_about(arguments, "show")
    else:
        job = plane().ask("GET", f"/api/v1/jobs/{_quoted(arguments.job)}")
    if arguments.json:
        tables.document(job)
        return
    if arguments.facts:
        heading = ("meter", "quantity", "unit", "source", "by")
        tables.table(heading, [[fact[name] for name in heading] for fact in job.get("facts", ())])
        return
    _tell(job)
    tables.table(("state", "at"), [(event["state"], event["at"]) for event in job["history"]])
    _tell_route(job["route"])
    _tell_fragments(job.get("fragments", ()))


def _tell_fragments(fragments: Sequence[dict[str, Any]]) -> None:
    """What became of a network job's fragments, a line an attempt, where it has no result that says so."""
    from control_plane import tables

    rows = []
    for one in fragments:
        name, status = one["fragment_id"], one["status"]
        for attempt in one["attempts"] or ({"node": None, "status": None, "error": one["error"]},):
            error = attempt["error"]
            said = f"{error['code']}: {error['detail']}" if error is not None else None
            rows.append((name, status, attempt["node"], attempt["status"], said))
    if rows:
        tables.table(("fragment", "status", "node", "attempt", "error"), rows)


def _tell_route(route: list[dict[str, Any]]) -> None:
    from control_plane import tables

    several = any(line["attempt"] > 1 for line in route)
    heading = ("backend", "verdict", "reason", "price", "queue s", "attempt")
    rows = [(r["backend"], r["verdict"], r["reason"], r["price"], r["queue_s"], r["attempt"]) for r in route]
    tables.table(heading[: 6 if several else 5], [row[: 6 if several else 5] for row in rows])


def _signal(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    if arguments.sign:
        job = _signed_about(arguments, arguments.action)
    else:
        job = plane().ask("POST", f"/api/v1/jobs/{_quoted(arguments.job)}/{arguments.action}")
    if arguments.json:
        tables.document(job)
    else:
        _tell(job)


def _settle(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    asked = {"outcome": "released" if arguments.released else "charged", "reason": arguments.reason}
    if not arguments.released:
        asked["amount"] = arguments.charged
    job = plane().ask("POST", f"/api/v1/jobs/{_quoted(arguments.job)}/settle", asked)
    if arguments.json:
        tables.document(job)
    else:
        _tell(job)


def _result(arguments: argparse.Namespace) -> None:
    import sys

    from control_plane import tables

    if arguments.file is not None or arguments.output is not None:
        _file(arguments)
        return
    if arguments.sign:
        result = _signed_about(arguments, "result")
    else:
        result = plane().ask("GET", f"/api/v1/jobs/{_quoted(arguments.job)}/result")
    if arguments.json:
        tables.document(result)
        return
    measured = result["quantum_result"]
    if "items" not in measured:
        _histogram(measured["counts"])
    for refused in measured.get("refused", ()):
        sys.stderr.write(f"not given: {refused['field']}: {refused['reason']}\n")
    for file in measured.get("files", ()):
        sys.stderr.write(f"in a file: {file['of']}: qcos result {arguments.job} --file {file['name']} -o FILE\n")
    if "observable_expectations" in measured:
        _expectations(measured["observable_expectations"])
    if "items" in measured and not any(one["basis"] for one in measured["items"]):
        head = ("item", "circuit", "parameters", "bits", "count")
        rows = [
            (one["item"], one["circuit"], one["parameters"], bits, n)
            for one in measured["items"]
            for bits, n in sorted(one.get("counts", {}).items())
        ]
        tables.table(head, rows)


def _file(arguments: argparse.Namespace) -> None:
    import sys

    from control_plane import tables
    from control_plane.errors import Refused

    if arguments.file is None or arguments.output is None:
        raise Refused("usage", "--file NAME and -o FILE go together")
    path = f"/api/v1/jobs/{_quoted(arguments.job)}/result/files/{_quoted(arguments.file)}"
    _, data = plane().raw("GET", path, headers={"Accept": "*/*"})
    if str(arguments.output) == "-":
        sys.stdout.buffer.write(data)
        return
    write(arguments.output, data)
    if arguments.json:
        tables.document({"job_id": arguments.job, "file": str(arguments.output), "bytes": len(data)})
    else:
        tables.facts([("file", str(arguments.output)), ("bytes", len(data))])


def _histogram(counts: dict[str, int]) -> None:

    from control_plane import tables

    most = max(counts.values(), default=1)
    rows = sorted(counts.items())
    tables.table(("bits", "count"), rows, [tables.bar(most, n) for _, n in rows])


def _expectations(values: list[dict[str, Any]]) -> None:
    from control_plane import tables

    rows = []
    for one in values:
        error = one.get("standard_error")
        figures = (f"{one['value']:.6f}", "" if error is None else f"{error:.6f}")
        rows.append((one["observable"], one["circuit"], one["parameters"], *figures, one.get("shots"), one["label"]))
    tables.table(("observable", "circuit", "parameters", "value", "standard error", "shots", "label"), rows)


def _quoted(job: str) -> str:
    from urllib.parse import quote

    return quote(job, safe="")
