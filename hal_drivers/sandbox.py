# SPDX-License-Identifier: Apache-2.0
"""The walls around a process that reads hostile circuits (design, path step 2). Linux only, by ctypes.

Called by the child itself while it has one thread, before it sees a byte of a circuit:

- *namespace*: an own, empty network (user, network, IPC and host-name namespace); no capability survives;
- *landlock*: reads below the Python installation, no write anywhere, no signal and no abstract socket out;
- *seccomp*: no socket, exec, fork, ptrace, kill, raised limit, keyring, mount, bpf or io_uring;
- *rlimits*: no core, no file growth, few descriptors (memory and CPU are set from outside, task by task).

Each function says whether its wall stands and never raises: a kernel that refuses one wall still gives the
others, and ``pool`` decides what is enough for the profile. :func:`leaks` then tries what must fail, because a
wall that was set up and a wall that holds are two things.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import socket
import struct
import sysconfig
from pathlib import Path

NETWORK_WALLS = ("namespace", "landlock", "seccomp")

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_NEWUSER, _NEWNET, _NEWIPC, _NEWUTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000


def die_with(parent: int) -> None:
    """Be killed when ``parent`` ends; exits now if that has already happened."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def leave_network() -> bool:
    """Move to namespaces of our own. Without the right to a user namespace only a privileged process can."""
    if _libc.unshare(_NEWUSER | _NEWNET | _NEWIPC | _NEWUTS) == 0:
        return True
    return bool(_libc.unshare(_NEWNET | _NEWIPC | _NEWUTS) == 0)


def drop_privileges() -> None:
    """No capability now, none by exec later."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", 0x20080522, 0)
    _libc.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def tighten_limits() -> bool:
    """Limits that never change while the child lives."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        return True
    return False


_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3


def readable_paths() -> list[str]:
    """What a warm child may still read: libraries that Python and Qiskit load late."""
    paths = sysconfig.get_paths()
    wanted = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    wanted |= {str(Path(__file__).resolve().parent), "/lib", "/lib64", "/usr/lib", "/usr/lib64"}
    return sorted(path for path in wanted if Path(path).is_dir())


def confine_files(paths: list[str]) -> bool:
    """Landlock: reading below ``paths`` and nothing else; from ABI 4 no TCP, from ABI 6 no signal out."""
    abi = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attributes = struct.pack("=QQQ", files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        for path in paths:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", _READ_FILE | _READ_DIR, folder)
            added = _libc.syscall(_LANDLOCK_ADD, rules, 1, rule, ctypes.c_uint32(0))
            os.close(folder)
            if added != 0:
                return False
        return bool(_libc.syscall(_LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(rules)


# Denied calls by architecture: (audit architecture, clone, clone3, prlimit64, prctl, denied). Denied are socket,
# connect, accept, sendmsg, recvmsg, bind, listen, socketpair, fork, vfork, execve, kill, ptrace, setrlimit,
# mounts, chroot, modules, kexec, keyrings, SysV and POSIX queues, namespaces, perf, handles, process_vm, seccomp,
# memfd, bpf, execveat, userfaultfd, io_uring, pidfd.
_FILTERS: dict[str, tuple[int, int, int, int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E, 56, 435, 302, 157,
        (41, 42, 43, 46, 47, 49, 50, 53, 57, 58, 59, 62, 101, 160, 165, 166, 155, 161, 175, 176, 313, 246,
         320, 248, 249, 250, 29, 64, 68, 240, 272, 308, 298, 303, 304, 310, 311, 312, 317, 319, 321, 322, 323,
         288, 299, 307, 425, 426, 427, 424, 434, 438),
    ),
    "aarch64": (
        0xC00000B7, 220, 435, 261, 167,
        (198, 203, 202, 211, 212, 200, 201, 199, 221, 129, 117, 164, 40, 39, 41, 51, 105, 106, 273, 104, 294,
         217, 218, 219, 194, 190, 186, 180, 97, 268, 241, 264, 265, 270, 271, 272, 277, 279, 280, 281, 282,
         242, 243, 269, 425, 426, 427, 424, 434, 438),
    ),
}  # fmt: skip
_LOAD, _EQ, _GE, _SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_CLONE_THREAD = 0x00010000


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def _program(machine: str) -> bytes:
    """Classic BPF: a foreign architecture is killed, a denied call answers EPERM, threads may start."""
    arch, clone, clone3, prlimit, prctl, denied = _FILTERS[machine]
    ops = [_op(_LOAD, _ARCH), _op(_EQ, arch, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NUMBER)]
    ops += [_op(_GE, 0x40000000, 0, 1), _op(_RETURN, _EPERM)]  # the x32 twins of all calls
    for number in denied:
        ops += [_op(_EQ, number, 0, 1), _op(_RETURN, _EPERM)]
    # clone3 hides its flags behind a pointer; ENOSYS makes libc fall back to clone.
    ops += [_op(_EQ, clone3, 0, 1), _op(_RETURN, _ENOSYS)]
    ops += [_op(_EQ, clone, 0, 4), _op(_LOAD, _ARGUMENTS), _op(_SET, _CLONE_THREAD, 0, 1)]
    ops += [_op(_RETURN, _ALLOW), _op(_RETURN, _EPERM)]
    # prlimit64 may read limits and not set them: the new-limit pointer must be null.
    ops += [_op(_EQ, prlimit, 0, 6), _op(_LOAD, _ARGUMENTS + 16), _op(_EQ, 0, 0, 3)]
    ops += [_op(_LOAD, _ARGUMENTS + 20), _op(_EQ, 0, 0, 1), _op(_RETURN, _ALLOW), _op(_RETURN, _EPERM)]
    # PR_SET_PDEATHSIG would let the child outlive its parents.
    ops += [_op(_EQ, prctl, 0, 3), _op(_LOAD, _ARGUMENTS), _op(_EQ, _PR_SET_PDEATHSIG, 0, 1)]
    ops += [_op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]
    return b"".join(ops)


def filter_calls() -> bool:
    """Seccomp: from here on the denied calls fail, in this process and all its threads to come."""
    machine = platform.machine()
    if machine not in _FILTERS:
        return False
    program = _program(machine)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)


def leaks() -> list[str]:
    """Try what must fail; each name is something that a hostile circuit could still do."""
    found = []
    with contextlib.suppress(OSError):
        os.close(os.open("/etc/passwd", os.O_RDONLY))
        found.append("read")
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/shm", os.O_TMPFILE | os.O_WRONLY))  # noqa: S108 - any folder open to all
        found.append("write")
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737: a route is looked up, nothing is sent
        found.append("network")
    with contextlib.suppress(OSError):
        os.kill(os.getppid(), 0)
        found.append("signal")
    return found
