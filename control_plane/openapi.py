# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: Litestar's paths and parameters, and of our own what each operation answers and takes.

Enters the app; leaves the bytes of `docs/openapi.json`, which `/api/v1/openapi.json` serves. Each route names its
answers in `opt["answers"]`; what the door may refuse on any route is added here, from the same table of codes that
makes the problems, so that a status, a media type or a code that isn't in the document is a fault that a test finds.
Out of it on purpose: the development issuer (`/issuer`), which no other profile has; the document itself; and the
WebSockets, which OpenAPI can't say and the description names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from control_plane.answers import PROBLEM
from control_plane.api import shapes
from control_plane.api.shapes import Answers, Bytes
from control_plane.codes import CODES
from control_plane.jobs import schema

REFERENCE = "#/components/schemas/{name}"
JSON = "application/json"
# What is refused before a route's handler is reached, on every route and on those that want somebody signed in.
ANYWHERE = (
    "request_invalid",
    "unsupported_media_type",
    "headers_too_large",
    "request_timeout",
    "internal",
    "database_unusable",
)
SIGNED_IN = (
    "token_missing",
    "token_invalid",
    "token_expired",
    "forbidden",
    "tenant_unknown",
    "person_removed",
    "tenant_closed",
    "rate_limited",
    "identity_unavailable",
)
WITH_BODY = ("body_too_large", "malformed_json")
# A refusal that comes from a decision carries it.
DENIALS = frozenset({"policy_denied", "budget_exceeded", "budget_missing", "unknown_price"})
# A reservation that came to nothing is named, and a window that is taken says when the next one is free.
UNRESERVED = frozenset({"node_unusable", "node_unreachable", "window_taken"})
DESCRIPTION = (
    "Every quantum execution as a governed transaction. Errors are problem documents (RFC 9457) with a stable `code`. "
    "Beside these requests the WebSocket /api/v1/jobs/{job_id}/events sends each move of a job as {seq, state, at}, "
    "and /api/v1/discovery/network/topology/events the network's topology, anew at each change."
)
# A body that is taken as it stands on a new plane of profile `dev`; of policies an excerpt, which is refused.
EXAMPLES: dict[str, dict[str, Any]] = {
    "Accepting": {"reason": "the contract says that m adds"},
    "Card2": {
        "version": 2,
        "name": "example",
        "revision": 1,
        "currency": "USD",
        "source": "a contract",
        "source_date": "2026-11-01",
        "effective_from": "2026-11-01",
        "precision": "0.0001",
        "rounding": "half_even",
        "prices": [
            {
                "provider": "example",
                "device": "*",
                "lines": [{"meter": "shots", "unit": "Shots", "rate": "0.0001"}],
            }
        ],
    },
    "Closing": {"reason": "month end"},
    "Correcting": {"amount": "-1.25", "currency": "USD", "reason": "billed twice", "project": "demo"},
    "Crediting": {"project": "demo", "amount": "25", "currency": "USD", "reason": "goodwill"},
    "Method": {
        "version": 1,
        "name": "2026",
        "rules": [{"pool": "platform", "by": "spend"}],
        "defaults": {"demo": "CC-1"},
    },
    "ChargesAsked": {
        "jobs": ["qcos-job-2026-01-01-000000000000"],
        "entries": ["00000000-0000-4000-8000-000000000000"],
    },
    "Refunding": {"job_id": "qcos-job-2026-01-01-000000000000", "reason": "the backend was out of order"},
    "Sharing": {"pool": "platform", "amount": "100", "currency": "USD", "reason": "fee of the month"},
    "DeviceCode": {"device_code": "dG9sZC1vbmx5LXRvLXRoZS1jb21tYW5kLXRoYXQtYXNrZWQ"},
    "JobSpec": {
        "circuit": {
            "format": "QASM3",
            "source": "T1BFTlFBU00gMy4wOwppbmNsdWRlICJzdGRnYXRlcy5pbmMiOwpiaXRbMl0gYzsKcXViaXRbMl0gcTsKaCBxWzBdOwpj"
            "eCBxWzBdLCBxWzFdOwpjID0gbWVhc3VyZSBxOwo=",
        },
        "execution": {"shots": 1000},
        "governance": {"project": "demo", "classification": "internal", "purpose": "benchmark"},
    },
    "PushRequest": {
        "files": {"data/limits.json": '{"limits": {}}\n', "qcos/quota/shots.rego": "package qcos.quota\n"},
        "message": "fewer shots a day",
    },
    "ShadowRequest": {
        "files": {"data/limits.json": '{"limits": {}}\n', "qcos/quota/shots.rego": "package qcos.quota\n"},
        "message": "would fewer shots a day deny anything?",
    },
    "Reconciling": {
        "invoice": "dGFzayxtZXRlcixxdWFudGl0eSx1bml0LGFtb3VudCxjdXJyZW5jeSxzdGFydAphcm46dGFzay8xLHNo"
        "b3RzLDEwMDAsU2hvdHMsMS40NSxVU0QsMjAyNi0xMC0wM1QxMDowMDowMFoK",
        "provider": "aws-braket",
    },
    "BudgetRequest": {"scope": "project:demo", "amount": "1000.00", "currency": "USD", "period": "monthly"},
    "Proposal": {
        "peer_id": "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "organisation": "Lab A",
        "region": "eu-west",
        "compliance_zone": "onprem",
        "sovereign": True,
        "price_per_fragment": "0.05",
        "price_per_shot": "0.0001",
        "currency": "USD",
    },
    "WindowAsked": {
        "node_id": "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "services": ["bell_pair", "measurement_feedforward"],
        "duration_s": 60,
        "governance": {"project": "demo", "classification": "internal", "purpose": "maintenance"},
    },
    "Asked": {"action": "approve"},
    # A proof is good for minutes: this one is out of date, and refused.
    "Enrolling": {
        "name": "work laptop",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        "proof": "eyJhbGciOiJFZDI1NTE5In0.e30.AA",
    },
    "Revoking": {"reason": "the laptop was sold"},
    "Placing": {"scope": "project:demo", "reason": "case 2026-118"},
    "Releasing": {"reason": "case 2026-118 is closed"},
    "Erasing": {"reason": "asked for by the customer", "early": True},
    "Forgetting": {"actor": "user:ann@example.org", "reason": "request 31"},
    "Password": {"provider": "directory", "user": "ann", "password": "as the directory has it"},
    "Adding": {"issuer": "urn:qcos:issuer:dev", "subject": "ann", "reason": "joins the lab in December"},
    "Acting": {"reason": "left the lab"},
    "Exporting": {"reason": "our yearly copy"},
    "Giving": {
        "issuer": "urn:qcos:issuer:dev",
        "subject": "ann",
        "role": "quantum-user",
        "project": "demo",
        "reason": "works on the demonstrator",
    },
    "Mapping": {
        "issuer": "urn:qcos:issuer:dev",
        "group": "lab-a",
        "role": "quantum-engineer",
        "project": "demo",
        "reason": "the lab runs the demonstrator",
    },
    "Creating": {"project": "catalysis", "cost_center": "CC-104", "reason": "the grant began"},
    "Changing": {"cost_center": "CC-105", "reason": "the grant's second half"},
    "AccountAsked": {
        "name": "nightly",
        "reason": "the nightly benchmark",
        "description": "runs the benchmark of team solver",
        "roles": [{"role": "quantum-user", "project": "demo"}],
    },
    "Keying": {
        "reason": "the nightly benchmark",
        "expires_s": 7776000,
        "actions": ["job:submit", "job:read", "result:read"],
        "projects": ["demo"],
        "networks": ["192.0.2.0/24"],
    },
    "Rotating": {"reason": "quarterly", "overlap_s": 86400},
    "Reasoned": {"reason": "the pipeline is gone"},
    "Ruling": {
        "issuer": "https://token.actions.githubusercontent.com",
        "account": "nightly",
        "claims": {"repository": "acme/solver", "ref": "refs/heads/main"},
        "reason": "the nightly benchmark",
    },
    "TokenExchange": {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "eyJhbGciOiJSUzI1NiIs...",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    },
    "Delegating": {
        "to": "ci/nightly",
        "actions": ["backend:read"],
        "expires_in_s": 28800,
        "reason": "the nightly calibration run",
    },
    "Approving": {"reason": "agreed with the project's owner", "expires_s": 86400},
    "Rejecting": {"reason": "the cheaper backend does for this"},
    "Settling": {"outcome": "charged", "amount": "0.30", "reason": "invoice 2026-11 of the vendor lists the task"},
}
HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "RFC 6750.", "required": True, "schema": {"type": "string"}}},
    429: {
        "Retry-After": {
            "description": "Seconds to wait.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}


def document_of(app: Litestar) -> bytes:
    """The whole document, its members sorted, so that it is the same bytes wherever it is made."""
    document = app.openapi_schema.to_schema()
    document["info"]["description"] = DESCRIPTION
    for item in document["paths"].values():
        item.pop("head", None)  # what GET answers, without its body
    operations = list(_operations(app))
    shown = _shapes(operations)
    _, components = msgspec.json.schema_components(shown, ref_template=REFERENCE)
    document["components"] = {
        "schemas": components | {"JobSpec": schema.closed(components["JobSpec"])},
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "RFC 9068"}},
    }
    document["components"]["responses"] = {
        f"Refused{status}": response for status, response in _refusals({*ANYWHERE, *SIGNED_IN}).items()
    }
    document["security"] = [{"bearer": []}]
    names = {
        _name(path, method): str(document["paths"][path][method]["operationId"]) for path, method, _, _ in operations
    }
    for path, method, opt, media_type in operations:
        operation = document["paths"][path][method]
        _complete(operation, opt, media_type, path, names)
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def _operations(app: Litestar) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            if "answers" in handler.opt:
                media_type = str(getattr(handler.media_type, "value", None) or handler.media_type or JSON)
                for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"}):
                    yield route.path_format, method.lower(), handler.opt, media_type


