# SPDX-License-Identifier: Apache-2.0
"""What the documentation has from code: `python -m tests.docs.tables` (`make generate`) writes it again.

A page holds a table between `<!-- NAME -->` and `<!-- /NAME -->`; a test holds each against what this module makes.
"""

import argparse
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import report
from control_plane import crash
from control_plane.app import openapi
from control_plane.cli import build
from control_plane.codes import CODES
from control_plane.custody import MEANS as KEYS
from control_plane.fields import FIELDS
from control_plane.jobs import schema as job_schema
from control_plane.jobs import weights
from control_plane.network.config import MEANS as NETWORK
from control_plane.network.config import Network
from control_plane.policy import builtins, document
from control_plane.settings import Settings
from control_plane.telemetry import config, names
from hal_drivers.p2p.aliases import TABLE, Alias
from ledger.custody import Custody
from tests.docs import policy_codes
from tests.faults import kills as random_kills

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MEANS = {
    "home": "where keys, passwords, logs and, in `dev`, the database lie",
    "profile": "what is refused at start, see below",
    "plane": "the plane's name in all evidence; outside `dev` it must be said",
    "database_url": "the login that makes roles; without it, in `dev`, the wheel's PostgreSQL",
    "database_connections": "pool of each API process",
    "policy_engine": "see below",
    "opa_bin": "the binary that `up` starts",
    "opa_url": "an OPA sidecar instead",
    "policy_limit_s": "how long one decision of OPA may take; after that 503 `policy_unavailable`",
    "policy_max_age_s": "how long the last good policies decide on where newer ones can't be used",
    "policy_log_per_s": "how many decisions a second OPA's masked log tells of at most; 0 logs none",
    "policy_tenants": "who pushes policies and reads them; without it the only tenant, in `dev` `demo`",
    "http_host": "where the API listens",
    "http_port": "0 takes a free one",
    "proxy_networks": "your own proxies, `unix` for one on the socket: they alone say where a request came from",
    "proxy_header": "the header in which they say it",
    "url": "for commands: the plane to speak to (environment only)",
    "tsa_url": "an outside RFC 3161 authority beside the own one, see below",
    "document_certificates": "the customer's CA speaks for the plane's documents (PDF), see below",
    "tsa_certificates": "its certificate and the chain to its root, in this order",
    "local_issuer": "the development issuer; false in other profiles",
    "qpy": "take QPY circuits (version 13 on)",
    "api_processes": "",
    "workers": "",
    "nodes": "service nodes of the plane's own, with the fabric that speaks to them; profile `dev` alone",
    "default_backends": "in profile `dev`, this machine's simulators beside the `[[backend]]` tables",
    "simulators": "circuits that a worker runs at a time",
    "simulator_memory_mb": "the most that a circuit's run may use",
    "job_deadline_s": "the longest run; bounds the price too; a backend away for longer leaves its job UNCERTAIN",
    "queue_limit_s": "the longest a job waits for a backend that takes it",
    "approval_wait_s": "the longest a job waits for a second person's approval",
    "lease_s": "after this long without a heartbeat a worker's job is recovered",
    "wait_limit_s": "the longest `?wait=`",
    "max_body_bytes": "the largest request",
    "circuit_bytes": "the largest circuit source",
    "circuit_qubits": "qubits of a circuit",
    "circuit_clbits": "its classical bits",
    "circuit_operations": "operations, with definitions, loops, registers and powers multiplied out",
    "circuit_loop": "turns of one loop",
    "circuit_nesting": "depth of brackets, blocks and statements inside one another",
    "rate_requests_per_s": "requests of one principal",
    "rate_burst": "and how many at once",
    "rate_bytes_per_s": "bytes of one principal; four seconds' worth at once",
    "witness_interval_s": "how long after a checkpoint was shown to a witness the next one is",
    "clock_tolerance_s": "how far a clock may go back, or differ from the database's, before work stops",
    "database_limit_s": "after this long without an answer the database is away: 503, nothing half done",
    "sealers": "one seals, each further one stands by and takes over within seconds",
    "denial_bytes_per_day": "records of one principal's denials; beyond it they are counted, not kept one by one",
    "session_s": "how long a browser stays signed in at most, and a command by the plane's own device flow",
    "session_idle_s": "how long a browser stays signed in that asks nothing",
    "login_per_s": "requests a second from one address that isn't signed in; ten seconds' worth at once",
    "clock_skew_s": "how far issuers' clocks may be off",
    "start_limit_s": "how long each part may take to start",
    "crash_at": "in `dev`: where a process is to end, see below",
    "snapshot_every_s": "how often the register's state is kept; 0: by `qcos ledger snapshot` alone",
    "stop_limit_s": "how long requests and jobs in flight may take once a stop was asked for",
    "log_level": "what goes into log files, and out by OTLP",
    "log_file_mb": "a log file of this size is turned over; four older ones are kept",
}


