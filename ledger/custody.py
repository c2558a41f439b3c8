# SPDX-License-Identifier: Apache-2.0
"""Who keeps the private keys of a process, and what opens them: values only.

`file`: each key is a PKCS8 PEM of mode 0600, encrypted under a passphrase that lies elsewhere. `pkcs11`: each key is
made in an HSM and never leaves it, but for algorithms that the HSM doesn't know (`ledger.hsm`). No secret is in here:
only the names of the files that hold them. `plain` admits keys that nothing encrypts; profile `dev` alone does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

Backend = Literal["file", "pkcs11"]


class Custody(Struct, frozen=True, kw_only=True):
    """Where new keys are made, and how those that are there are opened: a folder may hold both kinds."""

    backend: Backend = "file"
    plain: bool = False
    passphrase_file: Path | None = None
    module: Path | None = None  # the HSM's PKCS#11 library
    token: str | None = None  # the token's label
    pin_file: Path | None = None


PLAIN = Custody(plain=True)
