# SPDX-License-Identifier: Apache-2.0
"""The forms in which evidence and trust can be taken away: what the API's `format` and the CLI's `--format` take.

Names alone, so that the command line knows them without what makes them (`jobs.formats`); a test compares the two.
"""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["bundle", "sigstore", "sigstore-mldsa", "tlog-proof", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)
TrustFormat = Literal["qcos", "sigstore"]
TRUST_FORMATS: tuple[TrustFormat, ...] = get_args(TrustFormat)
