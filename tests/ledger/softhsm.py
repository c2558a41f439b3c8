# SPDX-License-Identifier: Apache-2.0
"""A token of softhsm2 for tests: a folder, a PIN and the library; None where it isn't installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from ledger.custody import Custody

TOKEN, PIN = "qcos-test", "1234"
MISSING = "softhsm2 isn't installed: apt install softhsm2"
_LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@lru_cache(maxsize=1)  # the library reads its settings once a process
def token() -> Custody | None:
    """The custody of a token of this test process."""
    module = next((Path(path) for path in _LIBRARIES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        return None
    folder = Path(mkdtemp(prefix="qcos-softhsm-"))
    (folder / "tokens").mkdir(mode=0o700)
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
    made = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "5678"]
    subprocess.run(made, check=True, capture_output=True)
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text(f"{PIN}\n")
    return Custody(backend="pkcs11", module=module, token=TOKEN, pin_file=folder / "pin")
