# SPDX-License-Identifier: Apache-2.0
"""The exporters of each signal over either protocol, made from the settings alone: no variable of the environment that
a library would read takes a setting's place.
"""

from __future__ import annotations

from typing import Any

from control_plane.telemetry import config


class Http:
    """OTLP over HTTP with protobuf bodies."""

    def __init__(self, found: config.Telemetry) -> None:
        """Read the settings, and what files they name."""
        from opentelemetry.exporter.otlp.proto.http import Compression

        self._found = found
        self._rest: dict[str, Any] = {
            "headers": config.headers(found),
            "timeout": found.timeout_s,
            "compression": Compression.Gzip if found.compression == "gzip" else Compression.NoCompression,
            "certificate_file": found.ca_file,
            "client_certificate_file": found.client_certificate_file,
            "client_key_file": found.client_key_file,
        }

    def _options(self) -> dict[str, Any]:
        """Each exporter has a thread, and so a session, of its own."""
        import requests

        # Left to itself, requests lets REQUESTS_CA_BUNDLE win over `ca_file` and ~/.netrc over the header that is set.
        session = requests.Session()
        session.trust_env = False
        session.proxies = requests.utils.get_environ_proxies(self._found.endpoint or "")
        return {**self._rest, "session": session}

    def spans(self) -> Any:
        """For spans."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=self._found.url("traces"), **self._options())

    def metrics(self) -> Any:
        """For metrics."""
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(endpoint=self._found.url("metrics"), **self._options())

    def logs(self) -> Any:
        """For logs."""
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        return OTLPLogExporter(endpoint=self._found.url("logs"), **self._options())


class Grpc:
    """OTLP over gRPC."""

    def __init__(self, found: config.Telemetry) -> None:
        """Read the settings, and what files they name."""
        import grpc

        plain = (found.endpoint or "").startswith("http://")
        credentials = None
        if not plain:
            credentials = grpc.ssl_channel_credentials(
                *(_bytes(path) for path in (found.ca_file, found.client_key_file, found.client_certificate_file))
            )
        self._rest: dict[str, Any] = {
            "endpoint": found.endpoint,
            "insecure": plain,
            "credentials": credentials,
            "headers": tuple(config.headers(found).items()),
            "timeout": found.timeout_s,
            "compression": grpc.Compression.Gzip if found.compression == "gzip" else grpc.Compression.NoCompression,
        }

    def spans(self) -> Any:
        """For spans."""
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(**self._rest)

    def metrics(self) -> Any:
        """For metrics."""
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(**self._rest)

    def logs(self) -> Any:
        """For logs."""
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        return OTLPLogExporter(**self._rest)


def exporters_of(found: config.Telemetry) -> Http | Grpc:
    """Those of the protocol that is set."""
    return Grpc(found) if found.protocol == "grpc" else Http(found)


def _bytes(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - read once, when the exporters are made
        return file.read()
