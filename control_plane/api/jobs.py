# SPDX-License-Identifier: Apache-2.0
"""Submit, look, wait, cancel, hold, resume; results and evidence; the live view (G1, N9, N17)."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, WebSocket, get, post, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, HeaderParameter, QueryParameter

from control_plane import telemetry
from control_plane.api.shapes import Answers, Bytes, JobListed, JobShown, Result, Submitted
from control_plane.aside import aside
from control_plane.auth.access import may, require, visible
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import evidence, meaning, reading, store, uncertain, view
from control_plane.jobs import spec as specs
from control_plane.jobs.admit import Admission, admit, shown_state
from control_plane.jobs.control import signal
from control_plane.jobs.envelope import Envelope, Signal, Submit
from control_plane.jobs.live import Leaving, Live, Watch
from control_plane.jobs.state import State
from control_plane.strict import decode, want_json
from ledger.canonical import timestamp

MAX_KEY = 200
PAGE = 100
# The last job of a page: when it was submitted, in microseconds, and its id.
CURSOR = r"^[0-9]{16}\.[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_EPOCH, _TICK = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
SEAL_LOOK_S = 0.02


_ADMISSION = (
    "spec_invalid",
    "circuit_invalid",
    "circuit_too_complex",
    "program_unsupported",
    "format_disabled",
    "policy_denied",
    "budget_exceeded",
    "budget_missing",
    "unknown_price",
    "max_price_exceeded",
    "backends_unavailable",
    "duplicate_job_id",
    "idempotency_conflict",
    "denial_quota",
    "policy_unavailable",
    "sealing_stalled",
    "clock_stepped_back",
    "clock_skewed",
    "head_unwritable",
    "ledger_rollback",
)
_LINKS = ("get job", "result", "evidence", "cancel", "hold", "resume")
_BUNDLE = Bytes(
    "application/json",
    {
        "type": "object",
        "description": "docs/evidence-format.md has every member.",
        "required": ["bundle_id", "job_id", "input_hash", "execution_metadata", "governance_record", "signatures"],
    },
)
_FILE = Bytes("application/octet-stream", {"type": "string", "format": "binary"})
# Not `| None`: the text `null` would be read as one.
Wait = Annotated[
    float,
    QueryParameter(name="wait", ge=0, le=300, description="Seconds to wait for the end.", schema_extra={"minimum": 0}),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", min_length=1, max_length=MAX_KEY, pattern=r"^[!-~]+$"),
]


@post(
    ["/jobs", "/circuits/submit"],
    status_code=202,
    opt={
        "action": "job:submit",
        "query": ("dry_run", "wait"),
        "answers": Answers(
            {200: [JobShown, Submitted], 202: [Submitted, JobShown]},
            refusals=_ADMISSION,
            body=specs.JobSpec,
            links=_LINKS,
        ),
    },
    summary="Submit a job spec",
)
async def submit(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, QueryParameter(description="Price and decide; write nothing.")] = False,
    wait: Wait = 0,
) -> Response[Any]:
    """Admit a job: 202 with its id; 403 with the reasons of a denial."""
    want_json(request.headers.get("content-type", ""))
    body = await request.body()
    payload = Submit(
        spec=await aside(len(body), reading.parse, body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        idempotency_key=idempotency_key,
        dry_run=dry_run,
    )
    envelope = Envelope(request.user, payload, plane.now(), request.state.request_id)
    async with plane.lanes.turn(request.user) as turn:
        admission = await admit(plane, envelope, payload)
        turn.refused = admission.problem is not None and not admission.advisory
    decided = admission.decision
    telemetry.bind(job_id=admission.job_id or None, decision_id=decided.id if decided is not None else None)
    if admission.advisory:
        return Response(view.submitted(admission), status_code=200)
    if admission.problem is not None:
        raise await _denial(plane, request.user, admission, wait)
    if not wait and not admission.repeated:
        return Response(view.submitted(admission), status_code=202)
    row = await _await_end(plane, live, request.user, admission.job_id, wait)
    return Response(view.shown(row), status_code=200 if shown_state(row) in view.ENDED else 202)


async def _denial(plane: Plane, principal: Principal, admission: Admission, wait_s: float) -> Refused:
    """The refusal with its reasons; with a wait, once its evidence can be had, as the end of any other job."""
    clock = asyncio.get_running_loop().time
    until = clock() + min(wait_s, plane.settings.wait_limit_s)
    while True:
        (rows,) = await plane.read(principal.tenant, store.find(admission.job_id))
        row = rows[0] if rows else None
        if row is None or row["ready"] or clock() >= until:
            break
        await asyncio.sleep(SEAL_LOOK_S)
    if row is None or admission.problem is None:
        raise Refused("internal", "the denial could not be read back")
    decision = row["decision"]
    reasons = decision["reasons"] or [
        {
            "code": admission.problem,
            "level": "hard",
            "message": row["error"]["detail"],
            "rule": "plane:hold",
        }
    ]
    extras = {
        "job_id": admission.job_id,
        "state": "DENIED",
        "decision_id": decision["id"],
        "decision": {name: decision[name] for name in ("id", "allow", "checks", "reasons", "policy_revision")},
        "reasons": reasons,
    }
    detail = f"{admission.job_id}: " + "; ".join(_why(reason) for reason in reasons)
    return Refused(admission.problem, detail, extras=extras)


def _why(reason: Mapping[str, Any]) -> str:
    text = f"{reason['message']} ({reason['rule']})"
    return f"{text}; {reason['fix']}" if reason.get("fix") else text


@get(
    "/jobs",
    opt={
        "action": "job:read",
        "query": ("cursor", "limit", "project", "state", "workflow"),
        "answers": Answers(
            {200: tuple[JobListed, ...]}, headers={"X-Next-Cursor": "The next page's `cursor`, where there is one."}
        ),
    },
    summary="List jobs, newest first",
)
async def list_jobs(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    in_state: Annotated[State | None, QueryParameter(name="state")] = None,
    project: Annotated[str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$")] = None,
    workflow: Annotated[
        str | None, QueryParameter(max_length=128, pattern=r"^[^\x00]*$", description="The steps of this one.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = PAGE,
    cursor: Annotated[
        str | None, QueryParameter(max_length=400, pattern=CURSOR, description="Of the page before.")
    ] = None,
) -> Response[Any]:
    """A page of the jobs that the caller may see; `Link`'s cursor leads to the next."""
    if in_state is None and "state" in request.query_params:
        raise Refused("request_invalid", "state: null", errors=({"field": "state", "message": "null"},))
    projects = visible(request.user, "job:read")
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.page(
            conn,
            limit=limit + 1,
            projects=sorted(projects) if projects is not None else None,
            subject=None,
            state=in_state,
            project=project,
            workflow=workflow,
            before=_from_cursor(cursor),
        )
    headers = {}
    if len(rows) > limit:
        headers["X-Next-Cursor"] = _to_cursor(rows[limit - 1])
    return Response([view.listed(row) for row in rows[:limit]], headers=headers)


