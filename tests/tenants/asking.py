# SPDX-License-Identifier: Apache-2.0
"""A route, asked with the ids of a relation and somebody's token; and an answer as two of them can be compared."""

from __future__ import annotations

import json
import re

from control_plane.app import routes
from control_plane.auth.matrix import Relation, rules
from tests.e2e.plane import Answer
from tests.tenants.samples import Sample, sample_of
from tests.tenants.world import World

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
RULES = rules(routes())
HOW = "tests/tenants/samples.py says how each route is asked: add a Sample for it"
PARAMETER = re.compile(r"{(\w+)}")
_OWN_EACH_TIME = re.compile(rb'"request_id": ?"[0-9a-f-]{36}"')


def how(method: str, path: str) -> Sample:
    """How a route is asked; a route that nobody has written down can't be tried."""
    sample = sample_of(method, path)
    assert sample is not None, f"{method} {path}: {HOW}"
    return sample


def ask(world: World, method: str, path: str, relation: Relation, token: str | None, *, fresh: bool = False) -> Answer:
    """Ask for what the world has of this relation; `fresh` asks for things that nobody asked for before."""
    sample = how(method, path)

    def named(match: re.Match[str]) -> str:
        if fresh and match.group(1) in sample.fresh:
            return sample.fresh[match.group(1)](world)
        return world.id_of(match.group(1), relation)

    headers = dict(sample.headers)
    if method == "WEBSOCKET":
        method, headers = "GET", headers | HANDSHAKE
    body = None if sample.body is None else json.dumps(sample.body(world, relation)).encode()
    return world.send(method, PARAMETER.sub(named, path) + sample.query, body, token, headers)


def code(answer: Answer) -> str | None:
    """The code of a problem; None for an answer without one."""
    problem = answer.body and answer.headers.get("content-type") == "application/problem+json"
    return str(json.loads(answer.body)["code"]) if problem else None


def told(answer: Answer, *names: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the moment, the number of the request, and the asker's own words `names`."""
    body = _OWN_EACH_TIME.sub(b"", answer.body)
    for name in sorted(names, key=len, reverse=True):
        body = body.replace(name.encode(), b"<>")
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    return answer.status, headers, body
