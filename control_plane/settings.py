# SPDX-License-Identifier: Apache-2.0
"""The plane's settings: one frozen value from flags, environment and `qcos.toml`, in that order of authority (N11).

Enters: three mappings of text. Leaves: `Settings`, or `SettingInvalid` that names the field, its value and what is
wanted; an unknown key of the file is refused, because a misspelt limit would silently be no limit. What a profile
forbids is refused here, before anything starts. Not here: keys, passwords and tokens, which are files of `QCOS_HOME`.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from control_plane import crash, custody
from control_plane.auth import providers
from control_plane.auth.ldap import tables as ldap_tables
from control_plane.auth.ldap.tables import LdapFacts
from control_plane.auth.providers import OidcIssuer, Provider
from control_plane.auth.saml import tables as saml_tables
from control_plane.auth.saml.tables import SamlFacts
from control_plane.errors import SettingInvalid
from control_plane.fields import FIELDS, LOOPBACK
from control_plane.jobs import weights
from control_plane.network import config as network
from control_plane.notices import channels, targets
from control_plane.notices.mail import MailFacts
from control_plane.siem import config as siem
from control_plane.telemetry import config as telemetry
from hal_drivers.limits import Limits
from ledger.custody import PLAIN, Custody

PROFILES = ("dev", "saas", "dedicated", "onprem", "airgapped")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")  # libpq splits at a comma, URLs change blanks and %
_SOCKET_ROOM = 70  # of the 107 bytes of sun_path; the rest is for the names inside the runtime folder


class BackendFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[backend]]` table: what the administrator answers for; a driver can't know where its machine stands."""

    id: str
    provider: str
    region: str
    compliance_zone: str
    sovereign: bool = False
    device: str | None = None
    method: str = "automatic"
    noise: str | None = None
    url: str | None = None
    ca: str | None = None
    credential: str | None = None
    cluster: str | None = None


class WitnessFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[witness]]` table: where it answers, and name and key as `qcos witness show` prints them."""

    url: str
    public: str


class AnchorFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """An `[[anchor]]` table: a place outside that keeps heads of the log (`control_plane.anchors`)."""

    name: str
    kind: str
    every_s: float = 3600.0
    path: str | None = None
    immutable: bool = False
    bucket: str | None = None
    prefix: str = "qcos"
    retention_days: int = 3650
    endpoint_url: str | None = None
    region: str | None = None
    url: str | None = None
    certificates: str | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Names are those of `qcos.toml`; `QCOS_` and capitals make the environment's."""

    home: Path = Path(".qcos")
    profile: str = "dev"
    plane: str = "dev"
    database_url: str | None = None
    database_connections: int = 10
    policy_engine: str = "auto"
    opa_bin: str | None = None
    opa_url: str | None = None
    policy_limit_s: float = 1.0
    policy_max_age_s: float = 3600.0
    policy_log_per_s: float = 100.0
    policy_tenants: tuple[str, ...] = ()
    http_host: str = "127.0.0.1"
    http_port: int = 8470
    proxy_networks: tuple[str, ...] = ()
    proxy_header: str = "X-Forwarded-For"
    url: str | None = None
    tsa_url: str | None = None
    tsa_certificates: str | None = None
    document_certificates: str | None = None
    local_issuer: bool = True
    qpy: bool = False
    api_processes: int = 1
    workers: int = 2
    nodes: int = 0
    simulators: int = 1
    simulator_memory_mb: int = 2048
    default_backends: bool = True
    job_deadline_s: float = 300.0
    queue_limit_s: float = 86_400.0
    approval_wait_s: float = 604_800.0
    lease_s: float = 10.0
    wait_limit_s: float = 60.0
    max_body_bytes: int = 2 * 1024 * 1024
    circuit_bytes: int = Limits().source_bytes
    circuit_qubits: int = Limits().qubits
    circuit_clbits: int = Limits().clbits
    circuit_operations: int = Limits().gates
    circuit_loop: int = Limits().loop
    circuit_nesting: int = Limits().nesting
    rate_requests_per_s: float = 500.0
    rate_burst: int = 2000
    denial_bytes_per_day: int = 64 << 20
    rate_bytes_per_s: int = 64 * 1024 * 1024
    session_s: float = 43_200.0
    session_idle_s: float = 3_600.0
    login_per_s: float = 50.0
    clock_skew_s: float = 30.0
    clock_tolerance_s: float = 5.0
    database_limit_s: float = 10.0
    sealers: int = 1
    start_limit_s: float = 60.0
    crash_at: str | None = None
    stop_limit_s: float = 10.0
    log_level: str = "info"
    log_file_mb: int = 16
    snapshot_every_s: float = 86_400.0
    oidc: tuple[OidcIssuer, ...] = ()
    saml: tuple[SamlFacts, ...] = ()
    ldap: tuple[LdapFacts, ...] = ()
    backend: tuple[BackendFacts, ...] = ()
    witness: tuple[WitnessFacts, ...] = ()
    anchor: tuple[AnchorFacts, ...] = ()
    notify: tuple[targets.NotifyFacts, ...] = ()
    mail: tuple[MailFacts, ...] = ()
    siem: tuple[siem.SiemFacts, ...] = ()
    witness_interval_s: float = 1.0
    telemetry: telemetry.Telemetry = telemetry.Telemetry()
    routing: weights.Weights = weights.Weights()
    network: network.Network = network.Network()
    keys: Custody = PLAIN

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Everybody who may sign people in, of all kinds."""
        tables = (*saml_tables.of_saml(self.saml), *ldap_tables.of_ldap(self.ldap))
        return (*providers.of_oidc(self.oidc), *tables)

    @property
    def channels(self) -> tuple[channels.Channel, ...]:
        """Whoever may be told, by whichever way."""
        return (*self.notify, *self.mail)

    @property
    def qpy_enabled(self) -> bool:
        """Whether QPY circuits are taken; off by default, for their parser is the widest attack surface."""
        return self.qpy

    @property
    def circuit_limits(self) -> Limits:
        """What a circuit may ask for: pre-scan in the API and in the worker, and guarded child, judge by the same."""
        return Limits(
            source_bytes=self.circuit_bytes,
            qubits=self.circuit_qubits,
            clbits=self.circuit_clbits,
            gates=self.circuit_operations,
            loop=self.circuit_loop,
            nesting=self.circuit_nesting,
            qpy=self.qpy,
        )

    @property
    def runtime(self) -> Path:
        """The folder for sockets: inside the home, or a short plain one named after it when the home's path isn't."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _SOCKET_ROOM and _PLAIN_PATH.fullmatch(str(inside)):
            return inside
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"qcos-{os.geteuid()}-{name}"

    @property
    def api_socket(self) -> Path:
        """The API's Unix socket; its folder is 0700, because uvicorn makes the socket itself writable by all."""
        return self.runtime / "api" / "api.sock"

    @property
    def clock_accepted(self) -> Path:
        """Why an operator lets the log go on under a clock that was set back; the sealer uses it once."""
        return self.home / "run" / "clock-accepted"

    @property
    def tsa_socket(self) -> Path:
        """The own time-stamping authority's Unix socket."""
        return self.runtime / "tsa" / "tsa.sock"

    @property
    def opa_socket(self) -> Path:
        """Where the OPA that `up` starts answers."""
        return self.runtime / "opa" / "opa.sock"

    @property
    def fabric_socket(self) -> Path:
        """The fabric's Unix socket; its folder is 0700."""
        return self.runtime / "fabric" / "fabric.sock"

    @property
    def postgres_sockets(self) -> Path:
        """The folder of the wheel's PostgreSQL socket."""
        return self.runtime / "pg"


def load(flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this start; the file is `QCOS_CONFIG`, else `./qcos.toml`, else `qcos.toml` in the home."""
    settings = located(flags, environment)
    _refuse_what_the_profile_forbids(settings)
    return settings


def located(flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command that speaks to a plane: what would keep a plane from starting is not its matter."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    env = os.environ if environment is None else environment
    values = _from_file(_file(given, env))
    for name, field in FIELDS.items():
        if env.get(field.environment):
            values[name] = field.parse(field.environment, env[field.environment])
        if name in given:
            values[name] = field.parse("--" + name.replace("_", "-"), given[name])
    _default_of_profile(values)
    values["telemetry"] = telemetry.read(values.get("telemetry", {}), env)
    values["network"] = network.read(values.get("network", {}), env)
    values["keys"] = custody.read(values.get("keys", {}), env, values.get("profile", "dev"))
    for name in ("tsa_certificates", "document_certificates"):
        if values.get(name):
            values[name] = str(Path(values[name]).expanduser().absolute())
    if values.get("nodes"):  # nodes of its own are of no use to a plane without a network
        values["network"] = msgspec.structs.replace(values["network"], enabled=True)
    settings = Settings(**values)
    return msgspec.structs.replace(settings, home=settings.home.absolute())


def _file(flags: Mapping[str, Any], env: Mapping[str, str]) -> Path | None:
    named = flags.get("config") or env.get("QCOS_CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingInvalid("QCOS_CONFIG", str(named), "a file that exists")
        return Path(named)
    home = Path(flags.get("home") or env.get("QCOS_HOME") or ".qcos")
    return next((path for path in (Path("qcos.toml"), home / "qcos.toml") if path.is_file()), None)


LISTED: Final[dict[str, type[Any]]] = {
    "oidc": OidcIssuer,
    "saml": SamlFacts,
    "ldap": LdapFacts,
    "backend": BackendFacts,
    "witness": WitnessFacts,
    "anchor": AnchorFacts,
    "notify": targets.NotifyFacts,
    "mail": MailFacts,
    "siem": siem.SiemFacts,
}
"""Lists of tables by their name, and what each table is."""

TABLES: Final = (*LISTED, "telemetry", "routing", "network", "keys")
"""What a file has beside its plain fields."""


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingInvalid("qcos.toml", str(path), f"valid TOML ({error})") from error
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in FIELDS:
            values[key] = FIELDS[key].parse(key, value)
        elif key in LISTED:
            values[key] = _tables(key, value, LISTED[key])
        elif key in {"telemetry", "network", "keys"}:
            values[key] = value
        elif key == "routing":
            values[key] = weights.read(value)
        else:
            raise SettingInvalid(key, value, "one of the known keys: " + ", ".join([*FIELDS, *TABLES]))
    return values


def _tables(key: str, value: object, kind: type[Any]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SettingInvalid(key, value, f"a list of tables, each headed [[{key}]]")
    found = []
    for number, table in enumerate(value):
        try:
            found.append(msgspec.convert(table, kind))
        except msgspec.ValidationError as error:
            raise SettingInvalid(f"{key}[{number}]", table, str(error)) from error
    return tuple(found)


def _default_of_profile(values: dict[str, Any]) -> None:
    # Outside dev the defaults that are for development only give way to "must be said".
    if values.get("profile", "dev") != "dev":
        values.setdefault("local_issuer", False)
        values.setdefault("plane", "")


def _refuse_what_the_profile_forbids(s: Settings) -> None:
    ids = [facts.id for facts in s.backend]
    if len(set(ids)) != len(ids):
        raise SettingInvalid("backend", ids, "each id once")
    for number, facts in enumerate(s.backend):
        _check_backend(number, facts)
    if s.opa_url and s.policy_engine == "embedded":
        raise SettingInvalid("policy_engine", s.policy_engine, "opa or auto, since opa_url is set")
    _check_authority(s)
    if s.witness:
        from control_plane.witnesses import check  # brings cryptography, which few starts need this early

        check(s.witness)
    if s.anchor:
        from control_plane import anchors

        anchors.check(s.anchor)
    channels.check(s.notify, s.mail, s.profile)
    providers.check(s.oidc)
    saml_tables.check(s.saml, s.oidc)
    ldap_tables.check(s.ldap)
    providers.check_names(s.providers)
    siem.check(s.siem)
    _check_crash_point(s)
    if s.profile == "dev":
        if s.http_host not in LOOPBACK:
            raise SettingInvalid("http_host", s.http_host, "a loopback address in profile dev: " + ", ".join(LOOPBACK))
        custody.check(s.keys, s.profile)
        return
    where = f"in profile {s.profile}"
    if s.nodes:
        raise SettingInvalid("nodes", s.nodes, f"0 {where}: labs run their nodes themselves, by qcos node run")
    if not s.plane:
        raise SettingInvalid("plane", s.plane, f"a name of this plane, which evidence will carry, {where}")
    if s.database_url is None:
        raise SettingInvalid("QCOS_DATABASE_URL", None, f"the URL of a PostgreSQL {where}; the wheel's is for dev only")
    if s.policy_engine == "embedded":
        raise SettingInvalid(
            "policy_engine", s.policy_engine, f"opa or auto {where}; the embedded engine is for dev only"
        )
    if s.local_issuer:
        raise SettingInvalid("local_issuer", s.local_issuer, f"false {where}; configure [[oidc]]")
    if not s.providers:
        wanted = f"an [[oidc]], [[saml]] or [[ldap]] table in qcos.toml {where}, or nobody can sign in"
        raise SettingInvalid("oidc", [], wanted)
    for number, issuer in enumerate(s.oidc):
        host = urlsplit(issuer.issuer).hostname
        if not issuer.issuer.startswith("https://") and host not in LOOPBACK:  # loopback crosses no network
            raise SettingInvalid(f"oidc[{number}].issuer", issuer.issuer, f"an https URL {where}")
    custody.check(s.keys, s.profile)


def _check_backend(number: int, facts: BackendFacts) -> None:
    if facts.provider != "remote":
        return
    try:
        parts = urlsplit(facts.url or "")
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingInvalid(f"backend[{number}].url", facts.url, "https://HOST[:PORT][/PATH] of a remote simulator")


def _check_authority(s: Settings) -> None:
    if s.tsa_url is None and s.tsa_certificates is None:
        return
    if s.tsa_url is None:
        raise SettingInvalid("tsa_url", None, "the URL of the authority that tsa_certificates speaks of")
    if s.tsa_certificates is None:
        wanted = "a PEM file with the certificates of the authority at tsa_url: without them no evidence would verify"
        raise SettingInvalid("tsa_certificates", None, wanted)
    from control_plane.authorities import read_chain  # brings cryptography, which few starts need this early

    read_chain(Path(s.tsa_certificates))


def _check_crash_point(s: Settings) -> None:
    if s.crash_at is None:
        return
    if s.profile != "dev":
        raise SettingInvalid("QCOS_CRASH_AT", s.crash_at, f"nothing in profile {s.profile}: crash points are for dev")
    if not crash.known(s.crash_at):
        wanted = f"{crash.ARMED}, or one of {', '.join(crash.POINTS)}, with :N for the Nth time"
        raise SettingInvalid("QCOS_CRASH_AT", s.crash_at, wanted)


def to_json(settings: Settings) -> bytes:
    """The settings for a child process, without secrets: the administrator's database URL, headers of telemetry."""
    bare = msgspec.structs.replace(settings.telemetry, headers={})
    return msgspec.json.encode(msgspec.structs.replace(settings, database_url=None, telemetry=bare), enc_hook=str)


def from_json(data: bytes) -> Settings:
    """What `to_json` wrote."""
    return msgspec.json.decode(data, type=Settings, dec_hook=lambda kind, value: kind(value))