def _shapes(operations: list[tuple[str, str, dict[str, Any], str]]) -> list[Any]:
    problems = (shapes.Problem, shapes.Denial, shapes.Unreserved, shapes.Unfit)
    found: dict[str, Any] = {one.__name__: one for one in problems}
    for _, _, opt, _ in operations:
        answers: Answers = opt["answers"]
        for given in (*answers.good.values(), answers.body):
            for shape in given if isinstance(given, list) else [given]:
                if shape is not None and not isinstance(shape, Bytes):
                    found[str(shape)] = shape
    return list(found.values())


def _complete(operation: dict[str, Any], opt: dict[str, Any], media: str, path: str, names: dict[str, str]) -> None:
    """The operation's responses, body, and security; and its parameters without the null that a URL can't say."""
    answers: Answers = opt["answers"]
    operation["parameters"] = [_without_null(parameter) for parameter in operation.get("parameters", [])]
    if answers.body is not None:
        example = {answers.body.__name__: {"value": EXAMPLES[answers.body.__name__]}}
        operation["requestBody"] = {
            "required": True,
            "content": {answers.body_as: {"schema": _schema(answers.body), "examples": example}},
        }
    elif answers.takes:
        operation["requestBody"] = {"required": True, "content": _files(list(answers.takes))}
    public = opt.get("action") == "public"
    if public:
        operation["security"] = []
    codes = {*ANYWHERE, *answers.refusals}
    codes |= set() if public else set(SIGNED_IN)
    codes |= set(WITH_BODY) if answers.body is not None or answers.takes else set()
    codes |= {"not_found"} if "{" in path else set()
    common = _refusals({*ANYWHERE, *SIGNED_IN})
    responses = {
        status: {"$ref": f"#/components/responses/Refused{status}"} if common.get(status) == response else response
        for status, response in _refusals(codes).items()
    }
    for status, shape in answers.good.items():
        if shape is None:
            responses[str(status)] = {"description": "What the caller has is still right."}
            continue
        good = _good(shape, media, answers, names)
        refused = responses.get(str(status), {})  # a refusal with a form of its own, beside that of the door
        good |= {name: refused[name] for name in ("description", "headers") if name in refused}
        good["content"] |= refused.get("content", {})
        responses[str(status)] = good
    operation["responses"] = responses


