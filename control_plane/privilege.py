# SPDX-License-Identifier: Apache-2.0
"""Under which identity the wheel's PostgreSQL runs, so that it also runs where the plane itself runs as root.

PostgreSQL refuses to run as root. Enters: the caller's uid and what the kernel grants. Leaves: an `Identity`, which
words a child's command line so that `enter` runs before it. A root caller gets a user namespace in which its own uid
wears the number of an unprivileged user, so files keep the owner they would have had, no OS user is made, and no mode
or owner outside the data folder changes. Where user namespaces are denied the child becomes that unprivileged user
instead, and the folders that must be its own are handed over; only those.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from control_plane import enter
from control_plane.errors import DatabaseUnusable

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

    def command(self, command: Sequence[str], ends_by: signal.Signals) -> list[str]:
        """The command line of a child of this process that runs `command` so and gets `ends_by` when this ends."""
        how = [self.way, str(self.uid), str(self.gid), str(int(ends_by)), str(os.getpid())]
        return [sys.executable, "-I", "-S", enter.__file__, *how, *command]


def own() -> Identity:
    """The identity of this process."""
    return Identity("plain", os.geteuid(), os.getegid())


def identity() -> Identity:
    """The identity for a child that must not run as root; raises DatabaseUnusable where there is none."""
    if os.geteuid() != 0:
        return own()
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
    asked = Identity("namespace", uid, gid).command((), signal.SIGKILL)
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0
