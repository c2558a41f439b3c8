# SPDX-License-Identifier: Apache-2.0
"""Where telemetry goes: the `[telemetry]` table of `qcos.toml` and the standard OTEL_* variables, which win over it.

Enters: text. Leaves: one frozen `Telemetry`, or `SettingInvalid` that names the key. Headers and the token are secrets:
`up` writes them to a file of 0600 in the home, and no environment of a process carries them (I10). A credential never
goes over plain HTTP to another machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import SettingInvalid
from control_plane.fields import LOOPBACK

Protocol = Literal["http/protobuf", "grpc"]
Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
_SECRETS = "exporter"


class Telemetry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[telemetry]` table. Without `endpoint` nothing is exported, and nothing but log files is written."""

    endpoint: str | None = None
    protocol: Protocol = "http/protobuf"
    headers: dict[str, str] = {}
    token_file: str | None = None
    ca_file: str | None = None
    client_certificate_file: str | None = None
    client_key_file: str | None = None
    compression: Literal["gzip", "none"] = "none"
    timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 5.0
    traces: bool = True
    metrics: bool = True
    logs: bool = True
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
    traces_per_s: Annotated[float, Meta(ge=0, le=10000)] = 20.0
    metric_interval_s: Annotated[float, Meta(ge=0.1, le=3600)] = 15.0
    batch_interval_s: Annotated[float, Meta(ge=0.05, le=60)] = 1.0
    batch: Annotated[int, Meta(ge=1, le=4096)] = 256
    queue: Annotated[int, Meta(ge=16, le=1 << 20)] = 8192
    service: str = "qcos"
    opa_address: str | None = None

    @property
    def on(self) -> bool:
        """Whether anything is exported."""
        return self.endpoint is not None and (self.traces or self.metrics or self.logs)

    def url(self, signal: Signal) -> str:
        """Where a signal goes: over HTTP each has a path of its own, over gRPC they share one address."""
        base = self.endpoint or ""
        return base if self.protocol == "grpc" else f"{base.rstrip('/')}/v1/{signal}"


MEANS = {
    "endpoint": "base URL of an OTLP receiver; without it telemetry is off",
    "protocol": "`http/protobuf` or `grpc`",
    "headers": 'a table, e.g. `{ "x-tenant" = "lab" }`; values are secrets',
    "token_file": "file whose text is sent as `Authorization: Bearer`",
    "ca_file": "PEM with the authority of the receiver's certificate",
    "client_certificate_file": "for receivers that want one",
    "client_key_file": "its key",
    "compression": "`gzip` or `none`",
    "timeout_s": "the longest an export may take",
    "traces": "export spans",
    "metrics": "export metrics",
    "logs": "export log lines beside the files",
    "sample": "share of traces that are recorded; a caller's unsampled trace never is",
    "traces_per_s": "and at most so many a second begin in each API process; 0 is no limit",
    "metric_interval_s": "how often metrics are read and sent",
    "batch_interval_s": "the longest a span or line waits for its batch",
    "batch": "spans or lines a request",
    "queue": "spans or lines kept while the receiver is slow; beyond, the oldest are dropped and counted",
    "service": "prefix of `service.name`",
    "opa_address": "host:port of a gRPC receiver to which OPA sends its own spans, without headers",
}


def read(table: object, environment: Mapping[str, str]) -> Telemetry:
    """The settings of telemetry: the file's table with what the environment says instead."""
    if not isinstance(table, dict):
        raise SettingInvalid("telemetry", table, "a table, headed [telemetry]")
    try:
        found = msgspec.convert(table, Telemetry)
    except msgspec.ValidationError as error:
        raise SettingInvalid("telemetry", sorted(table), str(error)) from error
    try:
        found = msgspec.convert({**msgspec.to_builtins(found), **_standard(environment)}, Telemetry)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingInvalid("OTEL_*", "(not shown)", str(error)) from error
    _check(found)
    paths = ("token_file", "ca_file", "client_certificate_file", "client_key_file")
    absolute = {name: str(Path(value).expanduser().absolute()) for name in paths if (value := getattr(found, name))}
    return msgspec.structs.replace(found, **absolute)


