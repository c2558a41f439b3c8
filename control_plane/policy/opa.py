# SPDX-License-Identifier: Apache-2.0
"""OPA as a sidecar, spoken to with opa-python-client over a Unix socket or loopback (G2, design decision 5).

What the client would do by itself is off: no retry with sleeps, no redirect, no rewriting of policies (none
is ever sent). Strict built-in errors are asked for with each decision, because an error inside a deny rule
would otherwise drop the rule. An answer without `result` is undefined, which is an error; so is one by a bundle of
another revision than was asked for, which OPA states with each answer. One session a process, made at first use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from opa_client.opa_async import AsyncOpaClient

from control_plane import telemetry
from control_plane.policy import breaker, standing
from control_plane.policy.decision import OtherRevision, PolicyUnavailable
from control_plane.policy.revision import ENTRYPOINT, PolicySet
from control_plane.policy.standing import Standing
from ledger.policies import MASK

LIMIT_S = 1.0
"""A decision that takes longer is none. Its goal is p99 <= 5 ms; a busy machine must not refuse work, and a stopped OPA
holds each request only so long, waiting for a connection included; after some in a row a breaker holds none."""

OPA_ENVIRONMENT = {"GOGC": "400"}
"""What OPA's process is given besides the caller's needs: a decision leaves 190 KB behind on a heap of some 15 MB, so
that Go's collector, left alone, takes a fifth of its time. The heap stays under 100 MB."""

_READY_LIMIT_S = 2.0
_NOTHING = "qcos/nothing"  # a path that no policy has: cheap to ask, and answered with the revision
_PLAIN = {"Accept-Encoding": "identity"}  # OPA would compress what is longer than 1 KB, for a way of no length
_LARGEST_ANSWER = 8 * 1024 * 1024


