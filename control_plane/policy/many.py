# SPDX-License-Identifier: Apache-2.0
"""Many documents decided by one set of policies, off the live path: for an impact, not for a job (G2).

OPA is given a rule of ours beside the set, which decides each document of a list by the set's own rule: one request for
a whole list spares what a request costs on both sides. Each answer is what the set says of that document alone. Where
one document's error fails a list, its documents are asked one by one, so that each error stands with its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from control_plane.policy import private
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.opa import OpaEngine
from control_plane.policy.pdp import Engine
from control_plane.policy.revision import ENTRYPOINT, PolicySet

Answer: TypeAlias = object | PolicyUnavailable

_RULE = "replay/batch/answers"
_MODULE = f"""package replay.batch

answers := [[place, answer] |
	some place, one in input.documents
	answer := data.{ENTRYPOINT.replace("/", ".")} with input as one
]
"""


class Many:
    """Decides lists of documents by `policies`."""

    def __init__(self, engine: Engine, policies: PolicySet) -> None:
        """Take an engine that was opened with what `opened` gives it."""
        self.policies, self.name = policies, engine.name
        self._engine = engine

    async def evaluate(self, documents: Sequence[bytes]) -> list[Answer]:
        """The decision rule's value for each document, or why there is none."""
        if isinstance(self._engine, OpaEngine) and len(documents) > 1:
            listed = b'{"documents":[' + b",".join(documents) + b"]}"
            with suppress(PolicyUnavailable):  # of one document or all: asked one by one, each says its own
                told = await self._engine.value(self.policies, _RULE, listed)
                return _placed(told, len(documents))
        return [await self._one(document) for document in documents]

    async def _one(self, document: bytes) -> Answer:
        try:
            return await self._engine.evaluate(self.policies, document)
        except PolicyUnavailable as fault:
            return fault


@asynccontextmanager
async def opened(policies: PolicySet, opa_bin: Path | None, limit_s: float = 20.0) -> AsyncIterator[Many]:
    """An engine of one's own for as long as the block lasts; raises PolicyUnavailable where the policies don't load."""
    served = policies
    if opa_bin is not None:
        served = msgspec.structs.replace(policies, modules={**policies.modules, "replay/batch.rego": _MODULE})
    async with private.opened(served, opa_bin, limit_s) as engine:
        yield Many(engine, policies)


def _placed(told: object, count: int) -> list[Answer]:
    undefined = PolicyUnavailable("the policy's decision is undefined")
    found: list[Answer] = [undefined] * count
    for place, answer in msgspec.convert(told, list[tuple[int, object]]):
        found[place] = answer
    return found
