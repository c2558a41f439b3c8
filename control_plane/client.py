# SPDX-License-Identifier: Apache-2.0
"""A thin client for commands: one request, one JSON answer, over TCP or the Unix socket, with the standard library.

Where: QCOS_URL (http, https or unix:PATH), else the plane that runs in QCOS_HOME. Who: QCOS_TOKEN, else the login in
QCOS_HOME (`kept_login`). No answer → Unreachable (exit 3); 401 → NotSignedIn (exit 4); any other problem →
Answered, which carries the plane's own document. Proxies of the environment are not used: the token is for the plane.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from control_plane import kept_login
from control_plane.errors import NotSignedIn, QcosError, Refused, Unreachable, problem

_LIMIT_S = 30.0
_NEXT = "X-Next-Cursor"


class Answered(QcosError):
    """The plane answered with a problem; `document` is that problem, `status` its HTTP status."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail", "")))
        self.status = status
        self.document = document
        self.code = str(document.get("code", "internal"))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """Speaks to one plane."""

    def __init__(self, home: Path, url: str | None = None, token: str | None = None) -> None:
        self._home = home
        self._url = url or os.environ.get("QCOS_URL") or _running(home)
        self._given = token or os.environ.get("QCOS_TOKEN")

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float = _LIMIT_S,
        signed_in: bool = True,
    ) -> Any:
        """The JSON document that the plane answers; `path` begins with /. None for an empty answer."""
        status, data = self.raw(method, path, body, headers=headers, limit_s=limit_s, signed_in=signed_in)
        return json.loads(data) if status < 300 and data else None

    def raw(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float = _LIMIT_S,
        signed_in: bool = True,
    ) -> tuple[int, bytes]:
        """Status and bytes of an answer below 300; anything else raises."""
        status, answer, _ = self._answered(method, path, body, headers=headers, limit_s=limit_s, signed_in=signed_in)
        return status, answer

    def download(self, path: str, body: object, file: Path, *, limit_s: float = _LIMIT_S) -> int:
        """Send `body` and write what is answered to a new file, 0600, as it comes; how many bytes. None asks with GET.

        A file that is there is left alone; one that broke off stays, for its reader to see.
        """
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}"}
        try:
            place = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise Refused("unusable_input", f"{file}: {error.strerror}") from None
        connection = _connection(self._url, limit_s)
        with os.fdopen(place, "wb") as to:
            try:
                if body is None:
                    connection.request("GET", path, headers=sent)
                else:
                    connection.request("POST", path, body=json.dumps(body).encode(), headers=sent)
                response = connection.getresponse()
                if response.status >= 300:
                    file.unlink()
                    raise self._problem(response.status, response.read())
                shutil.copyfileobj(response, to, 1 << 20)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                if not to.tell():
                    file.unlink()
                    raise Unreachable(f"{self._url}: {reason}; qcos up starts a plane, QCOS_URL names one") from error
                raise Unreachable(f"{self._url}: {reason}; {file} is no whole answer") from error
            finally:
                connection.close()
            return to.tell()

    def pages(self, path: str, *, limit_s: float = _LIMIT_S) -> Iterator[bytes]:
        """Every page of a list, each asked for when the one before was taken; `path` has a query already."""
        following = ""
        while True:
            _, answer, told = self._answered("GET", path + following, limit_s=limit_s)
            yield answer
            cursor = told.get(_NEXT)
            if cursor is None:
                return
            following = f"&cursor={cursor}"

    def _answered(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float = _LIMIT_S,
        signed_in: bool = True,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        sent = {"Accept": "application/json", **(headers or {})}
        if signed_in:
            sent["Authorization"] = f"Bearer {self._token()}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
            sent.setdefault("Content-Type", "application/json")
        status, answer, told = self._exchange(method, path, data, sent, limit_s)
        if status >= 300:
            raise self._problem(status, answer)
        return status, answer, told

    def _token(self) -> str:
        token = self._given or kept_login.access_token(self._home)
        if token is None:
            raise NotSignedIn("there are no credentials; qcos login, or set QCOS_TOKEN")
        if not token.isascii() or not token.isprintable():
            raise NotSignedIn("the token holds what no token does: line breaks or other signs")
        return token

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], limit_s: float
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = _connection(self._url, limit_s)
        try:
            connection.request(method, path, body=data, headers=dict(headers))
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Unreachable(f"{self._url}: {reason}; qcos up starts a plane, QCOS_URL names one") from error
        finally:
            connection.close()

    def _problem(self, status: int, answer: bytes) -> QcosError:
        try:
            document = json.loads(answer)
            if not isinstance(document, dict) or "code" not in document or "detail" not in document:
                raise ValueError
        except ValueError:
            document = problem(Unreachable(f"{self._url} answers {status}, and not as a plane does"))[1]
        return Answered(status, document)


def _connection(url: str, limit_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, limit_s)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "localhost", parts.port, timeout=limit_s)


def _running(home: Path) -> str:
    from control_plane.home import running_record

    return running_record(home).url
