# SPDX-License-Identifier: Apache-2.0
"""Holds an HTTP answer against docs/openapi.json: status, media type, headers, schema, and no member that isn't in it.

The published document is what a stranger's client is made from, so whatever the e2e suite is answered must be in it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_bytes())
# What addresses and methods that the document doesn't have are refused with.
OUTSIDE = frozenset({"not_found", "method_not_allowed"})


class BrokenPromise(AssertionError):
    """An answer that the document doesn't promise."""


def hold(method: str, target: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """BrokenPromise unless the document has this answer for this request."""
    if method == "HEAD":
        return  # GET's answer without its body
    path = target.partition("?")[0]
    media = headers.get("content-type", "").partition(";")[0]
    operation = _operation(method.lower(), path)
    if operation is None:
        unknown = path.startswith("/api/") and path != "/api/v1/openapi.json"
        if unknown and json.loads(body)["code"] not in OUTSIDE:
            raise BrokenPromise(f"{method} {path} is not in the document: {status} {body[:300]!r}")
        return
    promised = operation["responses"].get(str(status))
    if promised is None:
        raise BrokenPromise(f"{method} {path}: {status} is not promised: {body[:300]!r}")
    promised = _resolved(promised)
    if "content" not in promised:
        if body:
            raise BrokenPromise(f"{method} {path}: {status} with a body: {body[:300]!r}")
        return
    if media not in promised["content"]:
        raise BrokenPromise(f"{method} {path}: {status} as {media!r}, promised {sorted(promised['content'])}")
    missing = [name for name, header in promised.get("headers", {}).items() if header.get("required")]
    if any(name.lower() not in headers for name in missing):
        raise BrokenPromise(f"{method} {path}: {status} without {missing}")
    if not media.endswith("json"):
        return
    schema = promised["content"][media]["schema"]
    for fault in _validator(json.dumps(schema)).iter_errors(json.loads(body)):
        raise BrokenPromise(f"{method} {path}: {status}: {fault.json_path}: {fault.message[:300]}")


def has(method: str, target: str) -> bool:
    """Whether the document describes this request; WebSockets and what OPA asks aren't in it."""
    return _operation(method.lower(), target.partition("?")[0]) is not None


@cache
def _templates() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    return [
        (re.compile(re.sub(r"\\{\w+\\}", ".+" if "tile" in path else "[^/]+", re.escape(path))), item)
        for path, item in DOCUMENT["paths"].items()
    ]


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for pattern, item in _templates():
        if method in item and pattern.fullmatch(path):
            found: dict[str, Any] = item[method]
            return found
    return None


def _resolved(response: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = response
    for step in response.get("$ref", "#").split("/")[1:]:
        found = DOCUMENT[step] if found is response else found[step]
    return found


@cache
def _validator(schema: str) -> Draft202012Validator:
    """A validator that also refuses members that no schema names: an answer of ours is wholly described."""
    return Draft202012Validator({**_closed(json.loads(schema)), "components": _components()})


@cache
def _components() -> dict[str, Any]:
    schemas = {name: _closed(schema) for name, schema in DOCUMENT["components"]["schemas"].items()}
    # A problem may carry further members, which its code explains.
    for name in ("Problem", "Denial"):
        schemas[name] = DOCUMENT["components"]["schemas"][name]
    return {"schemas": schemas}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    closed = schema.get("type") == "object" and schema.get("properties") and "additionalProperties" not in schema
    return {**schema, "additionalProperties": False} if closed else schema
