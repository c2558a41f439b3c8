# SPDX-License-Identifier: Apache-2.0
"""Requests under the sender's own signature: a job, a control signal or a query, in one envelope (S1).

The door knows the sender by their credentials; the signature is checked apart from them. Then the request goes the way
that it goes unsigned: the same rights, the same pipeline, the same answers. An envelope is used up before what it asks
for is done: an answer that was lost is asked for with a new one, and an idempotency key keeps a job from being
submitted twice.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from msgspec import Struct

from control_plane.api import artefacts, jobs, results, submission
from control_plane.api.job_shapes import JobShown
from control_plane.api.jobs import Wait
from control_plane.api.result_shapes import Result
from control_plane.api.shapes import Answers, Bytes, Submitted
from control_plane.auth.access import admits
from control_plane.auth.errors import Forbidden
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.jobs.live import Live
from control_plane.jobs.spec import JobId
from control_plane.signing import opened as signing
from control_plane.signing.opened import Opened
from control_plane.strict import decode
from ledger.asked import Submission
from ledger.asker import Form
from ledger.envelope import Kind

FORMS: dict[str, Form] = {"application/jose": "jose", "application/cose": "cose"}
ACTIONS: dict[Kind, str] = {
    "submit": "job:submit",
    "cancel": "job:cancel",
    "hold": "job:hold",
    "resume": "job:hold",
    "show": "job:read",
    "result": "result:read",
}
_TAKES = (
    Bytes("application/jose", {"type": "string", "description": "A JWS in compact form (RFC 7515)."}),
    Bytes("application/cose", {"type": "string", "format": "binary", "description": "A COSE_Sign1 (RFC 9052)."}),
)
_REFUSALS = (
    *submission.ADMISSION,
    *("envelope_invalid", "envelope_refused", "envelope_replayed", "signing_key_unknown", "signing_key_revoked"),
    *("not_found", "too_late", "transition_refused", "content_erased", "evidence_pending", "no_result"),
)


class _OfJob(Struct, frozen=True, forbid_unknown_fields=True):
    job_id: JobId


_submission = msgspec.json.Decoder(Submission)
_of_job = msgspec.json.Decoder(_OfJob)


@post(
    "/envelopes",
    status_code=202,
    opt={
        "action": "whoami",  # what its kind needs is asked for below
        "query": ("wait",),
        "answers": Answers({200: [JobShown, Submitted, Result], 202: [Submitted, JobShown]}, _REFUSALS, takes=_TAKES),
    },
    summary="Send a signed request",
)
async def receive(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], live: NamedDependency[Live], wait: Wait = 0
) -> Response[Any]:
    """Submit, cancel, hold, resume, show or result: answered as the same request without a signature."""
    form = _form(request.headers.get("content-type", ""))
    found = await signing.opened(plane, request.user, form, await request.body())
    kind = found.said.kind
    action = ACTIONS.get(kind)
    if action is None:
        raise Refused("envelope_invalid", f"kind {kind} isn't sent here")
    if not admits(request.user, action):
        raise Forbidden(action)
    if kind == "submit":
        return await _submit(request, plane, live, found, wait)
    return await _about(request.user, plane, live, found, decode(bytes(found.said.body), _of_job, code=_CODE).job_id)


_CODE = "envelope_invalid"


async def _submit(
    request: Request[Principal, Any, Any], plane: Plane, live: Live, found: Opened, wait: float
) -> Response[Any]:
    asked = decode(bytes(found.said.body), _submission, code=_CODE)
    key = asked.idempotency_key
    if key is not None and not submission.is_key(key):
        raise Refused(_CODE, "body.idempotency_key: 1 to 200 printable letters without spaces")
    payload = await submission.payload(bytes(asked.spec), key, dry_run=asked.dry_run, signature=found.signature)
    await signing.use(plane, request.user, found)
    return await submission.submitted(request, plane, live, payload, wait)


async def _about(principal: Principal, plane: Plane, live: Live, found: Opened, job_id: str) -> Response[Any]:
    match found.said.kind:
        case "cancel" | "hold" | "resume" as sent:
            await jobs.steerable(plane, principal, job_id, ACTIONS[sent])
            await signing.use_kept(plane, principal, found, job_id)
            return await jobs.steered(plane, live, principal, sent, job_id)
        case "result":
            await signing.use(plane, principal, found)
            answer = await results.given(plane, principal, job_id)
            answer.status_code = 200
            return answer
        case _:
            await signing.use(plane, principal, found)
            row = await jobs.find(plane, principal, job_id, "job:read")
            return Response(await artefacts.job(plane, row), status_code=200)


def _form(content_type: str) -> Form:
    kind, *rest = (part.strip().lower() for part in content_type.split(";"))
    form = FORMS.get(kind)
    if form is None or (rest and (form, rest) != ("cose", ['cose-type="cose-sign1"'])):
        raise Refused("unsupported_media_type", f"wanted {' or '.join(FORMS)}, got {kind or 'no content type'}"[:200])
    return form


HANDLERS: tuple[Any, ...] = (receive,)
