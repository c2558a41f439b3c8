# SPDX-License-Identifier: Apache-2.0
"""What an OPA beside the plane is told: where its bundle is, whose signature it must bear, and what it logs (G2, I5).

Pure: values enter, the text of OPA's configuration file and a command line leave. OPA polls `/policy/bundle` with a
token of its own that opens nothing else, holds each request open until there is something new, takes no bundle that the
plane's policy key hasn't signed, and keeps the last good one on its disk, verified again when it starts. It sends no
status anywhere: the plane asks for it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from control_plane.policy.shape import LARGEST_SET

NAME = "qcos"
"""What OPA calls the plane's bundle, and the plane as a service."""

TOKEN = "token"  # noqa: S105 - the name of a file
PUBLIC_KEY = "policy.pem"
CONFIGURATION = "opa.json"

BUNDLE_PATH = "policy/bundle"
LOG_PATH = "/policy/log/opa"

LONG_POLL_S = 20
"""How long the plane may keep a poll waiting. OPA asks again at once, so it bounds nothing but idle connections."""

_RETRY_S = 1  # after a failed poll: OPA backs off from 0.1 s up to this
_UPLOAD_S = 1
LARGEST_FILE = LARGEST_SET
"""The largest file of a bundle that OPA takes, all of a revision's data being one: what a push may hold in all."""

UPLOAD_BYTES = 1 << 18
BUFFER_EVENTS = 10_000


class Sidecar(Struct, frozen=True, kw_only=True):
    """`api` is the plane as OPA reaches it, `token` the file with OPA's token, `kept` the folder where it keeps
    the last good bundle; `key` is PEM, `key_id` its name; `log_per_s` 0 sends no decision log.
    """

    api: str
    token: Path
    kept: Path
    key: str
    key_id: str
    log_per_s: float
    traces_to: str | None = None
    service: str = "qcos-opa"


def configuration(sidecar: Sidecar) -> bytes:
    """The text of OPA's configuration file. No secret is in it: the token is a file that OPA reads at each request."""
    told: dict[str, object] = {
        "persistence_directory": str(sidecar.kept),
        "services": {
            NAME: {
                "url": f"{sidecar.api.rstrip('/')}/api/v1",
                "response_header_timeout_seconds": 10,
                "credentials": {"bearer": {"token_path": str(sidecar.token)}},
            }
        },
        "keys": {sidecar.key_id: {"algorithm": "ES256", "key": sidecar.key}},
        "bundles": {
            NAME: {
                "service": NAME,
                "resource": BUNDLE_PATH,
                "persist": True,
                "size_limit_bytes": LARGEST_FILE,
                "signing": {"keyid": sidecar.key_id},
                "polling": {
                    "min_delay_seconds": _RETRY_S,
                    "max_delay_seconds": _RETRY_S,
                    "long_polling_timeout_seconds": LONG_POLL_S,
                },
            }
        },
        # Without one of the two OPA would send its status to the first service it knows.
        "status": {"console": False, "prometheus": True},
    }
    if sidecar.log_per_s > 0:
        told["decision_logs"] = _decision_log(sidecar.log_per_s)
    if sidecar.traces_to is not None:  # it goes on with the traceparent of each request, and records what that says
        told["distributed_tracing"] = {
            "type": "grpc",
            "address": sidecar.traces_to,
            "service_name": sidecar.service,
            "sample_percentage": 100,
        }
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def _decision_log(per_s: float) -> dict[str, object]:
    return {
        "service": NAME,
        "resource": LOG_PATH,
        "mask_decision": "/system/log/mask",
        "drop_decision": "/system/log/drop",
        "reporting": {
            "min_delay_seconds": _UPLOAD_S,
            "max_delay_seconds": 4 * _UPLOAD_S,
            "upload_size_limit_bytes": UPLOAD_BYTES,
            "buffer_type": "event",
            "buffer_size_limit_events": BUFFER_EVENTS,
            "max_decisions_per_second": per_s,
        },
    }


def kept_bundle(kept: Path) -> Path:
    """Where OPA looks for the last good bundle when it starts; it verifies what it finds there."""
    return kept / "bundles" / NAME / "bundle.tar.gz"


def reached(url: str) -> str:
    """The plane's address for an OPA on its machine: one that listens everywhere is asked on loopback."""
    parts = urlsplit(url)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")
    return f"{parts.scheme}://{host}:{parts.port}" if host else url
