# SPDX-License-Identifier: Apache-2.0
"""The two processes between a worker and a hostile circuit: the zygote and its children.

``python -m hal_drivers.child FD PID ENGINE`` is the **zygote**: it moves into an empty network, imports Qiskit and one
engine (``hal_drivers.engines.ENGINE``) once, and then only forks. It never reads a circuit and never runs one, so every
child starts from the same clean image. On its control socket (SEQPACKET) the worker sends ``fork`` with one end of a
socket pair, or ``reap PID``.

A **child** is that fork behind the walls of ``sandbox``. It warms up on circuits of our own, reports the
walls, and serves one request at a time until its socket closes or the worker kills it. It dies with the
zygote, the zygote with the worker. Standard error leads nowhere: readers' panics quote the circuit (I10).
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import warnings
from typing import Protocol, assert_never

from hal_drivers import sandbox
from hal_drivers.base import Exact
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex, DriverError
from hal_drivers.frames import (
    LENGTH,
    REPLY_BYTES,
    REQUEST_BYTES,
    Artefact,
    CompileCall,
    Counts,
    ExactCall,
    FragmentCall,
    Memory,
    Ready,
    Refusal,
    Reply,
    RunCall,
    decode_request,
    frame,
)


class ChildEngine(Protocol):
    """What a module below ``hal_drivers.engines`` offers; only children call it."""

    def versions(self) -> dict[str, str]:
        """Every tool that has a say in the artefact or the counts."""
        ...

    def warm_up(self) -> None:
        """Run circuits of our own, so that a stranger's finds all libraries loaded."""
        ...

    def compile_circuit(self, call: CompileCall) -> Artefact:
        """Raises a DriverError; anything else that escapes is judged here."""
        ...

    def run_circuit(self, call: RunCall) -> Counts:
        """Raises as ``compile_circuit`` does."""
        ...

    def analyse_circuit(self, call: ExactCall) -> Exact:
        """Raises as ``compile_circuit`` does; only an engine whose devices claim ``exact`` is asked."""
        ...

    def run_fragment(self, call: FragmentCall) -> Memory:
        """Raises as ``compile_circuit`` does; only the engine of service nodes is asked."""
        ...


def circuit_engine(name: str) -> ChildEngine:
    """The child's half of the engine; raises ImportError."""
    engine: ChildEngine = importlib.import_module(f"hal_drivers.engines.{name}")
    return engine


def main() -> None:
    """Become the zygote on the descriptor named by the first argument; returns when the worker is gone."""
    sandbox.die_with(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    control = socket.socket(fileno=int(sys.argv[1]))
    namespace = sandbox.leave_network()
    # A change of namespace can clear the death signal.
    sandbox.die_with(int(sys.argv[2]))
    try:
        engine = circuit_engine(sys.argv[3])  # loaded here so that children share it
    except ImportError as error:
        control.send(f"failed module {error.name} is missing".encode())
        return
    control.send(b"ready")
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not order:
            return
        word, _, argument = order.decode().partition(" ")
        if word == "fork":
            _fork(control, descriptors[0], namespace, engine)
        elif word == "reap":
            control.send(f"reaped {_reap(int(argument))}".encode())


def _reap(pid: int) -> int:
    """The exit code of a child that the worker has killed, negative for a signal."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _fork(control: socket.socket, descriptor: int, namespace: bool, engine: ChildEngine) -> None:
    zygote = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        control.send(f"forked {pid}".encode())
        return
    try:
        control.close()
        sandbox.die_with(zygote)
        _serve(socket.socket(fileno=descriptor), namespace, engine)
    finally:
        os._exit(0)


def _serve(worker: socket.socket, namespace: bool, engine: ChildEngine) -> None:
    os.closerange(3, worker.fileno())
    os.closerange(worker.fileno() + 1, 256)
    walls = {"namespace": namespace, "rlimits": sandbox.tighten_limits()}
    sandbox.drop_privileges()
    walls["landlock"] = sandbox.confine_files(sandbox.readable_paths())
    walls["seccomp"] = sandbox.filter_calls()
    warnings.simplefilter("ignore")  # nobody would read them, and asking costs more than a small circuit
    engine.warm_up()
    worker.sendall(frame(Ready(walls=walls, leaks=sandbox.leaks(), versions=engine.versions()), REPLY_BYTES))
    while (body := _receive(worker)) is not None:
        worker.sendall(_answer(body, engine))


def _receive(worker: socket.socket) -> bytes | None:
    header = _exactly(worker, LENGTH.size)
    if header is None:
        return None
    size = LENGTH.unpack(header)[0]
    return None if size > REQUEST_BYTES else _exactly(worker, size)


def _exactly(worker: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = worker.recv(min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _answer(body: bytes, engine: ChildEngine) -> bytes:
    try:
        return frame(_work(body, engine), REPLY_BYTES)
    except (CircuitInvalid, CircuitTooComplex) as error:
        return frame(Refusal(code=error.code, detail=error.detail, line=error.line), REPLY_BYTES)
    except DriverError as error:
        return frame(Refusal(code=error.code, detail=error.detail), REPLY_BYTES)
    except MemoryError:
        return _odd(CircuitTooComplex.code, "the circuit needs more memory than is granted")
    except RecursionError:
        return _odd(CircuitTooComplex.code, "the circuit is nested too deeply")
    except ValueError as error:
        # Raised by frame() for an oversize reply, by Qiskit for anything at all.
        oversize = "over the limit" in str(error)
        return _odd(
            CircuitTooComplex.code if oversize else CircuitInvalid.code,
            "the result is too large" if oversize else "the circuit cannot be translated",
        )
    except BaseException as error:  # noqa: BLE001
        # pyo3's PanicException is no Exception; whoever panicked is not to be trusted with another circuit.
        if "memory" in str(error).lower():
            return _odd(CircuitTooComplex.code, "the circuit needs more memory than is granted")
        return _odd(CircuitInvalid.code, "the circuit cannot be translated")


def _odd(code: str, detail: str) -> bytes:
    return frame(Refusal(code=code, detail=detail, tainted=True), REPLY_BYTES)


def _work(body: bytes, engine: ChildEngine) -> Reply:
    call = decode_request(body)
    match call:
        case CompileCall():
            return engine.compile_circuit(call)
        case RunCall():
            return engine.run_circuit(call)
        case ExactCall():
            return engine.analyse_circuit(call)
        case FragmentCall():
            return engine.run_fragment(call)
        case _:
            assert_never(call)


if __name__ == "__main__":
    main()