def settings() -> str:
    """Key, environment, default, what is wanted, what it does."""
    defaults = Settings()
    rows = [
        f"| `{name}` | `{field.environment}` | {_default(getattr(defaults, name))} | {field.wanted} | {MEANS[name]} |"
        for name, field in FIELDS.items()
    ]
    return _table("| key | environment | default | wanted | what |", rows)


def codes() -> str:
    """Code, HTTP status, sentence, next step."""
    rows = [f"| `{code}` | {m.status} | {m.sentence} | {m.next_step} |" for code, m in sorted(CODES.items())]
    return _table("| code | status | means | next step |", rows)


def aliases() -> str:
    """Each service: words, operands, meaning, channel."""
    rows = [
        f"| {', '.join(f'`{word}`' for word in alias.words)} | {alias.service} | {alias.operands} | {alias.ancillas} "
        f"| {_channel(alias)} | {alias.failure:g} | {alias.meaning}{'; **abstract**' if alias.abstract else ''} |"
        for alias in TABLE.values()
    ]
    return _table("| in a circuit | service | operands | ancillas | channel on | fails, told | means |", rows)


def _channel(alias: Alias) -> str:
    said = ", ".join("ab"[place] for place in alias.channel)
    return f"{said} (swap: {', '.join('ab'[place] for place in alias.swapped)})" if alias.swapped else said


def routing() -> str:
    """Each key of `[routing]`."""
    plain = weights.Weights()
    rows = [
        f"| `{name}` | {getattr(plain, name):g} | {low:g} to {high:g} | {means} |"
        for name, (low, high, means) in weights.MEANS.items()
    ]
    return _table("| key of `[routing]` | default | from, to | what |", rows)


def crash_points() -> str:
    """Each point and what is so when a process ends there."""
    return _table("| crash point | when |", [f"| `{name}` | {what} |" for name, what in crash.POINTS.items()])


def kills() -> str:
    """The run of `make kills` that is kept."""
    kept = DOCS / "faults.json"
    return random_kills.page(json.loads(kept.read_bytes())) if kept.exists() else "Not run yet.\n"


def routes() -> str:
    """Method and path, and the summary that OpenAPI has."""
    paths = json.loads(openapi())["paths"]
    rows = [
        f"| `{method.upper()} {path}` | {operation['summary']} |"
        for path, methods in sorted(paths.items())
        for method, operation in sorted(methods.items())
    ]
    return _table("| request | what |", rows)


def commands() -> str:
    """Each command with its words, as its parser takes them; argparse's own layout differs between Pythons."""
    rows = [f"| `{line}` | {what} |" for line, what in _commands(build(), "qcos", "")]
    return _table("| command | what |", rows)


def _commands(parser: argparse.ArgumentParser, words: str, what: str) -> Iterator[tuple[str, str]]:
    taken = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, inner in action.choices.items():
                yield from _commands(inner, f"{words} {name}", helps[name] or "")
            return
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            taken.append(_word(action))
    yield " ".join([words, *taken]).replace("|", "\\|"), what


