# SPDX-License-Identifier: Apache-2.0
"""Circuit bytes in, a :class:`Program` out, for who plans without a backend (N3, N4).

The guarded children are this process's own; they start with the first circuit and end with it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec

from hal_drivers.base import CompileRequest
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendFailed
from hal_drivers.limits import Limits
from hal_drivers.local import LocalDriver
from hal_drivers.p2p.aliases import faults
from hal_drivers.p2p.ir import OPERATIONS, Program
from hal_drivers.p2p.reading import NetworkEngine

_BACKEND = BackendConfig(id="plan", provider="p2p")
_programs: msgspec.json.Decoder[Program] = msgspec.json.Decoder(Program)


class Reader:
    """One child reads at a time; ``async with`` ends them all."""

    def __init__(self, limits: Limits, *, require_walls: bool) -> None:
        """Starts nothing."""
        config = DriversConfig(backends=(_BACKEND,), children=1, require_walls=require_walls, limits=limits)
        self._driver = LocalDriver(NetworkEngine(), (_BACKEND,), config)

    async def __aenter__(self) -> Self:
        await self._driver.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._driver.__aexit__(kind, error, trace)

    async def read(self, request: CompileRequest) -> Program:
        """Raises CircuitInvalid, CircuitTooComplex, ProgramUnsupported, BackendUnavailable or BackendFailed."""
        compiled = await self._driver.compile(msgspec.structs.replace(request, backend=_BACKEND.id))
        return checked(compiled.artefact)


def checked(artefact: bytes) -> Program:
    """The program, judged by the table before anybody plans it: the child that made it has read hostile bytes."""
    try:
        program = _programs.decode(artefact)
    except msgspec.DecodeError:
        raise BackendFailed("the circuit child gave no program") from None
    numbered = all(operation.id == place for place, operation in enumerate(program.operations))
    sound = numbered and len(program.qubit_map) == program.qubits and len(program.operations) <= OPERATIONS
    if not sound or next(faults(program.operations, program.qubits, program.bits), None) is not None:
        raise BackendFailed("the circuit child gave an unsound program")
    return program
