# SPDX-License-Identifier: Apache-2.0
"""An engine of one's own for one set of policies: for a candidate, a test, an old decision made again (G2).

A `PolicySet` and the path of an `opa` enter; an engine that holds exactly that set leaves, for as long as the block
lasts. OPA serves on a socket in a folder of its own, both gone afterwards; it ends with this process whatever happens
to it. Without an `opa` it is the embedded engine. Nothing here touches what the plane decides by.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from control_plane import enter
from control_plane.policy import bundle
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.opa import OPA_ENVIRONMENT, OpaEngine, opa_command
from control_plane.policy.pdp import Engine
from control_plane.policy.revision import PolicySet

_START_LIMIT_S = 20.0
_ENVIRONMENT = OPA_ENVIRONMENT | {"GOGC": "1600", "GOMEMLIMIT": "1GiB"}
"""It lives for one run of many decisions: its collector may let more pile up than the plane's own."""
_POLL_S = 0.01
_SHOWN = 500


@asynccontextmanager
async def opened(policies: PolicySet, opa_bin: str | Path | None, limit_s: float = 5.0) -> AsyncIterator[Engine]:
    """An engine that is ready with `policies`; raises PolicyUnavailable, in its words, where they don't load."""
    if opa_bin is None:
        embedded = EmbeddedEngine(limit_s)
        try:
            await embedded.ready(policies)
            yield embedded
        finally:
            await embedded.close()
        return
    folder = Path(tempfile.mkdtemp(prefix="qo"))  # short: a socket's path has an end
    try:
        served = await asyncio.to_thread(bundle.write, policies, folder / "bundle")
        async with _served(str(opa_bin), folder, served) as opa:
            engine = OpaEngine(f"unix://{folder / 's'}", limit_s)
            try:
                await _until_ready(engine, policies, opa, folder / "log")
                yield engine
            finally:
                await engine.close()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def _served(opa_bin: str, folder: Path, served: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = opa_command(opa_bin, f"unix://{folder / 's'}", served)
    ending = [sys.executable, "-I", "-S", enter.__file__, "plain", "0", "0", str(int(signal.SIGKILL)), str(os.getpid())]
    with (folder / "log").open("wb") as log:
        opa = await asyncio.create_subprocess_exec(
            *ending, *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=_ENVIRONMENT
        )
    try:
        yield opa
    finally:
        with suppress(ProcessLookupError):
            opa.kill()  # it holds nothing worth a farewell
        await asyncio.shield(opa.wait())


async def _until_ready(engine: OpaEngine, policies: PolicySet, opa: asyncio.subprocess.Process, log: Path) -> None:
    fault = PolicyUnavailable("OPA did not start")
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_LIMIT_S):
            while opa.returncode is None:
                try:
                    return await engine.ready(policies)
                except PolicyUnavailable as found:
                    fault = found
                await asyncio.sleep(_POLL_S)
    said = log.read_text("utf-8", errors="replace").strip()
    raise PolicyUnavailable(f"OPA did not start with these policies: {said[-_SHOWN:] or fault}")
