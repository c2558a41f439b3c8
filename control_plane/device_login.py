# SPDX-License-Identifier: Apache-2.0
"""Signing a command in (RFC 8628): at the issuer itself, or at the plane where that has no device flow (G13).

Enters what the plane says of a provider, a way to tell the person something, and a way to wait. Leaves a login as
`credentials.json` keeps it. A command keeps no client secret; a refresh token is kept where the issuer gives one, and
`renewed` spends it: one command at a time, since issuers take the second use of one for a theft.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

from control_plane.auth.addresses import reachable
from control_plane.auth.discovery import Metadata, parse, place
from control_plane.auth.errors import IdentityUnavailable, LoginFailed
from control_plane.auth.flow import Tokens, tokens
from control_plane.errors import NotSignedIn, QcosError

if TYPE_CHECKING:
    from control_plane.client import Client

__all__ = ["at_issuer", "at_plane", "metadata_of", "renewed", "revoked"]

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S: Final = 5
LIMIT_S: Final = 10.0
MOST_BYTES: Final = 262_144
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
Told = Callable[[str, str], None]
"""Shows the person an address and a code."""
Pause = Callable[[float], None]


def metadata_of(issuer: str) -> Metadata:
    """What an issuer says of itself; IdentityUnavailable where it says nothing of use."""
    try:
        status, body = _ask("GET", place(issuer), None)
        if status != 200:
            raise IdentityUnavailable
        return parse(body, issuer)
    except ValueError:
        raise IdentityUnavailable from None


def at_issuer(client: Mapping[str, Any], metadata: Metadata, told: Told, pause: Pause) -> dict[str, Any]:
    """Sign in at the issuer; `client` is `device` of `GET /auth/providers`."""
    assert metadata.device_authorization_endpoint is not None
    lasting = " offline_access" if "offline_access" in metadata.scopes else ""
    resource = {"resource": client["resource"]} if client["resource"] else {}
    asked = {"client_id": client["client_id"], "scope": client["scope"] + lasting, **resource}
    status, body = _ask("POST", metadata.device_authorization_endpoint, asked)
    said = _said(status, body)
    told(str(said.get("verification_uri_complete") or said["verification_uri"]), str(said["user_code"]))
    question = {"grant_type": GRANT, "device_code": str(said["device_code"]), "client_id": client["client_id"]}
    interval = float(said.get("interval", INTERVAL_S))
    while True:
        pause(interval)
        status, body = _ask("POST", metadata.token_endpoint or "", question | resource)
        match _error(body) if status == 400 else None:
            case "authorization_pending":
                continue
            case "slow_down":
                interval += 5
            case "access_denied" | "expired_token" as error:
                raise NotSignedIn(f"the provider answered {error}; qcos login begins again")
            case _:
                return kept(tokens(status, body), client["issuer"], client["client_id"], metadata)


def at_plane(plane: Client, told: Told, pause: Pause) -> dict[str, Any]:
    """Sign in at the plane, by a browser that is signed in there."""
    said = plane.ask("POST", "/api/v1/auth/device", signed_in=False)
    told(said["verification_uri_complete"], said["user_code"])
    interval = float(said["interval"])
    while True:
        pause(interval)
        try:
            found = plane.ask(
                "POST", "/api/v1/auth/device/token", {"device_code": said["device_code"]}, signed_in=False
            )
        except QcosError as error:
            match error.code:
                case "authorization_pending":
                    continue
                case "slow_down":
                    interval += 5
                case "access_denied" | "expired_token":
                    raise NotSignedIn(f"{error}; qcos login begins again") from None
                case _:
                    raise
        else:
            return {name: found[name] for name in ("subject", "access_token", "expires_at")}


def kept(given: Tokens, issuer: str, client_id: str, metadata: Metadata) -> dict[str, Any]:
    """A login at an issuer, as it is kept. One that doesn't say how long it lasts is taken to last five minutes."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=given.expires_in_s or 300)
    renewal = {
        "refresh_token": given.refresh_token,
        "issuer": issuer,
        "client_id": client_id,
        "token_endpoint": metadata.token_endpoint,
        "revocation_endpoint": metadata.revocation_endpoint,
    }
    login = {"access_token": given.access_token, "expires_at": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return login | (renewal if given.refresh_token else {})


def renewed(login: Mapping[str, Any]) -> dict[str, Any] | None:
    """The login with another access token; None where the issuer wants the person again."""
    asked = {
        "grant_type": "refresh_token",
        "refresh_token": str(login["refresh_token"]),
        "client_id": str(login["client_id"]),
    }
    status, body = _ask("POST", str(login["token_endpoint"]), asked)
    try:
        given = tokens(status, body)
    except LoginFailed:
        return None
    metadata = Metadata(
        issuer=str(login["issuer"]),
        jwks_uri="",
        token_endpoint=str(login["token_endpoint"]),
        revocation_endpoint=login.get("revocation_endpoint"),
    )
    fresh = kept(given, metadata.issuer, asked["client_id"], metadata)
    return {**login, **fresh}  # an issuer that gives no other refresh token leaves the old one in force


def revoked(login: Mapping[str, Any]) -> bool:
    """Whether the issuer was told that the refresh token is of no more use (RFC 7009)."""
    address = login.get("revocation_endpoint")
    if not address or not login.get("refresh_token"):
        return False
    asked = {"token": login["refresh_token"], "token_type_hint": "refresh_token", "client_id": login["client_id"]}
    try:
        return _ask("POST", str(address), asked)[0] == 200
    except IdentityUnavailable:
        return False


def _said(status: int, body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
        if status != 200 or not all(isinstance(said[name], str) for name in ("device_code", "user_code")):
            raise ValueError
        if not reachable(said["verification_uri"]):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise LoginFailed("device", f"the provider answered {_error(body) or 'something else'}") from None
    return dict(said)


def _error(body: bytes) -> str | None:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return None
    return error if isinstance(error, str) and error.isidentifier() and len(error) <= 64 else None


def _ask(method: str, address: str, form: Mapping[str, str] | None) -> tuple[int, bytes]:
    """One request to an issuer: no redirect is followed, and no proxy of the environment is used."""
    if not reachable(address):
        raise IdentityUnavailable
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=LIMIT_S)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, None if form is None else urlencode(form), FORM if form else {})
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException):
        raise IdentityUnavailable from None
    finally:
        connection.close()
