# SPDX-License-Identifier: Apache-2.0
"""The witness's HTTP side: C2SP tlog-witness on one address, from the standard library alone.

    POST /add-checkpoint            a cosignature, or the status that the specification names
    GET  /SHA256-OF-ORIGIN/checkpoint   the newest cosigned checkpoint of a log, with our line
    GET  /metrics                   what was cosigned and refused, as Prometheus text
    GET  /health                    200 while every log's state is whole, else 503

Judging and keeping are one step under one lock (tlog-witness: "must be performed atomically"); the state is durable
before the cosignature leaves. Each refusal of what a log should never have signed is logged, counted and kept. Requests
are bounded in bytes, time and number. There is no authentication: a request is worth what the log's signature on it is.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from ledger import cosignature
from ledger.canonical import timestamp
from ledger.errors import StateLost
from ledger.witness import incident
from ledger.witness.folder import Folder, name_of
from ledger.witness.rules import MAX_REQUEST_BYTES, Grown, Refused, Seen, judge, origin_in

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger("qcos.witness")
IDLE_S = 20.0  # after which a silent connection is closed
AT_ONCE = 32  # requests under way
TEXT, SIZE = "text/plain; charset=utf-8", "text/x.tlog.size"


class Cosigner:
    """Judges requests for one folder, one at a time."""

    def __init__(self, folder: Folder, now: Callable[[], datetime]) -> None:
        """`now` is the clock whose seconds the cosignatures bear."""
        self.folder = folder
        self.counted: Counter[tuple[str, str]] = Counter()
        self._now, self._lock = now, threading.Lock()

    def add_checkpoint(self, body: bytes) -> tuple[int, str, str]:
        """(status, media type, body) of the answer; what is returned with 200 has been kept."""
        with self._lock:
            try:
                return self._add(body)
            except StateLost as error:
                log.error("%s", error)  # noqa: TRY400 - it says all; where it was raised tells nobody anything
                self.counted["refused", "state_lost"] += 1
                return 503, TEXT, f"{error}\n"

    def _add(self, body: bytes) -> tuple[int, str, str]:
        origin = origin_in(body)
        seen = self.folder.seen(origin) if origin in self.folder.logs and origin is not None else None
        found = judge(body, self.folder.logs, seen)
        if isinstance(found, Grown):
            if (ended := self._ended(found, seen)) is None:
                return 200, TEXT, self._cosign(found)
            found = ended
        self._told(found, seen)
        if found.size is not None:
            return found.status, SIZE, f"{found.size}\n"
        return found.status, TEXT, f"{found.detail}\n"

    def _ended(self, grown: Grown, seen: Seen | None) -> Refused | None:
        """A log whose successor has begun may be shown again as it was, and grow no more."""
        other = self.folder.successor(grown.head.origin)
        if other is None or (seen is not None and grown.head.size == seen.head.size):
            return None
        return Refused(422, f"this log has ended, {other} goes on from it", kind="ended", note=grown.note)

    def _cosign(self, grown: Grown) -> str:
        line = cosignature.cosign(self.folder.witness, grown.head, int(self._now().timestamp()), self.folder.key.sign)
        self.folder.keep(grown.head.origin, Seen(grown.note, line))
        self.counted["cosigned", grown.head.origin] += 1
        log.info("cosigned %s at %d entries", grown.head.origin, grown.head.size)
        return line + "\n"

    def _told(self, refused: Refused, seen: Seen | None) -> None:
        self.counted["refused", refused.kind or str(refused.status)] += 1
        if refused.kind is None or seen is None:
            log.info("refused with %d: %s", refused.status, refused.detail)
            return
        kept = self.folder.keep_incident(incident.incident(refused, seen, timestamp(self._now())))
        where = f"; both notes are in {kept}" if kept else ""
        log.error("ALARM %s of %s: %s%s", refused.kind, seen.head.origin, refused.detail, where)

    def checkpoint(self, name: str) -> str | None:
        """The newest cosigned checkpoint of the log of this name (SHA-256 of its origin); None if there is none."""
        origin = next((one for one in self.folder.logs if name_of(one) == name), None)
        seen = self.folder.seen(origin) if origin is not None else None
        return None if seen is None else seen.note.decode() + seen.line + "\n"

    def lost(self) -> list[str]:
        """The logs of which this witness has forgotten what it saw."""
        found = []
        for origin in self.folder.logs:
            try:
                self.folder.seen(origin)
            except StateLost:
                found.append(origin)
        return found

    def metrics(self) -> str:
        """What Prometheus reads."""
        lines = ["# TYPE qcos_witness_size gauge", "# TYPE qcos_witness_cosigned_at_seconds gauge"]
        for origin in self.folder.logs:
            try:
                seen = self.folder.seen(origin)
            except StateLost:
                continue
            if seen is not None:
                label = f'{{origin="{_escaped(origin)}"}}'
                lines.append(f"qcos_witness_size{label} {seen.head.size}")
                lines.append(f"qcos_witness_cosigned_at_seconds{label} {cosignature.parse(seen.line).timestamp}")
        lines += ["# TYPE qcos_witness_requests_total counter"]
        for (what, which), count in sorted(self.counted.items()):
            lines.append(f'qcos_witness_requests_total{{result="{what}",of="{_escaped(which)}"}} {count}')
        lines += ["# TYPE qcos_witness_incidents gauge", f"qcos_witness_incidents {len(self.folder.incidents())}"]
        lines += ["# TYPE qcos_witness_state_lost gauge", f"qcos_witness_state_lost {len(self.lost())}"]
        return "\n".join(lines) + "\n"


class Server(ThreadingHTTPServer):
    """Serves a cosigner until `shutdown`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], cosigner: Cosigner) -> None:
        """Bind; OSError where the address is taken."""
        self.cosigner = cosigner
        self.gate = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, unless too many are open: then it is closed at once."""
        if not self.gate.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.gate.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - of the standard library
        """A connection that broke off is no news, anything else is a fault."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a request ended in a fault", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "qcos-witness", ""
    timeout = IDLE_S
    server: Server

    def do_POST(self) -> None:
        """add-checkpoint."""
        if self.path.rpartition("/")[2] != "add-checkpoint":
            self._answer(404, TEXT, "POST add-checkpoint\n", close=True)
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_REQUEST_BYTES:
            self._answer(413 if length.isdigit() else 411, TEXT, "a length of at most 32 KiB\n", close=True)
            return
        self._answer(*self.server.cosigner.add_checkpoint(self.rfile.read(int(length))))

    def do_GET(self) -> None:
        """The newest checkpoint of a log, metrics, health."""
        cosigner, parts = self.server.cosigner, self.path.split("?")[0].strip("/").split("/")
        if parts[-1:] == ["checkpoint"] and len(parts) >= 2:
            try:
                found = cosigner.checkpoint(parts[-2])
            except StateLost as error:
                self._answer(503, TEXT, f"{error}\n")
                return
            self._answer(*((404, TEXT, "nothing cosigned\n") if found is None else (200, TEXT, found)))
        elif parts == ["metrics"]:
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", cosigner.metrics())
        elif parts == ["health"]:
            lost = cosigner.lost()
            self._answer(503 if lost else 200, TEXT, f"state lost: {', '.join(lost)}\n" if lost else "ok\n")
        else:
            self._answer(404, TEXT, "not here\n")

    def _answer(self, status: int, kind: str, body: str, *, close: bool = False) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the standard library
        """Requests are told by what became of them, not one by one."""


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"')