def _to_cursor(row: evidence.Row) -> str:
    return f"{(row['submitted_at'] - _EPOCH) // _TICK:016}.{row['job_id']}"


def _from_cursor(cursor: str | None) -> tuple[dt.datetime, str] | None:
    """The place that a cursor names; what its pattern let through is one."""
    if cursor is None:
        return None
    ticks, _, job_id = cursor.partition(".")
    return _EPOCH + int(ticks) * _TICK, job_id


@get(
    "/jobs/{job_id:str}",
    opt={"action": "job:read", "query": ("wait",), "answers": Answers({200: JobShown})},
    summary="Show a job",
)
async def show(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
    wait: Wait = 0,
) -> Response[Any]:
    """The job with its decision, history, route and cost; `wait` returns when it has ended, or the time is over."""
    row = await _await_end(plane, live, request.user, job_id, wait)
    return Response(view.shown(row))


@get(
    "/jobs/{job_id:str}/result",
    opt={
        "action": "result:read",
        "answers": Answers({200: Result}, refusals=("evidence_pending", "no_result", "content_erased")),
    },
    summary="The result of a completed job",
)
async def result(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str]
) -> Response[Any]:
    """Counts in Qiskit's order; 409 `evidence_pending` until the evidence is sealed (I1)."""
    row = await _ended_with_result(plane, request.user, job_id)
    raw, execution, analysis = await _read(plane, row, ("result", "execution", "analysis"))
    return Response(meaning.payload(job_id, raw, execution, analysis))


