# SPDX-License-Identifier: Apache-2.0
"""How each setting is written and what it may be: pure parsers from text (environment, flag) or a TOML value.

A parser returns the value or raises `SettingInvalid` with the name under which the value came in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from control_plane.auth.source import UNIX, network
from control_plane.errors import SettingInvalid

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
SWITCH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


class Field(Struct, frozen=True):
    """One setting: its environment variable, what is wanted in words, and the reader of its value."""

    environment: str
    wanted: str
    read: Callable[[object], Any]

    def parse(self, name: str, value: object) -> Any:
        """The value, or SettingInvalid under the name by which it was given."""
        try:
            return self.read(value)
        except (ValueError, TypeError) as error:
            raise SettingInvalid(name, _without_password(value), self.wanted) from error


def _without_password(value: object) -> object:
    return re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", value) if isinstance(value, str) else value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError
    return value


def _folder(value: object) -> Path:
    return Path(_text(str(value) if isinstance(value, Path) else value)).expanduser()


def _name(value: object) -> str:
    if not _NAME.fullmatch(_text(value)):
        raise ValueError
    return _text(value)


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _text(value).lower()
    if word not in SWITCH:
        raise ValueError
    return SWITCH[word]


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError
        if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
            raise ValueError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError
        return number

    return read


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return read


def _names(value: object) -> tuple[str, ...]:
    named = value if isinstance(value, list) else _text(value).split(",")
    return tuple(_text(name).strip() for name in named)


def _proxies(value: object) -> tuple[str, ...]:
    named = _names(value)
    return tuple(one if one == UNIX else str(network(one)) for one in named)


def _header(value: object) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", _text(value)):
        raise ValueError
    return _text(value)


def _url(*schemes: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        parts = urlsplit(text)
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise ValueError
        return text

    return read


def _database(value: object) -> str:
    text = _url("postgresql", "postgres", "postgresql+psycopg")(value)
    rest = text.partition("://")[2]
    parts = urlsplit("postgresql://" + rest)
    if not parts.path.strip("/") or parts.port == 0:  # .port raises ValueError itself where it is no number
        raise ValueError
    return "postgresql+psycopg://" + rest


def _entries() -> dict[str, Field]:
    def whole(low: int, high: int) -> tuple[str, Callable[[object], int]]:
        return f"a whole number from {low} to {high}", _whole(low, high)

    def number(low: float, high: float) -> tuple[str, Callable[[object], float]]:
        return f"a number from {low:g} to {high:g}", _number(low, high)

    def one_of(*words: str) -> tuple[str, Callable[[object], str]]:
        return "one of " + ", ".join(words), _one_of(*words)

    table: dict[str, tuple[str, Callable[[object], Any]]] = {
        "home": ("the path of a folder", _folder),
        "profile": one_of("dev", "saas", "dedicated", "onprem", "airgapped"),
        "plane": ("a name of small letters, digits, dots and dashes, at most 64", _name),
        "database_url": ("postgresql://LOGIN:PASSWORD@HOST/DATABASE", _database),
        "database_connections": whole(2, 200),
        "policy_engine": one_of("auto", "opa", "embedded"),
        "opa_bin": ("the path of an opa binary", _text),
        "opa_url": ("an http, https or unix URL", _url("http", "https", "unix")),
        "policy_limit_s": number(0.05, 10),
        "policy_max_age_s": number(1, 604_800),
        "policy_log_per_s": number(0, 100_000),
        "policy_tenants": ("names of tenants, with commas between them", _names),
        "http_host": ("an address to listen on", _text),
        "http_port": whole(0, 65535),
        "proxy_networks": ("networks as 10.0.0.0/8 or unix, with commas between them", _proxies),
        "proxy_header": ("the name of a header", _header),
        "url": ("an http, https or unix URL", _url("http", "https", "unix")),
        "tsa_url": ("an http or https URL", _url("http", "https")),
        "tsa_certificates": ("the path of a PEM file", _text),
        "document_certificates": ("the path of a PEM file", _text),
        "local_issuer": ("true or false", _switch),
        "qpy": ("true or false", _switch),
        "api_processes": whole(1, 64),
        "workers": whole(1, 256),
        "nodes": whole(0, 64),
        "simulators": whole(1, 64),
        "simulator_memory_mb": whole(128, 1 << 20),
        "default_backends": ("true or false", _switch),
        "job_deadline_s": number(1, 86400),
        "queue_limit_s": number(1, 2592000),
        "approval_wait_s": number(1, 31_536_000),
        "lease_s": number(1, 600),
        "wait_limit_s": number(1, 600),
        "max_body_bytes": whole(1024, 1 << 30),
        "circuit_bytes": whole(1024, 4 << 20),
        "circuit_qubits": whole(1, 10_000),
        "circuit_clbits": whole(1, 100_000),
        "circuit_operations": whole(100, 10_000_000),
        "circuit_loop": whole(1, 10_000_000),
        "circuit_nesting": whole(4, 64),
        "rate_requests_per_s": number(0.1, 1e6),
        "rate_burst": whole(1, 10**6),
        "rate_bytes_per_s": whole(1024, 1 << 40),
        "denial_bytes_per_day": whole(0, 1 << 50),
        "session_s": number(60, 2_592_000),
        "session_idle_s": number(30, 2_592_000),
        "login_per_s": number(0.1, 1e6),
        "clock_skew_s": number(0, 300),
        "clock_tolerance_s": number(0.5, 300),
        "witness_interval_s": number(0.1, 86_400),
        "database_limit_s": number(1, 600),
        "sealers": whole(1, 8),
        "start_limit_s": number(1, 600),
        "crash_at": ("a crash point, see below", _text),
        "stop_limit_s": number(0, 600),
        "log_level": one_of("debug", "info", "warning", "error"),
        "log_file_mb": whole(1, 1024),
        "snapshot_every_s": number(0, 366 * 86_400),
    }
    return {name: Field("QCOS_" + name.upper(), wanted, read) for name, (wanted, read) in table.items()}


FIELDS: dict[str, Field] = _entries()
