# SPDX-License-Identifier: Apache-2.0
"""The API's sockets, bound by `up` before anything starts and handed to each API process; and the probe of a socket.

So a taken port is found first, port 0 keeps its number through restarts, and a request that arrives while an API
process is being restarted waits in the queue instead of being refused. The Unix socket lies in a folder of 0700.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
from pathlib import Path

from control_plane.errors import PortInUse, SettingInvalid
from control_plane.home import make_folder
from control_plane.settings import Settings

BACKLOG = 2048
_PROBE_S = 5.0


class Listening:
    """The TCP and the Unix socket, listening."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.api_socket
        self._host = settings.http_host
        self._tcp = _tcp(settings)
        make_folder(self._path.parent)
        self._path.unlink(missing_ok=True)
        self._unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unix.bind(str(self._path))
        self._unix.listen(BACKLOG)

    @property
    def port(self) -> int:
        """The TCP port, also when 0 was asked for."""
        return int(self._tcp.getsockname()[1])

    @property
    def url(self) -> str:
        """The API's address; an IPv6 host stands in brackets."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def descriptors(self) -> tuple[int, int]:
        """What an API process inherits."""
        return self._tcp.fileno(), self._unix.fileno()

    def close(self) -> None:
        """Take no more connections."""
        self._tcp.close()
        self._unix.close()
        self._path.unlink(missing_ok=True)


def _tcp(settings: Settings) -> socket.socket:
    host, port = settings.http_host, settings.http_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except socket.gaierror as error:
        raise SettingInvalid("http_host", host, f"an address of this machine ({error.strerror})") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise SettingInvalid("QCOS_HTTP_PORT", port, f"a port that may be bound ({error.strerror})") from error
        raise PortInUse(
            f"QCOS_HTTP_PORT = {port}: another program listens on {host}:{port}; set QCOS_HTTP_PORT to another, or to 0"
            " for a free one"
        ) from error
    return listening


async def answers(path: Path, target: str | None = None) -> bool:
    """Whether the Unix socket takes a connection and, with a target, GET answers 200."""
    try:
        async with asyncio.timeout(_PROBE_S):
            return await _answers(path, target)
    except (OSError, TimeoutError, ValueError):
        return False


async def failing(path: Path) -> frozenset[str] | None:
    """The checks of GET /api/v1/ready on the Unix socket that fail; None where nobody answers."""
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(b"GET /api/v1/ready HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                checks = json.loads(answer.partition(b"\r\n\r\n")[2])["checks"]
                return frozenset(name for name, check in checks.items() if not check["ok"])
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
        return None


async def _answers(path: Path, target: str | None) -> bool:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        if target is None:
            return True
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii"))
        await writer.drain()
        status = await reader.readline()
        return status.split(b" ")[1:2] == [b"200"]
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
