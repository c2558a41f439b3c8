# SPDX-License-Identifier: Apache-2.0
"""The `[keys]` table of `qcos.toml`, and `QCOS_KEY_…` variables, which win over it (N11, G12).

Enters: a TOML table, text, the profile. Leaves: `ledger.custody.Custody`, or SettingInvalid that names the key. It
names files and reads none: passphrase and PIN are read by the processes that sign. Where systemd hands over a
credential `qcos-key-passphrase` or `qcos-key-pin`, that is the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.errors import SettingInvalid
from ledger.custody import Custody

_ENVIRONMENT = "QCOS_KEY_"
MEANS = {
    "backend": "where new keys are made: `file` or `pkcs11`; keys that are there stay where they are until rotated",
    "passphrase_file": "the file with the passphrase of the key files; demanded in all profiles but `dev`",
    "module": "the HSM's PKCS#11 library",
    "token": "the label of the token",
    "pin_file": "the file with the PIN of the token's user",
}
_CREDENTIALS = {"passphrase_file": "qcos-key-passphrase", "pin_file": "qcos-key-pin"}
_FILES = ("passphrase_file", "module", "pin_file")


def read(table: object, environment: Mapping[str, str], profile: str) -> Custody:
    """Who keeps the keys: the file's table with what the environment says instead."""
    if not isinstance(table, Mapping):
        raise SettingInvalid("keys", table, "a table, headed [keys]")
    values = _credentials(environment)
    for key, value in table.items():
        if key not in MEANS:
            raise SettingInvalid(f"keys.{key}", value, "one of the known keys: " + ", ".join(MEANS))
        values[key] = _value(f"keys.{key}", key, value)
    for key in MEANS:
        name = _ENVIRONMENT + key.upper()
        if environment.get(name):
            values[key] = _value(name, key, environment[name])
    custody = Custody(plain=profile == "dev", **values)
    for key in ("module", "token", "pin_file"):
        if custody.backend == "pkcs11" and getattr(custody, key) is None:
            raise SettingInvalid(f"keys.{key}", None, f"{MEANS[key]}, with backend pkcs11")
    return custody


def check(custody: Custody, profile: str) -> None:
    """Refuse a plane whose keys nothing would protect (SettingInvalid)."""
    if custody.backend == "file" and custody.passphrase_file is None and not custody.plain:
        wanted = f"a file with a passphrase in profile {profile}: key files are encrypted there (or backend pkcs11)"
        raise SettingInvalid("keys.passphrase_file", None, wanted)
    for key in _FILES:
        path = getattr(custody, key)
        if path is not None and not path.is_file():
            raise SettingInvalid(f"keys.{key}", str(path), "a file that exists")


def _credentials(environment: Mapping[str, str]) -> dict[str, Any]:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    found = {key: Path(folder) / name for key, name in _CREDENTIALS.items()} if folder else {}
    return {key: path for key, path in found.items() if path.is_file()}


def _value(name: str, key: str, value: object) -> Any:
    if not isinstance(value, str) or not value or "\0" in value:
        raise SettingInvalid(name, value, "text")
    if key == "backend" and value not in ("file", "pkcs11"):
        raise SettingInvalid(name, value, "file or pkcs11")
    return Path(value).expanduser().absolute() if key in _FILES else value
