# SPDX-License-Identifier: Apache-2.0
"""A real OTLP receiver for tests: gRPC and HTTP on loopback, keeping what came as protobuf messages."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


class Receiver:
    """Both protocols over one store; `http` and `grpc` are endpoints."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []  # protocol, signal, headers, message
        self.refusing = False
        self._lock = threading.Lock()
        self.http = self.grpc = ""

    def take(self, protocol: str, signal: str, headers: dict[str, str], message: Any) -> None:
        with self._lock:
            self.requests.append((protocol, signal, headers, message))

    def of(self, signal: str) -> list[Any]:
        with self._lock:
            return [message for _, kind, _, message in self.requests if kind == signal]

    def headers(self) -> list[dict[str, str]]:
        with self._lock:
            return [headers for _, _, headers, _ in self.requests]

    def spans(self) -> list[dict[str, Any]]:
        """Each span with its ids in hex, its attributes and its service."""
        found = []
        for message in self.of("traces"):
            for one in message.resource_spans:
                service = values(one.resource.attributes)
                for scope in one.scope_spans:
                    found += [_span(span, service) for span in scope.spans]
        return found

    def metrics(self) -> dict[str, list[Any]]:
        """Name → (resource attributes, metric) of each export."""
        found: dict[str, list[Any]] = {}
        for message in self.of("metrics"):
            for one in message.resource_metrics:
                service = values(one.resource.attributes)
                for scope in one.scope_metrics:
                    for metric in scope.metrics:
                        found.setdefault(metric.name, []).append((service, metric))
        return found

    def logs(self) -> list[dict[str, Any]]:
        found = []
        for message in self.of("logs"):
            for one in message.resource_logs:
                for scope in one.scope_logs:
                    for record in scope.log_records:
                        told = {"body": record.body.string_value, "trace_id": record.trace_id.hex()}
                        found.append({**told, **values(record.attributes), **values(one.resource.attributes)})
        return found

    def bytes(self) -> list[bytes]:
        """All that came, for a search."""
        with self._lock:
            return [message.SerializeToString() for _, _, _, message in self.requests]


def values(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}


def _span(span: Any, service: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "kind": span.kind,
        "service": service.get("service.name"),
        "process": service.get("service.instance.id"),
        "attributes": values(span.attributes),
        "links": [link.trace_id.hex() for link in span.links],
        "began": span.start_time_unix_nano,
        "ended": span.end_time_unix_nano,
    }


# signal, path over HTTP, service over gRPC, what is sent, what is answered
_SIGNALS: tuple[tuple[str, str, str, Any, Any], ...] = (
    (
        "traces",
        "/v1/traces",
        "trace.v1.TraceService",
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
    ),
    (
        "metrics",
        "/v1/metrics",
        "metrics.v1.MetricsService",
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
    ),
    (
        "logs",
        "/v1/logs",
        "logs.v1.LogsService",
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
    ),
)


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            signal, message = next((name, kind()) for name, path, _, kind, _ in _SIGNALS if path == self.path)
            message.ParseFromString(body)
            if not receiver.refusing:
                receiver.take("http", signal, {k.lower(): v for k, v in self.headers.items()}, message)
            self.send_response(503 if receiver.refusing else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _service(receiver: Receiver, signal: str, service: str, kind: Any, answer: Any) -> Any:
    def export(request: Any, context: Any) -> Any:
        if receiver.refusing:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        receiver.take("grpc", signal, dict(context.invocation_metadata()), request)
        return answer()

    method = grpc.unary_unary_rpc_method_handler(
        export, request_deserializer=kind.FromString, response_serializer=answer.SerializeToString
    )
    return grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{service}", {"Export": method})


def _certificate() -> tuple[bytes, bytes]:
    """A key and its own certificate for 127.0.0.1, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return plain, certificate.public_bytes(Encoding.PEM)


@contextmanager
def receiving(tls: Path | None = None) -> Iterator[Receiver]:
    """A receiver until the block ends; with `tls` it writes its certificate there and speaks TLS alone."""
    receiver = Receiver()
    web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
    made = _certificate() if tls is not None else None
    if tls is not None and made is not None:
        tls.write_bytes(made[1])
        tls.with_suffix(".key").write_bytes(made[0])
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(tls, tls.with_suffix(".key"))
        web.socket = secure.wrap_socket(web.socket, server_side=True)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        tuple(_service(receiver, signal, service, kind, answer) for signal, _, service, kind, answer in _SIGNALS)
    )
    if made is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([made]))
    server.start()
    scheme = "http" if made is None else "https"
    receiver.http, receiver.grpc = f"{scheme}://127.0.0.1:{web.server_port}", f"{scheme}://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.stop(0)
        web.shutdown()
        web.server_close()
