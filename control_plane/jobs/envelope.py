# SPDX-License-Identifier: Apache-2.0
"""The envelope (S1, QCCP): every interaction is one authenticated, schema-checked value.

HTTP and the Unix socket build the same envelope, so that nothing behind this point knows the transport. A client may
sign the request itself (`control_plane.signing`): then the signature goes with it into the job's evidence.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from control_plane.auth.principal import Principal
from control_plane.jobs.spec import JobSpec
from ledger.asker import Algorithm, Form
from ledger.canonical import sha256

Signal: TypeAlias = Literal["cancel", "hold", "resume"]


class Signature(Struct, frozen=True):
    """What a request was signed with: the key, the entry that tells of its enrolment, and the signed envelope."""

    form: Form
    alg: Algorithm
    key_id: str
    enrolled: str
    data: bytes

    def document(self) -> dict[str, Any]:
        """As rows and entries have it; the bytes lie apart."""
        return {
            "form": self.form,
            "alg": self.alg,
            "key_id": self.key_id,
            "enrolled": self.enrolled,
            "sha256": sha256(self.data),
            "size": len(self.data),
        }


class Submit(Struct, frozen=True, tag="submit"):
    """A job request. `idempotency_key` is the caller's, `body_sha256` what it was first used with."""

    spec: JobSpec
    body_sha256: str
    idempotency_key: str | None = None
    dry_run: bool = False
    signature: Signature | None = None


class Control(Struct, frozen=True, tag="control"):
    """A control signal for one job of the sender's tenant."""

    signal: Signal
    job_id: str


Payload: TypeAlias = Submit | Control


class Envelope(Struct, frozen=True):
    """Who asks (verified), what, when it arrived, and the request's id for logs."""

    principal: Principal
    payload: Payload
    received_at: dt.datetime
    request_id: str
