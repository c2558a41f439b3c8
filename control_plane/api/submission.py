# SPDX-License-Identifier: Apache-2.0
"""Submit a job spec: admitted, denied with its reasons, or only priced and judged (G1, N17)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter

from control_plane import telemetry
from control_plane.api import artefacts
from control_plane.api.job_shapes import JobShown
from control_plane.api.jobs import Wait, await_end
from control_plane.api.shapes import Answers, Submitted
from control_plane.aside import aside
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs import reading, store, view
from control_plane.jobs import spec as specs
from control_plane.jobs.admit import Admission, admit, shown_state
from control_plane.jobs.envelope import Envelope, Signature, Submit
from control_plane.jobs.live import Live
from control_plane.strict import want_json

MAX_KEY = 200
SEAL_LOOK_S = 0.02
ADMISSION = (
    "spec_invalid",
    "circuit_invalid",
    "circuit_too_complex",
    "program_unsupported",
    "format_disabled",
    "policy_denied",
    "budget_exceeded",
    "quota_exceeded",
    "budget_missing",
    "project_closed",
    "unknown_price",
    "max_price_exceeded",
    "backends_unavailable",
    "duplicate_job_id",
    "idempotency_conflict",
    "denial_quota",
    "tenant_quota_exceeded",
    "tenant_queue_full",
    "policy_unavailable",
    "sealing_stalled",
    "clock_stepped_back",
    "clock_skewed",
    "head_unwritable",
    "ledger_rollback",
)
LINKS = ("get job", "result", "evidence", "cancel", "hold", "resume")
_KEY = r"^[!-~]+$"
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", min_length=1, max_length=MAX_KEY, pattern=_KEY),
]


def is_key(text: str) -> bool:
    """Whether this may be an idempotency key."""
    return len(text) <= MAX_KEY and re.fullmatch(_KEY[1:-1], text) is not None


@post(
    ["/jobs", "/circuits/submit"],
    status_code=202,
    opt={
        "action": "job:submit",
        "where": "project",
        "absent": "budget_missing",
        "query": ("dry_run", "wait"),
        "answers": Answers(
            {200: [JobShown, Submitted], 202: [Submitted, JobShown]},
            refusals=ADMISSION,
            body=specs.JobSpec,
            links=LINKS,
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
    return await submitted(request, plane, live, await payload(body, idempotency_key, dry_run=dry_run), wait)


async def payload(
    body: bytes, idempotency_key: str | None, *, dry_run: bool, signature: Signature | None = None
) -> Submit:
    """What these bytes of a job spec ask for."""
    return Submit(
        spec=await aside(len(body), reading.parse, body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        idempotency_key=idempotency_key,
        dry_run=dry_run,
        signature=signature,
    )


async def submitted(
    request: Request[Principal, Any, Any], plane: Plane, live: Live, payload: Submit, wait: float
) -> Response[Any]:
    """Admit a job, and answer as it was asked for."""
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
    row = await await_end(plane, live, request.user, admission.job_id, wait)
    return Response(await artefacts.job(plane, row), status_code=200 if shown_state(row) in view.ENDED else 202)


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
    refused = [] if decision["reasons"] and not decision["allow"] else _of_the_plane(row["error"])
    reasons = [*decision["reasons"], *refused]
    extras = {
        "job_id": admission.job_id,
        "state": "DENIED",
        "decision_id": decision["id"],
        "decision": {name: decision[name] for name in ("id", "allow", "checks", "reasons", "policy_revision")},
        "reasons": reasons,
    }
    detail = f"{admission.job_id}: " + "; ".join(_why(reason) for reason in reasons)
    errors = tuple({"field": "governance", "message": reason["message"]} for reason in refused if "budget" in reason)
    return Refused(admission.problem, detail, extras=extras, errors=errors)


def _of_the_plane(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The reasons of a denial that no policy spoke: a limit of the tenant, or each budget that had too little."""
    reason = {"code": error["code"], "level": "hard", "message": error["detail"]}
    if "budgets" not in error:
        return [reason | {"rule": "plane:tenant" if error["code"] == "tenant_quota_exceeded" else "plane:hold"}]
    return [
        reason
        | {
            "message": f"{short['scope']} ({short['period']}) has {short['available']} {short['currency']} left "
            f"of {short['limit']}, {short['asked']} asked",
            "rule": "plane:hold",
            "want": f"at most {short['available']} {short['currency']}",
            "have": f"{short['asked']} {short['currency']}",
            "fix": "wait for what runs, submit less, or have the budget raised",
            "budget": short,
        }
        for short in error["budgets"]
    ]


def _why(reason: Mapping[str, Any]) -> str:
    text = f"{reason['message']} ({reason['rule']})"
    return f"{text}; {reason['fix']}" if reason.get("fix") else text


HANDLERS = (submit,)
