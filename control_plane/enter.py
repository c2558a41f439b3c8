# SPDX-License-Identifier: Apache-2.0
"""A programme between fork and exec: become an identity, ask to end with the parent, then be the command.

Run by its path, with the standard library alone: `python -I -S enter.py WAY UID GID SIGNAL PARENT COMMAND…`. It is a
programme and no `preexec_fn`, because a forked Python runs what libraries have registered for that moment:
OpenTelemetry starts a thread there, and a process with two threads is granted no user namespace. Without COMMAND it
only says by its exit code whether the identity is granted. A failure is one line on standard error and exit code 126.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
FAILED = 126


def become(way: str, uid: int, gid: int) -> None:
    """Take on the identity: `plain` is the caller's own, `namespace` and `switched` as `privilege.Identity` says."""
    if way == "namespace":
        _enter_namespace(uid, gid)
    elif way == "switched":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process the signal when the thread that started it ends (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def _enter_namespace(uid: int, gid: int) -> None:
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", encoding="ascii")


def main() -> None:
    """Become what the arguments say; ends the process where that is refused."""
    way, uid, gid, signal_number, parent = sys.argv[1], *map(int, sys.argv[2:6])
    command = sys.argv[6:]
    try:
        become(way, uid, gid)
        # After the identity: a change of credentials clears the request.
        die_with_parent(signal_number)
        if os.getppid() != parent:
            sys.exit(FAILED)  # it has ended already, and its death sent no signal
        if command:
            os.execvp(command[0], command)  # noqa: S606 - that is its purpose
    except OSError as error:
        sys.stderr.write(f"{command[0] if command else way}: {error}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
