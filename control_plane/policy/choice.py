# SPDX-License-Identifier: Apache-2.0
"""Which engine decides (design decision 5): chosen once at the start, said aloud, never switched later.

`auto` takes an `opa` binary that is found, else the embedded engine, which only profile `dev` may use.
Nothing is installed here. `find_opa` looks at files; the rest is a rule on values.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal, assert_never

from msgspec import Struct

from control_plane.errors import SettingInvalid
from control_plane.policy.pdp import Engine

Setting = Literal["auto", "opa", "embedded"]


class Choice(Struct, frozen=True):
    """`opa_bin` is what `up` must start; None where the engine is embedded or a sidecar's URL was given."""

    engine: Literal["opa", "embedded"]
    opa_bin: Path | None
    opa_url: str | None
    why: str


def find_opa(opa_bin: str | None) -> Path | None:
    """The `opa` of QCOS_OPA_BIN, of `./.tools/bin` or of PATH, in this order; a named one that isn't there is
    an error.
    """
    if opa_bin:
        path = Path(opa_bin)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise SettingInvalid("QCOS_OPA_BIN", opa_bin, "an executable file")
        return path
    return _tool("opa")


def find_regal() -> Path | None:
    """The `regal` of `./.tools/bin` or of PATH, in this order."""
    return _tool("regal")


def _tool(name: str) -> Path | None:
    local = Path(".tools/bin", name).absolute()
    if local.is_file() and os.access(local, os.X_OK):
        return local
    found = shutil.which(name)
    return Path(found) if found else None


def choose_engine(setting: Setting, profile: str, opa_bin: str | None, opa_url: str | None = None) -> Choice:
    """Choose by setting and profile; raises SettingInvalid where no engine may serve."""
    if setting != "embedded":
        if opa_url:
            return Choice(engine="opa", opa_bin=None, opa_url=opa_url, why=f"sidecar at {opa_url}")
        found = find_opa(opa_bin)
        if found is not None:
            return Choice(engine="opa", opa_bin=found, opa_url=None, why=f"found {found}")
        if setting == "opa":
            raise SettingInvalid("QCOS_POLICY_ENGINE", setting, "an opa binary or QCOS_OPA_URL (`make tools` gets opa)")
    if profile != "dev":
        raise SettingInvalid("QCOS_POLICY_ENGINE", setting, f"opa: profile {profile} refuses the embedded engine")
    why = "asked for" if setting == "embedded" else "no opa found; `make tools` gets it"
    return Choice(engine="embedded", opa_bin=None, opa_url=None, why=f"{why} (dev only)")


def open_engine(kind: Literal["opa", "embedded"], opa_url: str | None = None, limit_s: float | None = None) -> Engine:
    """The engine of a running plane; `opa` needs the URL at which it is served, and gives up after `limit_s`."""
    match kind:
        case "opa":
            from control_plane.policy.opa import LIMIT_S, OpaEngine  # aiohttp is slow to import

            if not opa_url:
                raise SettingInvalid("QCOS_OPA_URL", opa_url, "the address of the OPA sidecar")
            return OpaEngine(opa_url, limit_s or LIMIT_S)
        case "embedded":
            from control_plane.policy.embedded import EmbeddedEngine

            return EmbeddedEngine()
        case _:
            assert_never(kind)
