# SPDX-License-Identifier: Apache-2.0
"""Every error that leaves this package.

::

    DriverError
    ├── CircuitInvalid       circuit_invalid       the submitted circuit is not a circuit that can run
    ├── CircuitTooComplex    circuit_too_complex   it asks for more than the limits grant
    ├── ProgramUnsupported   program_unsupported   well-formed, but no device here claims it
    ├── BackendUnknown       backend_unknown       no such backend in this plane
    ├── BackendUnavailable   backend_unavailable   the backend does not answer; nothing was started
    ├── BackendFailed        backend_failed        it broke while it held the task
    ├── HandleUnknown        handle_unknown        this process holds no task under that handle
    ├── SessionEnded         session_ended         the device has ended the session; nothing was started
    ├── NotFinished          not_finished          a result was asked of a task that has none
    └── WallsMissing         walls_missing         the kernel grants too few walls for this profile

``detail`` is safe to show and to keep: it names limits, lines and parameter names, never a path and never a
piece of circuit source (I10). Codes are stable; vendors' errors are mapped onto these and onto nothing else.
"""


class DriverError(Exception):
    """Root of the package's errors; ``code`` is stable, ``detail`` is for people."""

    code = "driver_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CircuitInvalid(DriverError):
    """The circuit cannot be read, or can never give a result; ``line`` counts from 1 where it is known."""

    code = "circuit_invalid"

    def __init__(self, detail: str, *, line: int | None = None) -> None:
        super().__init__(detail)
        self.line = line


class CircuitTooComplex(DriverError):
    """The circuit asks for more memory, time, qubits or gates than the limits grant."""

    code = "circuit_too_complex"

    def __init__(self, detail: str, *, line: int | None = None) -> None:
        super().__init__(detail)
        self.line = line


class ProgramUnsupported(DriverError):
    """A request that no capability record of the device claims."""

    code = "program_unsupported"


class BackendUnknown(DriverError):
    """No backend of that id is configured."""

    code = "backend_unknown"


class BackendUnavailable(DriverError):
    """The backend does not answer and has started nothing, so trying again is safe."""

    code = "backend_unavailable"


class BackendFailed(DriverError):
    """The backend broke while it held the task; nothing of a result is left."""

    code = "backend_failed"


class HandleUnknown(DriverError):
    """No task is known here under that handle."""

    code = "handle_unknown"


class SessionEnded(DriverError):
    """The device has ended the session; nothing was started."""

    code = "session_ended"


class NotFinished(DriverError):
    """``result`` was called for a task that is not finished."""

    code = "not_finished"


class WallsMissing(DriverError):
    """The kernel grants too few walls around the circuit child for this profile."""

    code = "walls_missing"
