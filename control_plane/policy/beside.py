# SPDX-License-Identifier: Apache-2.0
"""The files of an OPA beside the plane: its configuration, and the bundle with which it starts (G2, I5).

`up` writes both before OPA is there. So OPA decides by the policies in force from its first moment, before any API
process could hand them out, and after a crash by the last bundle that it had; what it finds it verifies.
"""

from __future__ import annotations

from pathlib import Path

from control_plane.policy import bundle, sidecar, signed
from control_plane.policy.sidecar import Sidecar
from control_plane.policy.store import Stored
from control_plane.postgres import write_secret
from ledger.policies import KEY_ID
from ledger.policy_key import PUBLIC, public_key


def told(
    api: str, key: Path, token: Path, kept: Path, *, log_per_s: float, traces_to: str | None = None, service: str
) -> Sidecar:
    """What a sidecar is told; `key` is the folder of the policy key's public half."""
    return Sidecar(
        api=sidecar.reached(api),
        token=token,
        kept=kept,
        key=(key / PUBLIC).read_text("ascii"),
        key_id=KEY_ID,
        log_per_s=log_per_s,
        traces_to=traces_to,
        service=service,
    )


def lay(folder: Path, one: Sidecar) -> Path:
    """Write the configuration into a folder; its path."""
    path = folder / sidecar.CONFIGURATION
    path.unlink(missing_ok=True)
    write_secret(path, sidecar.configuration(one).decode())
    return path


def keep(stored: Stored, key: Path, kept: Path) -> None:
    """Put the bundle of a push where OPA looks first; raises PolicyUnavailable where it isn't what was signed."""
    policies = signed.opened(stored, public_key(key))
    path = sidecar.kept_bundle(kept)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(bundle.pack(policies, stored.signature))
    fresh.replace(path)
