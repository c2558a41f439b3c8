# SPDX-License-Identifier: Apache-2.0
"""Hostile connections at a running plane, on TCP and on the Unix socket: each is bounded in bytes and time, and while
it goes on others are answered (N13).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.plane import Plane, bell

HOST = b"Host: x\r\n"
CLOSE = b"Connection: close\r\n"
GROWTH_KB = 96_000


@pytest.fixture(scope="module")
def own() -> Iterator[Plane]:
    """A plane that other tests don't share: its API process is measured."""
    plane = Plane(QCOS_WORKERS="1")
    plane.start()
    yield plane
    plane.stop()


@pytest.fixture(params=["tcp", "unix"])
def unix(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "unix")


def connected(plane: Plane, *, unix: bool = False, limit_s: float = 20) -> socket.socket:
    if unix:
        made = socket.socket(socket.AF_UNIX)
        made.connect(plane.status["socket"])
    else:
        parts = urlsplit(plane.status["url"])
        made = socket.create_connection((parts.hostname or "", parts.port or 0))
    made.settimeout(limit_s)
    return made


def bearer(plane: Plane, user: str = "engineer") -> bytes:
    return f"Authorization: Bearer {plane.tokens[user]}\r\n".encode()


def told(connection: socket.socket) -> bytes:
    """All that comes until the plane closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65_536):
            found += more
    return found


def asked(plane: Plane, request: bytes, *, unix: bool = False) -> bytes:
    with connected(plane, unix=unix) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return told(connection)


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def submitting(plane: Plane, headers: bytes, body: bytes = b"") -> bytes:
    kind = b"Content-Type: application/json\r\n"
    return b"POST /api/v1/jobs HTTP/1.1\r\n" + HOST + CLOSE + kind + bearer(plane) + headers + b"\r\n" + body


SMUGGLED = b"0\r\n\r\nGET /api/v1/health HTTP/1.1\r\n" + HOST + b"\r\n"
MALFORMED = {
    "a huge header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    "a header without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000, 431),
    "a huge address": (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "a line feed alone": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"X: a\r\n b\r\n\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"X: a\0b\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400),
    "bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 400),
    "bad UTF-8 in the path": (b"GET /api/v1/jobs/%ff%fe HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 401),
    "NUL in the path": (b"GET /api/v1/jobs/%00 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 404),
    "another host's address": (b"GET http://evil.example/api/v1/health HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 200),
    "a tunnel": (b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method overridden": (
        b"POST /api/v1/health HTTP/1.1\r\n"
        + HOST
        + CLOSE
        + b"X-HTTP-Method-Override: GET\r\nX-Method-Override: GET\r\nContent-Length: 0\r\n\r\n",
        405,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_refused(own: Plane, unix: bool, name: str) -> None:
    request, status = MALFORMED[name]
    answer = asked(own, request, unix=unix)
    assert statuses(answer) == [status], answer[:300]
    if status != 200:
        assert b"application/problem+json" in answer
    assert own.http("GET", "/api/v1/health", user=None).status == 200


AMBIGUOUS = {
    "chunked and a length": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "a length and chunked": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n",
    "a length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a list of lengths": b"Content-Length: 4, 5\r\n",
    "a negative length": b"Content-Length: -4\r\n",
    "a length in hex": b"Content-Length: 0x4\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n",
    "chunked, then another": b"Transfer-Encoding: chunked, identity\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a chunk of 16 EiB": b"Transfer-Encoding: chunked\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_servers_could_cut_differently_is_refused_and_smuggles_nothing(
    own: Plane, unix: bool, name: str
) -> None:
    body = b"fffffffffffffffff\r\nabc" if "EiB" in name else SMUGGLED
    answer = asked(own, submitting(own, AMBIGUOUS[name], body), unix=unix)
    assert statuses(answer) == [400], answer[:300]
    assert b"alive" not in answer


def test_a_compressed_body_is_refused_before_it_is_unpacked(own: Plane) -> None:
    for coding in ("gzip", "deflate", "br", "gzip, identity"):
        packed = gzip.compress(b" " * 20_000_000)
        answer = own.http("POST", "/api/v1/jobs", packed, headers={"Content-Encoding": coding})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


def test_a_body_larger_than_said_or_allowed_is_refused(own: Plane, unix: bool) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    endless = asked(own, submitting(own, b"Transfer-Encoding: chunked\r\n", chunk * 64), unix=unix)
    assert statuses(endless)[:1] in ([413], []), endless[:300]
    assert statuses(asked(own, submitting(own, b"Content-Length: 99999999999\r\n", b"{}"), unix=unix)) == [413]
    longer = asked(own, submitting(own, b"Content-Length: 2\r\n", b"{}" + SMUGGLED), unix=unix)
    assert statuses(longer) == [400]
    assert b"alive" not in longer


def test_requests_far_ahead_of_their_turn_are_dropped(own: Plane) -> None:
    one = b"GET /api/v1/whoami HTTP/1.1\r\n" + HOST + bearer(own) + b"\r\n"
    assert set(statuses(asked(own, one * 2_000))) <= {200}
    few = asked(own, one * 4 + b"GET /api/v1/health HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert statuses(few) == [200] * 5


def upgraded(plane: Plane, job: str, user: str = "engineer") -> tuple[socket.socket, int]:
    """A raw WebSocket and the status of its handshake."""
    connection = connected(plane)
    key = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    path = f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\n".encode()
    connection.sendall(path + HOST + key + bearer(plane, user) + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    return connection, statuses(head)[0]


def frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size > 65_535:
        length = b"\xff" + struct.pack(">Q", size)
    else:
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([0x80 | kind]) + length + b"\0\0\0\0" + payload


@pytest.fixture(scope="module")
def held(own: Plane) -> Iterator[str]:
    """A job whose socket has nothing to tell for long: the only worker is stopped."""
    (worker,) = own.workers()
    os.kill(worker, signal.SIGSTOP)
    yield str(own.submit(bell()).json["job_id"])
    os.kill(worker, signal.SIGCONT)


def test_websockets_of_one_person_are_counted_and_given_back(own: Plane, held: str) -> None:
    """64 at a time; a peer that leaves without a word frees its place; another person has their own."""
    for _ in range(2):
        opened = [upgraded(own, held) for _ in range(70)]
        opened.append(upgraded(own, held, "auditor"))
        assert [status for _, status in opened] == [101] * 64 + [429] * 6 + [101]
        for connection, _ in opened:
            connection.close()
        until, freed = time.monotonic() + 20, 0
        while freed != 101:
            connection, freed = upgraded(own, held)
            connection.close()
            assert time.monotonic() < until
        time.sleep(1)


def test_a_socket_that_talks_is_closed(own: Plane, held: str) -> None:
    for sent, code in ((frame(1, b"hello"), 1003), (frame(2, b"x" * 100_000), 1009)):
        connection, status = upgraded(own, held)
        assert status == 101
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        answer = told(connection)
        connection.close()
        assert struct.pack(">H", code) in answer, answer


def memory_kb(plane: Plane) -> int:
    (pid,) = [one["pid"] for one in plane.cli("status", "--json").json["processes"] if one["name"] == "api-1"]
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_pings_that_nobody_reads_the_answers_of_take_no_memory(own: Plane, held: str) -> None:
    before = memory_kb(own)
    connection, _ = upgraded(own, held)
    connection.settimeout(0.5)
    pings = frame(9, b"p" * 125) * 4_000
    with contextlib.suppress(OSError):
        for _ in range(60):
            connection.sendall(pings)
    assert own.http("GET", "/api/v1/health", user=None).status == 200
    assert memory_kb(own) - before < GROWTH_KB
    connection.close()


@pytest.mark.faults
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_slow_and_silent_connections_end_and_others_are_answered_meanwhile(own: Plane, unix: bool) -> None:
    """Slow-loris in head and body, idle connections by the thousand, answers that nobody reads."""
    before = memory_kb(own)
    large = json.dumps(bell()).encode()
    slow_head = [connected(own, unix=unix) for _ in range(100)]
    slow_body = [connected(own, unix=unix) for _ in range(100)]
    for connection in slow_body:
        connection.sendall(submitting(own, b"Content-Length: %d\r\n" % len(large)))
    idle = [connected(own, unix=unix) for _ in range(1_500)]
    unread = [connected(own, unix=unix) for _ in range(20)]
    for connection in unread:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall((b"GET /api/v1/openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 10)
    # What nobody reads is dropped in the end: seen on the plane's side, by the connections that are left.
    open_ones = [*slow_head, *slow_body, *idle]
    until, place = time.monotonic() + 120, 0
    while open_ones:
        assert own.http("GET", "/api/v1/whoami", user="auditor", unix=unix).status == 200
        for connection in slow_head:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaa"[place % 40 :][:1])
        for connection in slow_body:
            with contextlib.suppress(OSError):
                connection.sendall(b" ")
        place += 1
        open_ones = [connection for connection in open_ones if not ended(connection)]
        assert time.monotonic() < until, f"{len(open_ones)} are still open"
        assert memory_kb(own) - before < GROWTH_KB
        time.sleep(0.5)
    while any(status != 0 for status in map(unacknowledged, unread)):
        assert own.http("GET", "/api/v1/whoami", user="auditor", unix=unix).status == 200
        assert time.monotonic() < until, "answers that nobody reads are kept"
        time.sleep(1)
    for connection in (*slow_head, *slow_body, *idle, *unread):
        connection.close()
    until = time.monotonic() + 120  # its own patience: on a busy machine what comes before may take most of the other
    while not (told := own.http("GET", "/api/v1/ready", user=None).json)["ready"]:
        assert time.monotonic() < until, [one for one in told["checks"].items() if not one[1]["ok"]]
        time.sleep(0.5)


def unacknowledged(connection: socket.socket) -> int:
    """0 once the plane has dropped the connection: writing to it fails then."""
    connection.settimeout(0)
    try:
        connection.send(b"\r\n")
    except BlockingIOError:
        return 1
    except OSError:
        return 0
    return 1


def ended(connection: socket.socket) -> bool:
    """Whether the plane has closed it."""
    connection.settimeout(0)
    try:
        return connection.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