def _standard(env: Mapping[str, str]) -> dict[str, Any]:
    """What the variables of the OpenTelemetry specification say, under our keys."""
    said: dict[str, Any] = {}
    words = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "endpoint",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "protocol",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca_file",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "client_certificate_file",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "client_key_file",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "compression",
        "OTEL_SERVICE_NAME": "service",
    }
    said |= {key: env[name] for name, key in words.items() if env.get(name)}
    if text := env.get("OTEL_EXPORTER_OTLP_HEADERS"):
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        said["headers"] = {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}
    numbers = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": ("timeout_s", 1000.0),
        "OTEL_METRIC_EXPORT_INTERVAL": ("metric_interval_s", 1000.0),
        "OTEL_BSP_SCHEDULE_DELAY": ("batch_interval_s", 1000.0),
    }
    said |= {key: float(env[name]) / scale for name, (key, scale) in numbers.items() if env.get(name)}
    whole = {"OTEL_BSP_MAX_QUEUE_SIZE": "queue", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "batch"}
    said |= {key: int(env[name]) for name, key in whole.items() if env.get(name)}
    said |= {signal: False for signal in SIGNALS if env.get(f"OTEL_{signal.upper()}_EXPORTER") == "none"}
    said |= _sampler(env.get("OTEL_TRACES_SAMPLER", ""), env.get("OTEL_TRACES_SAMPLER_ARG", ""))
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        said["endpoint"] = None
    return said


def _sampler(word: str, argument: str) -> dict[str, Any]:
    match word.removeprefix("parentbased_"):
        case "":
            return {}
        case "always_on":
            return {"sample": 1.0}
        case "always_off":
            return {"sample": 0.0}
        case "traceidratio":
            return {"sample": float(argument or 1)}
        case _:
            raise ValueError(
                "OTEL_TRACES_SAMPLER: wanted always_on, always_off or traceidratio, or parentbased_ of one"
            )


def _check(found: Telemetry) -> None:
    if found.endpoint is None:
        return
    parts = urlsplit(found.endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise SettingInvalid("telemetry.endpoint", found.endpoint.rpartition("@")[2], "http:// or https:// and a host")
    secret = bool(found.headers) or found.token_file is not None
    if secret and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        wanted = "https, since a credential would cross the network in the clear"
        raise SettingInvalid("telemetry.endpoint", found.endpoint, wanted)
    for name in ("token_file", "ca_file", "client_certificate_file", "client_key_file"):
        path = getattr(found, name)
        if path and not os.access(Path(path).expanduser(), os.R_OK):
            raise SettingInvalid(f"telemetry.{name}", path, "a file that can be read")
    if (found.client_certificate_file is None) != (found.client_key_file is None):
        raise SettingInvalid("telemetry.client_key_file", None, "both client_certificate_file and client_key_file")


def headers(found: Telemetry) -> dict[str, str]:
    """Every header of an export, the bearer token among them; names in small letters, as gRPC wants them."""
    sent = {name.lower(): value for name, value in found.headers.items()}
    if found.token_file is not None:
        sent["authorization"] = "Bearer " + Path(found.token_file).read_text(encoding="utf-8").strip()
    return sent


def keep_headers(found: Telemetry, home: Path) -> None:
    """Leave the headers where only this user's processes read them; removes what an earlier start left."""
    path = home / "keys" / "telemetry-headers"
    path.unlink(missing_ok=True)
    if not found.on or not found.headers:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(found.headers))


def with_headers(found: Telemetry, home: Path) -> Telemetry:
    """What a child process exports with: its settings and the headers that `up` has kept."""
    try:
        kept = (home / "keys" / "telemetry-headers").read_bytes()
    except FileNotFoundError:
        return found
    return msgspec.structs.replace(found, headers=msgspec.json.decode(kept, type=dict[str, str]))


def is_secret(variable: str) -> bool:
    """Whether a variable of the environment may hold a credential, so that no child inherits it."""
    return variable.startswith("OTEL_") and variable.endswith(("HEADERS", "CREDENTIAL_PROVIDER"))