class OpaEngine:
    """Decides by an OPA that runs beside this process and gets its policies as a bundle."""

    name = "opa"

    def __init__(self, url: str, limit_s: float = LIMIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Take `unix:///path`, `http://` on loopback or `https://`; else PolicyUnavailable."""
        self._client = _Client(url)
        self._limit_s = limit_s
        self._clock = clock
        self._breaker: breaker.State = breaker.Closed()

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        """The decision rule's value; PolicyUnavailable on error, undefined, and after `limit_s` seconds."""
        return await self.value(policies, ENTRYPOINT, input_json)

    async def value(self, policies: PolicySet, rule: str, input_json: bytes) -> object:
        """The value of any rule, by its path under `data`; fails as `evaluate` does."""
        body = b'{"input":' + input_json + b"}"
        path = f"/v1/data/{rule}?strict-builtin-errors=true&provenance=true"
        answer = _answer(await self._asked(path, body), "the policy's decision")
        _demand_revision(answer, policies)
        return answer["result"]

    async def holds(self) -> str:
        """The revision of the bundle that OPA has active; PolicyUnavailable where it states none, or not one."""
        content = await self._client.ask("GET", f"/v1/data/{_NOTHING}?provenance=true", _READY_LIMIT_S)
        try:
            found = _revisions(msgspec.json.decode(content)["provenance"])
        except (ValueError, RecursionError, TypeError, KeyError) as fault:
            raise PolicyUnavailable("OPA states no revision") from fault
        if len(found) != 1:
            raise PolicyUnavailable(f"OPA holds {len(found)} bundles")
        return found[0]

    async def ready(self, policies: PolicySet) -> None:
        """Return only if OPA answers and the policies and data read back from it are those of `policies`."""
        held = _answer(await self._client.ask("GET", "/v1/policies", _READY_LIMIT_S), "the policy list")["result"]
        data = _answer(
            await self._client.ask("GET", "/v1/data/data?provenance=true", _READY_LIMIT_S), "the policy data"
        )
        _demand_revision(data, policies)
        same = data["result"] == policies.data
        if not same or sorted(_sources(held)) != sorted([*policies.modules.values(), MASK.decode()]):
            raise PolicyUnavailable(f"OPA holds other policies than revision {policies.revision}")

    async def standing(self, in_force: str) -> Standing:
        """How it stands with OPA's bundle; PolicyUnavailable where OPA doesn't say. No breaker is asked, nor told."""
        told = _answer(await self._client.ask("GET", "/v1/status", _READY_LIMIT_S), "OPA's status")["result"]
        try:
            return standing.read(told, in_force)
        except ValueError as fault:
            raise PolicyUnavailable("OPA's status has another shape") from fault

    async def _asked(self, path: str, body: bytes) -> bytes:
        """One decision through the breaker."""
        state = breaker.entered(self._breaker, self._clock())
        if state is None:
            raise PolicyUnavailable("OPA gave no answer lately; it is asked again within a second")
        self._breaker = state
        try:
            content = await self._client.ask("POST", path, self._limit_s, body)
        except _Silent:
            self._breaker = breaker.failed(self._breaker, self._clock())
            raise
        except PolicyUnavailable:
            self._breaker = breaker.answered()
            raise
        except BaseException:
            self._breaker = breaker.abandoned(self._breaker, self._clock())
            raise
        self._breaker = breaker.answered()
        return content

    async def close(self) -> None:
        """Close the session."""
        await self._client.close_connection()


class _Silent(PolicyUnavailable):
    """OPA gave no answer, or none in time: what opens the breaker."""


class _Client(AsyncOpaClient):  # type: ignore[misc]  # the library is untyped
    """The library's client on a session of ours: a Unix socket if asked for, no retries, no redirects."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = parts.path if parts.scheme == "unix" else None
        if not (self._socket or parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname))):
            raise PolicyUnavailable(f"OPA is reached by unix:///path, http on loopback or https, not by {url!r}")
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 8181)
        super().__init__(host=parts.hostname or "localhost", port=port, ssl=secure, retries=0)

    async def _init_session(self) -> None:
        connector = aiohttp.UnixConnector(path=self._socket) if self._socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=_PLAIN)

    async def ask(self, method: str, path: str, limit_s: float, body: bytes | None = None) -> bytes:
        """One request, one answer of status 200, read whole; anything else is PolicyUnavailable."""
        if self._session is None:
            await self._init_session()
        url = f"{self.schema}{self.host}:{self.port}{path}"
        options: dict[str, Any] = {"allow_redirects": False, "timeout": aiohttp.ClientTimeout(total=limit_s)}
        headers = {"traceparent": here} if (here := telemetry.traceparent()) else {}
        if body is not None:
            options.update(data=body, headers=headers | {"Content-Type": "application/json"})
        try:
            async with self._request(method, url, **options) as response:
                content = await _read(response)
                if response.status != 200:
                    raise PolicyUnavailable(f"OPA answered {response.status}: {_code(content)}")
                return content
        except TimeoutError as fault:
            raise _Silent(f"OPA took longer than {limit_s} s") from fault
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise _Silent(f"OPA can't be reached: {type(fault).__name__}") from fault


def opa_command(
    opa_bin: str | Path,
    address: str,
    bundle: str | Path | None = None,
    *,
    configuration: str | Path | None = None,
) -> list[str]:
    """The command line that serves a bundle at `unix:///path` or `http://127.0.0.1:PORT`.

    The bundle is a folder (`bundle.write`), or the plane's, as a configuration file says (`sidecar.configuration`).
    Loopback or a socket of mode 0700 only; no version check, which is OPA's telemetry. Raises
    PolicyUnavailable for other addresses.
    """
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path:
        bound = address
    elif parts.scheme == "http" and _loopback(parts.hostname) and parts.port:
        bound = parts.netloc
    else:
        raise PolicyUnavailable(f"OPA is served at unix:///path or http://127.0.0.1:PORT, not at {address!r}")
    server = ["run", "--server", "--addr", bound, "--unix-socket-perm", "700", "--skip-version-check"]
    quiet = ["--log-level", "error", "--shutdown-grace-period", "1"]
    served = ["--bundle", str(bundle)] if bundle is not None else []
    told = ["--config-file", str(configuration)] if configuration is not None else []
    return [str(opa_bin), *server, *quiet, *told, *served]


def _loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if (response.content_length or _LARGEST_ANSWER) < _LARGEST_ANSWER:
        return await response.read()
    content = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        content += chunk
        if len(content) > _LARGEST_ANSWER:
            raise PolicyUnavailable("OPA's answer is too large")
    return bytes(content)


def _answer(content: bytes, what: str) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(content)
    except (ValueError, RecursionError) as fault:
        raise PolicyUnavailable("OPA's answer is no JSON") from fault
    if not isinstance(answer, dict) or "result" not in answer:
        raise PolicyUnavailable(f"{what} is undefined")
    return answer


def _revisions(provenance: object) -> list[str]:
    try:
        return [bundle.revision for bundle in msgspec.convert(provenance, _Provenance).bundles.values()]
    except ValueError:
        return []


def _demand_revision(answer: dict[str, Any], policies: PolicySet) -> None:
    match _revisions(answer.get("provenance")):
        case [found] if found == policies.revision:
            return
        case [found]:
            raise OtherRevision(found, policies.revision)
        case found:
            said = ", ".join(found) or "none stated: it serves no bundle"
            raise PolicyUnavailable(f"OPA holds other policies than revision {policies.revision}: {said}"[:500])


def _code(content: bytes) -> str:
    try:
        return str(msgspec.json.decode(content)["code"])[:100]
    except (ValueError, RecursionError, TypeError, KeyError):
        return "no code"


def _sources(held: object) -> Sequence[str]:
    try:
        return [row.raw for row in msgspec.convert(held, list[_Module])]
    except ValueError as fault:
        raise PolicyUnavailable("OPA's list of policies has another shape") from fault


class _Module(msgspec.Struct, frozen=True):
    raw: str


class _Bundle(msgspec.Struct, frozen=True):
    revision: str


class _Provenance(msgspec.Struct, frozen=True):
    bundles: dict[str, _Bundle]