def _good(shape: Any, media: str, answers: Answers, names: dict[str, str]) -> dict[str, Any]:
    files = [one for one in shape if isinstance(one, Bytes)] if isinstance(shape, list) else []
    if isinstance(shape, Bytes):
        files = [shape]
    response: dict[str, Any] = {
        "description": "As asked.",
        "content": _files(files) or {media: {"schema": _schema(shape)}},
    }
    if answers.headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answers.headers.items()
        }
    if answers.links:
        response["links"] = {
            name: {"operationId": names[name], "parameters": {"job_id": "$response.body#/job_id"}}
            for name in answers.links
        }
    return response


def _files(files: list[Bytes]) -> dict[str, Any]:
    """What stands under each media type; forms that share one, a reader tells apart by what they hold."""
    content: dict[str, Any] = {}
    for one in files:
        known = content.get(one.media_type)
        schemas = [known["schema"]] if known is not None and known["schema"] != one.schema else []
        content[one.media_type] = {"schema": {"anyOf": [*schemas, one.schema]} if schemas else one.schema}
    return content


def _refusals(codes: set[str]) -> dict[str, Any]:
    """A response for each status; its codes are an enum, and each is explained."""
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(CODES[code].status, []).append(code)
    return {str(status): _problem(status, codes) for status, codes in by_status.items()}


def _problem(status: int, codes: list[str]) -> dict[str, Any]:
    shape = shapes.Denial if DENIALS.intersection(codes) else shapes.Problem
    if UNRESERVED.intersection(codes):
        shape = shapes.Unreserved
    if "policy_refused" in codes:
        shape = shapes.Unfit
    response: dict[str, Any] = {
        "description": " ".join(f"`{code}`: {CODES[code].sentence}" for code in codes),
        "content": {
            PROBLEM: {"schema": {"allOf": [_schema(shape), {"properties": {"code": {"enum": codes}}}]}},
        },
    }
    if status in HEADERS:
        response["headers"] = HEADERS[status]
    return response


def _schema(shape: Any) -> dict[str, Any]:
    if isinstance(shape, list):
        return {"anyOf": [_schema(one) for one in shape]}
    ((schema,), _) = msgspec.json.schema_components([shape], ref_template=REFERENCE)
    return schema


def _without_null(parameter: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out isn't one that may be null: an address has no such value."""
    schema = dict(parameter["schema"])
    for choice in schema.pop("oneOf", []):
        if choice.get("type") != "null":
            schema |= choice
    if isinstance(schema.get("type"), list):
        (schema["type"],) = (kind for kind in schema["type"] if kind != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return {name: value for name, value in parameter.items() if value is not False} | {"schema": schema}


def _name(path: str, method: str) -> str:
    """What a link calls an operation: the last word of its path, `job` for the job itself."""
    last = path.rpartition("/")[2]
    return f"{method} job" if last == "{job_id}" else last