def _word(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
    if not action.option_strings:
        return str(value)
    flag = action.option_strings[0]
    word = flag if action.nargs == 0 else f"{flag} {value}"
    return word if action.required else f"[{word}]"


def telemetry_settings() -> str:
    """Each key of `[telemetry]`."""
    plain = config.Telemetry()
    rows = [f"| `{name}` | {_default(getattr(plain, name))} | {means} |" for name, means in config.MEANS.items()]
    return _table("| key of `[telemetry]` | default | what |", rows)


def network_settings() -> str:
    """Each key of `[network]`."""
    plain = Network()
    rows = [f"| `{name}` | {_default(getattr(plain, name))} | {means} |" for name, means in NETWORK.items()]
    return _table("| key of `[network]` | default | what |", rows)


def keys_settings() -> str:
    """Each key of `[keys]`."""
    plain = Custody()
    rows = [f"| `{name}` | {_default(getattr(plain, name))} | {means} |" for name, means in KEYS.items()]
    return _table("| key of `[keys]` | default | what |", rows)


def spans() -> str:
    """Each span, and the histogram of its duration."""
    rows = [f"| `{name}` | {span.kind} | {_code(span.metric)} | {span.means} |" for name, span in names.SPANS.items()]
    first = "| `METHOD /route/{template}` | server | `http.server.request.duration` | one request |"
    return _table("| span | kind | its durations | covers |", [first, *rows])


def metrics() -> str:
    """Each metric, as OTLP and as Prometheus has it."""
    rows = [
        f"| `{name}` | `{names.prometheus(name)}` | {one.form} | {', '.join(map(_code, one.labels))} | {one.means} |"
        for name, one in names.METRICS.items()
    ]
    return _table("| metric | in Prometheus | form | labels | says |", rows)


def _code(word: str | None) -> str:
    return f"`{word}`" if word else ""


def dialect() -> str:
    """Each built-in, and for which arguments."""
    rows = [f"| `{name}` | {one.does} | {one.within} |" for name, one in sorted(builtins.BUILTINS.items())]
    return _table("| built-in | gives | for |", rows)


def refused() -> str:
    """What is called by no rule, and by no test either."""
    outside = [f"| `{name}` | {why} | no |" for name, why in sorted(builtins.OUTSIDE.items())]
    return _table(
        "| built-in | because it | in tests |",
        [*outside, *(f"| `{name}` | {why} | yes |" for name, why in sorted(builtins.NONE.items()))],
    )


def schema(made: dict[str, object]) -> bytes:
    """A JSON Schema as it is committed."""
    return (json.dumps(made, indent=2, sort_keys=True) + "\n").encode()


def measured() -> dict[str, Callable[[], str]]:
    """The tables of the benches, from their kept figures."""
    found = report.tables()
    places = re.findall(r"<!-- (?!/)(\S+) -->", (DOCS / "performance.md").read_text(encoding="utf-8"))
    return {place: functools.partial(str, found.get(place, "Not measured yet.\n")) for place in places}


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "performance.md": measured(),
    "operations.md": {
        "settings": settings,
        "routing": routing,
        "network": network_settings,
        "keys": keys_settings,
        "crash points": crash_points,
    },
    "faults.md": {"kills": kills},
    "guide-engineer.md": {"aliases": aliases},
    "api.md": {"codes": codes, "routes": routes},
    "policies.md": {"codes": policy_codes.codes},
    "policy-dialect.md": {"built-ins": dialect, "refused": refused},
    "cli.md": {"commands": commands},
    "telemetry.md": {"telemetry": telemetry_settings, "spans": spans, "metrics": metrics},
}
FILES: dict[str, Callable[[], bytes]] = {
    "docs/openapi.json": openapi,
    "docs/job-spec.schema.json": lambda: schema(job_schema.schema()),
    "policies/schemas/input.json": lambda: schema(document.schema()),
}


def made(page: str, text: str) -> str:
    """The page with its tables made again."""
    for name, table in TABLES[page].items():
        block = f"<!-- {name} -->\n{table()}<!-- /{name} -->"
        place = re.search(f"<!-- {name} -->\n.*?<!-- /{name} -->", text, flags=re.DOTALL)
        assert place is not None, f"{page} has no place for {name}"
        text = text[: place.start()] + block + text[place.end() :]
    return text


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]) + "\n"


def _default(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return f"`{value}`" if isinstance(value, str | Path) else str(value)


def main() -> None:
    """Write every page and every file."""
    for page in TABLES:
        path = DOCS / page
        path.write_text(made(page, path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, file in FILES.items():
        (ROOT / name).write_bytes(file())


if __name__ == "__main__":
    main()
