# SPDX-License-Identifier: Apache-2.0
"""The embedded engine: regopy behind a strict adapter, for profile `dev` only (design decision 5).

Bare, regopy fails open: a built-in that it lacks is undefined, a shared interpreter answers for another's input, some
errors say ok. So here: policies are compiled once; one thread alone ever touches the interpreter; built-in errors are
strict; the input goes in as JSON text and never as a Python object; policies outside of the `dialect` refuse
the load; and an answer must be one result with one binding. It does not find unsafe variables or old syntax:
`opa check --strict` does, before policies are shipped.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from control_plane.policy import dialect, transcribed
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.revision import ENTRYPOINT, PolicySet

_KEPT = 3
_LIMIT_S = 10.0  # waiting for one's turn included: a burst of requests queues here


class EmbeddedEngine:
    """Evaluates in a thread of its own; calls are served one after the other.

    It keeps the last `_KEPT` sets compiled: around a push two are asked for.
    """

    name = "embedded"

    def __init__(self, limit_s: float = _LIMIT_S) -> None:
        self._limit_s = limit_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._compiled: dict[str, _Compiled] = {}

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        """The decision rule's value; PolicyUnavailable on any error, and after `limit_s` seconds."""
        try:
            work = asyncio.get_running_loop().run_in_executor(self._thread, self._evaluate, policies, input_json)
            async with asyncio.timeout(self._limit_s):
                return await work
        except TimeoutError as fault:
            raise PolicyUnavailable(f"the embedded engine took longer than {self._limit_s} s") from fault
        except RuntimeError as fault:  # the executor is shut down
            raise PolicyUnavailable(f"the embedded engine is closed: {fault}") from fault

    async def ready(self, policies: PolicySet) -> None:
        """Compile if that wasn't done yet; raises PolicyUnavailable if it can't be."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._compile, policies)
        except RuntimeError as fault:
            raise PolicyUnavailable(f"the embedded engine is closed: {fault}") from fault

    async def close(self) -> None:
        """End the thread after what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        return self._compile(policies).evaluate(input_json)

    def _compile(self, policies: PolicySet) -> _Compiled:
        """Refuses policies that aren't written in the dialect."""
        compiled = self._compiled.pop(policies.revision, None)
        if compiled is None:
            faults = dialect.check(policies.modules, policies.data)
            if faults:
                raise PolicyUnavailable(f"not the dialect that the embedded engine reads: {faults[0]}")
            compiled = _Compiled(policies)
        self._compiled[policies.revision] = compiled
        while len(self._compiled) > _KEPT:
            self._compiled.pop(next(iter(self._compiled)))
        return compiled


class _Compiled:
    """An interpreter and its bundle; touched by one thread only."""

    def __init__(self, policies: PolicySet) -> None:
        from regopy import Interpreter  # heavy, and only this engine needs it
        from regopy.rego_shared import LogLevel, RegoError

        self._fault: type[Exception] = RegoError
        self._interpreter: Any = Interpreter()
        self._interpreter.log_level = LogLevel.NONE
        self._interpreter.strict_built_in_errors = True
        try:
            self._interpreter.add_data_json(transcribed.document({"data": policies.data}))
            for path, source in policies.modules.items():
                self._interpreter.add_module(path, transcribed.source(source))
            self._bundle: Any = self._interpreter.build(f"answer = data.{ENTRYPOINT.replace('/', '.')}")
        except (RegoError, ValueError) as fault:
            raise PolicyUnavailable(f"the policies don't compile: {str(fault)[:500]}") from fault
        if not self._bundle.ok():
            raise PolicyUnavailable("the policies don't compile")

    def evaluate(self, input_json: bytes) -> object:
        try:
            # The C interface ends a text at NUL: JSON writes that as \\u0000, so a raw one is no JSON.
            value = json.loads(input_json, parse_constant=_refuse, parse_float=_refuse)
            self._interpreter.set_input_term(transcribed.document(value))
            output = self._interpreter.query_bundle(self._bundle)
        except (self._fault, ValueError, RecursionError) as fault:
            raise PolicyUnavailable(f"the embedded engine failed: {type(fault).__name__}") from fault
        if not output.ok() or len(output) != 1:
            raise PolicyUnavailable("the embedded engine failed: an error in a rule")
        result = output[0]
        if result.expressions != [True] or set(result.bindings) != {"answer"}:
            raise PolicyUnavailable("the policy's decision is undefined")
        answer: object = transcribed.answer(result.bindings["answer"])
        return answer


def _refuse(text: str) -> object:
    raise ValueError(f"not an integer: {text}")
