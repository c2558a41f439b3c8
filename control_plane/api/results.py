# SPDX-License-Identifier: Apache-2.0
"""What a job leaves: its result, the parts that are too large to stand in it, its evidence (I1, N15)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from control_plane.api import artefacts
from control_plane.api.jobs import find
from control_plane.api.result_shapes import Result
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.formats import Format
from control_plane.jobs import divided, evidence, meaning, view
from control_plane.jobs.admit import shown_state
from control_plane.jobs.formats import FORMS

_BUNDLE = {
    "type": "object",
    "description": "docs/evidence-format.md has every member.",
    "required": ["bundle_id", "job_id", "input_hash", "execution_metadata", "governance_record", "signatures"],
}
_SIGSTORE = {
    "type": "object",
    "description": "A Sigstore bundle v0.3 of one signature: ECDSA P-256, or the ML-DSA-65 twin.",
    "required": ["mediaType", "dsseEnvelope", "verificationMaterial"],
}
# What the document says of each form's file.
_PDF = {"type": "string", "format": "binary", "description": "A signed page for people, the bundle attached."}
_SHAPES: dict[Format, dict[str, Any]] = {
    "bundle": _BUNDLE,
    "tlog-proof": {"type": "string", "description": "C2SP tlog-proof@v1 of the job's entry."},
    "pdf": _PDF,
}
_SHAPES |= dict.fromkeys(("sigstore", "sigstore-mldsa"), _SIGSTORE)
_FORMS = [Bytes(form.media_type, _SHAPES[name]) for name, form in FORMS.items()]
_FILE = Bytes("application/octet-stream", {"type": "string", "format": "binary"})
_FORM_REFUSALS = (
    *("evidence_pending", "content_erased", "not_in_log", "form_unsigned", "form_unlogged"),
    "document_failed",
)
_REFUSALS = ("evidence_pending", "no_result", "content_erased")


@get(
    "/jobs/{job_id:str}/result",
    opt={
        "action": "result:read",
        "answers": Answers({200: Result}, refusals=_REFUSALS),
    },
    summary="The result of a completed job",
)
async def result(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str]
) -> Response[Any]:
    """Counts in Qiskit's order; 409 `evidence_pending` until the evidence is sealed (I1)."""
    return await given(plane, request.user, job_id)


async def given(plane: Plane, principal: Principal, job_id: str) -> Response[Any]:
    """The result of a job that the principal may have."""
    row = await _ended_with_result(plane, principal, job_id)
    names = ("result", "execution", "analysis", "plan", "network")
    raw, execution, analysis, plan, network = await artefacts.read(plane, row, names)
    shown = meaning.payload(job_id, raw, execution, analysis)
    if plan is not None and network is not None:
        shown["plan"] = divided.drawn(plan)
        shown["fragment_results"] = divided.fragment_results(plan, network)
        shown["quantum_result"]["fidelity_estimate"] = divided.estimate(plan, network)
    return Response(shown)


async def _ended_with_result(plane: Plane, principal: Principal, job_id: str) -> evidence.Row:
    row = await find(plane, principal, job_id, "result:read")
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
        "answers": Answers({200: _FILE}, refusals=_REFUSALS),
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
        (raw,) = await artefacts.read(plane, row, ("result",))
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
        "query": ("format",),
        "answers": Answers({200: _FORMS}, refusals=_FORM_REFUSALS),
    },
    media_type="application/json",
    summary="The evidence of a job that has ended",
)
async def bundle(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    job_id: FromPath[str],
    format: Annotated[Format, QueryParameter(description="The form of the file.")] = "bundle",  # noqa: A002 - its word
) -> Response[bytes]:
    """The signed bundle file, canonical JSON, to be verified offline with `qcos verify`; or what `format` names."""
    row = await find(plane, request.user, job_id, "evidence:read")
    form = FORMS[format]
    return Response(await form.make(plane, row), media_type=form.media_type)


HANDLERS = (result, result_file, bundle)
