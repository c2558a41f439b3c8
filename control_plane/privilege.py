# SPDX-License-Identifier: Apache-2.0
"""Under which identity the wheel's PostgreSQL runs, so that it also runs where the plane itself runs as root.

PostgreSQL refuses to run as root. Enters: the caller's uid and what the kernel grants. Leaves: an `Identity` whose
`enter` is run in the child between fork and exec. A root caller gets a user namespace in which its own uid wears the
number of an unprivileged user, so files keep the owner they would have had, no OS user is made, and no mode or owner
outside the data folder changes. Where user namespaces are denied the child becomes that unprivileged user instead, and
the folders that must be its own are handed over; only those.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from pathlib import Path

from msgspec import Struct

from control_plane.errors import DatabaseUnusable

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_CANDIDATES = ("nobody", "daemon", "bin", "mail")


class Identity(Struct, frozen=True):
    """How a child that must not be root is started: `plain`, in a user `namespace`, or `switched` to another user."""

    way: str
    uid: int
    gid: int

    def own(self, *folders: Path) -> None:
        """Hand folders that this plane has just made to the child's user; nothing to do unless `switched`."""
        if self.way == "switched":
            for folder in folders:
                os.chown(folder, self.uid, self.gid)

    def enter(self) -> None:
        """Become this identity, then ask to be ended with the parent. Runs in the forked child, before exec."""
        if self.way == "namespace":
            _enter_namespace(self.uid, self.gid)
        elif self.way == "switched":
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)
        # After the identity: a change of credentials clears the request. SIGQUIT is PostgreSQL's immediate stop.
        die_with_parent(signal.SIGQUIT)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process the signal when the thread that started it ends (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def identity() -> Identity:
    """The identity for a child that must not run as root; raises DatabaseUnusable where there is none."""
    if os.geteuid() != 0:
        return Identity("plain", os.geteuid(), os.getegid())
    user = _unprivileged_user()
    if _namespaces_granted(user.pw_uid, user.pw_gid):
        return Identity("namespace", user.pw_uid, user.pw_gid)
    return Identity("switched", user.pw_uid, user.pw_gid)


def refuse_unreachable(path: Path, who: Identity) -> None:
    """A `switched` child must be able to walk to its data folder; no mode outside the home is changed for it."""
    if who.way != "switched":
        return
    for folder in path.resolve().parents:
        if not folder.stat().st_mode & 0o001:
            raise DatabaseUnusable(
                f"QCOS_HOME: running as root without user namespaces, PostgreSQL runs as uid {who.uid}, which can't"
                f" enter {folder}; choose a QCOS_HOME under folders that all may enter, or run qcos as an ordinary user"
            )


def _unprivileged_user() -> pwd.struct_passwd:
    for name in _CANDIDATES:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid != 0:
            return user
    raise DatabaseUnusable(
        "running as root, and /etc/passwd has no unprivileged user (nobody, daemon) that PostgreSQL could run as;"
        " run qcos as an ordinary user or set QCOS_DATABASE_URL"
    )


def _namespaces_granted(uid: int, gid: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _enter_namespace(uid, gid)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _enter_namespace(uid: int, gid: int) -> None:
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", encoding="ascii")
