# SPDX-License-Identifier: Apache-2.0
"""What is wrong with policy files, as a value that names file, line and rule.

Pure. Tools, dialect, schemas and the trial all speak in these; `check` prints them, a refused push carries them.
"""

from __future__ import annotations

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One thing wrong: `path` below the policy folder, `line` from 1 (1 where it is about the whole file), and the rule
    that it breaks, as the tool that found it calls it (`rego_parse_error`, `style/opa-fmt`, `dialect`, `self-test`).
    """

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """`path:line: rule: message`, on one line, as editors read it."""
        return f"{self.path}:{self.line}: {self.rule}: {' '.join(self.message.split())}"