async def _read(plane: Plane, row: evidence.Row, names: tuple[str, ...]) -> list[Any]:
    """Artefacts of an ended job that are JSON; None for one that it doesn't have. One circuit's needs no second."""
    kept = [name for name in names if name in row["artefacts"]]
    if "compiled.json" not in row["artefacts"]:
        kept = [name for name in kept if name != "execution"]
    async with plane.transaction(row["tenant"]) as conn:
        opened = await plane.vault.read_all(conn, row["tenant"], [row["artefacts"][name] for name in kept])
    found = {name: msgspec.json.decode(one.content) for name, one in zip(kept, opened, strict=True)}
    return [found.get(name) for name in names]


async def _ended_with_result(plane: Plane, principal: Principal, job_id: str) -> evidence.Row:
    row = await _find(plane, principal, job_id, "result:read")
    state = shown_state(row)
    if state not in view.ENDED:
        raise Refused("evidence_pending", f"the job is {state}; its result is given once its evidence is sealed")
    if row["result_blob"] is None:
        raise Refused("no_result", f"the job ended {state} without a result")
    return row


@get(
    "/jobs/{job_id:str}/result/files/{name:str}",
    opt={
        "action": "result:read",
        "answers": Answers({200: _FILE}, refusals=("evidence_pending", "no_result", "content_erased")),
    },
    media_type="application/octet-stream",
    summary="A part of the result that is too large to stand in it",
)
async def result_file(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str], name: FromPath[str]
) -> Response[bytes]:
    """Counts as JSON, states and probabilities as NumPy arrays: what the result names in `files`."""
    row = await _ended_with_result(plane, request.user, job_id)
    kept = row["artefacts"]
    if name == meaning.COUNTS_FILE:
        (raw,) = await _read(plane, row, ("result",))
        return Response(msgspec.json.encode(meaning.counts_file(raw)), media_type="application/octet-stream")
    if not name.endswith(".npy") or name not in kept:
        raise Refused("not_found", f"the result of {job_id} has no file {name[:64]}")
    async with plane.transaction(row["tenant"]) as conn:
        opened = await plane.vault.read(conn, row["tenant"], kept[name])
    return Response(opened.content, media_type="application/octet-stream")


@get(
    "/jobs/{job_id:str}/evidence",
    opt={
        "action": "evidence:read",
        "answers": Answers({200: _BUNDLE}, refusals=("evidence_pending", "content_erased", "not_in_log")),
    },
    media_type="application/json",
    summary="The signed evidence bundle",
)
async def bundle(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str]
) -> Response[bytes]:
    """The bundle file, canonical JSON; verify it offline with `qcos verify`."""
    row = await _find(plane, request.user, job_id, "evidence:read")
    async with plane.transaction(request.user.tenant) as conn:
        data = await evidence.bundle(plane, conn, row)
    return Response(data, media_type="application/json")


def _control(sent: Signal, action: str, summary: str) -> HTTPRouteHandler:
    @post(
        f"/jobs/{{job_id:str}}/{sent}",
        status_code=202,
        opt={
            "action": "job:read",
            "answers": Answers({202: JobShown}, refusals=("too_late", "transition_refused", "content_erased")),
        },
        summary=summary,
    )
    async def control(
        request: Request[Principal, Any, Any],
        plane: NamedDependency[Plane],
        live: NamedDependency[Live],
        job_id: FromPath[str],
    ) -> Response[Any]:
        """Apply the signal; the answer shows the job as it is then."""
        row = await _find(plane, request.user, job_id, "job:read")
        require(request.user, action, row["project"])
        await signal(plane, request.user, sent, job_id)
        live.ring()
        return Response(
            view.shown(await _find(plane, request.user, job_id, "job:read")),
            status_code=202,
        )

    return control


