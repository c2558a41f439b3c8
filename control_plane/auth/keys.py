# SPDX-License-Identifier: Apache-2.0
"""The secrets of identity in `QCOS_HOME`: made once by `up`, 0600, read by the API's processes.

`keys/pseudonym` (every profile): keys the names that the ledger gives to people; losing it splits every person in two,
so it belongs in the same back-up as the log keys. `keys/sidecar`: the token by which an OPA gets its bundle.
`keys/issuer/key.pem` and `dev-login` (profile `dev` only): the development issuer's signing key, and the secret that
lets whoever can read this home sign in as a development user.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from joserfc.jwk import ECKey

from control_plane.errors import SettingInvalid
from control_plane.postgres import write_secret

__all__ = ["SIDECAR", "demand_dev", "dev_login_is", "issuer_key", "prepare", "pseudonym_key", "sidecar_is"]

_PSEUDONYM = Path("keys/pseudonym")
_ISSUER = Path("keys/issuer/key.pem")
_DEV_LOGIN = Path("dev-login")
SIDECAR = Path("keys/sidecar")


def prepare(home: Path, profile: str) -> None:
    """Make what is missing; touch nothing that is there. For `up`, which holds the home's lock."""
    _once(home / _PSEUDONYM, secrets.token_hex(32))
    _once(home / SIDECAR, secrets.token_urlsafe(32))
    if profile == "dev":
        _once(home / _ISSUER, ECKey.generate_key("P-256").as_pem(private=True).decode("ascii").strip())
        _once(home / _DEV_LOGIN, secrets.token_urlsafe(32))


def pseudonym_key(home: Path) -> bytes:
    """The key for `principal.pseudonym_of`."""
    return bytes.fromhex((home / _PSEUDONYM).read_text(encoding="ascii").strip())


def issuer_key(home: Path) -> ECKey:
    """The development issuer's private key."""
    return ECKey.import_key((home / _ISSUER).read_text(encoding="ascii"))


def dev_login_is(home: Path, given: str) -> bool:
    """Whether `given` is this home's secret for development logins, compared in constant time."""
    return _is(home / _DEV_LOGIN, given)


def sidecar_is(home: Path, given: str) -> bool:
    """Whether `given` is the token of this plane's OPA; read anew each time, so that a new file is a new token."""
    return _is(home / SIDECAR, given)


def _is(path: Path, given: str) -> bool:
    known = path.read_text(encoding="ascii").strip()
    return bool(known) and hmac.compare_digest(known.encode(), given.encode("utf-8", "surrogatepass"))


def demand_dev(profile: str) -> None:
    """SettingInvalid outside profile `dev`: whoever runs the local issuer can be anybody."""
    if profile != "dev":
        raise SettingInvalid("profile", profile, "dev, the only profile with a local issuer; others name an [[oidc]]")


def _once(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, text)