@post(
    "/jobs/{job_id:str}/settle",
    status_code=200,
    opt={
        "action": "job:settle",
        "answers": Answers(
            {200: JobShown},
            refusals=("transition_refused", "hold_closed", "amount_invalid"),
            body=uncertain.Settling,
        ),
    },
    summary="Settle a job whose outcome nobody knows",
)
async def settle(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> Response[Any]:
    """Release its parked hold, or charge up to it, once; the answer shows the job as it is then."""
    want_json(request.headers.get("content-type", ""))
    asked = decode(await request.body(), uncertain.decoder, code="request_invalid")
    row = await _find(plane, request.user, job_id, "job:read")
    require(request.user, "job:settle", row["project"])
    await uncertain.settle(plane, request.user, row, asked)
    live.ring()
    return Response(view.shown(await _find(plane, request.user, job_id, "job:read")))


@websocket("/jobs/{job_id:str}/events", opt={"action": "job:read"})
async def events(
    socket: WebSocket[Principal, Any, Any],
    plane: NamedDependency[Plane],
    live: NamedDependency[Live],
    job_id: FromPath[str],
) -> None:
    """Each move of the job as {seq, state, at}, from the first on; closes after the last."""
    try:
        row = await _find(plane, socket.user, job_id, "job:read")
    except Refused as refused:
        socket.state.refused = refused
        raise
    await socket.accept()
    told = 0
    heard = asyncio.ensure_future(socket.receive())
    try:
        async with live.watch(socket.user.tenant, job_id, each_move=True) as watch:
            while True:
                for event in row["history"][told:]:
                    await socket.send_json(event)
                told = len(row["history"])
                state = shown_state(row)
                if state in view.ENDED:
                    if row["outcome_entry"] is not None:
                        at = timestamp(plane.now())
                        await socket.send_json({"seq": row["seq"] + 1, "state": state, "at": at})
                    await socket.close()
                    return
                if not await _news(watch, heard):
                    break
                row = await _find(plane, socket.user, job_id, "job:read")
        await socket.close(code=1003, reason="this socket tells and hears nothing")
    except (WebSocketDisconnect, Leaving):  # leaving, the server has closed the socket with 1012
        return
    finally:
        heard.cancel()


async def _news(watch: Watch, heard: asyncio.Future[Any]) -> bool:
    """Wait for news of the job; False where the peer said something before: that it leaves, or what nobody asked."""
    changed = asyncio.ensure_future(watch.changed())
    try:
        await asyncio.wait({changed, heard}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            await changed
    finally:
        changed.cancel()
    if heard.done() and heard.result()["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(detail="the peer has left")
    return not heard.done()


async def _find(plane: Plane, principal: Principal, job_id: str, action: str) -> evidence.Row:
    """The job's row; what the caller may not see doesn't exist (I7)."""
    (rows,) = await plane.read(principal.tenant, store.find(job_id)) if "\x00" not in job_id else ([],)
    if not rows or not may(principal, action, rows[0]["project"]):
        raise Refused("not_found", f"no job {job_id}")
    telemetry.about(rows[0])
    return rows[0]


async def _await_end(plane: Plane, live: Live, principal: Principal, job_id: str, wait_s: float) -> evidence.Row:
    row = await _find(plane, principal, job_id, "job:read")
    if not wait_s or shown_state(row) in view.ENDED:
        return row
    return await _ended(plane, live, principal, job_id, wait_s)


async def _ended(plane: Plane, live: Live, principal: Principal, job_id: str, wait_s: float) -> evidence.Row:
    """The job once it has ended, or the time is over; the caller has seen to it that the principal may see it."""
    try:
        async with (
            asyncio.timeout(min(wait_s, plane.settings.wait_limit_s)),
            live.watch(principal.tenant, job_id) as watch,
        ):
            while (await watch.changed())[1] not in view.ENDED:
                pass
    except (TimeoutError, Leaving):
        pass
    return await _find(plane, principal, job_id, "job:read")


HANDLERS = (
    submit,
    list_jobs,
    show,
    result,
    result_file,
    bundle,
    _control("cancel", "job:cancel", "Cancel a job"),
    _control("hold", "job:hold", "Hold a queued job"),
    _control("resume", "job:hold", "Let a held job go on"),
    settle,
    events,
)
