# SPDX-License-Identifier: Apache-2.0
"""Whether an answer is one, and whether its result may be accepted (N7, I8). No clock, no network.

An answer counts only if the node that was asked signed it, names itself, and names the hash of exactly the bytes that
it was sent. A result is accepted only if besides it is for this token, fragment, epoch and seed, has as many rows of
the right width as shots were asked for, no bit that the circuit doesn't have, the given bits as they were given, and if
for each service the smaller of what the node reports of this run and what the plane verified reaches the threshold. A
service that the plane hasn't verified has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from hal_drivers.p2p import rows
from hal_drivers.p2p.aliases import services_of
from hal_drivers.p2p.errors import IdentityInvalid
from hal_drivers.p2p.identity import verify
from hal_drivers.p2p.plan import PlanConfig
from hal_drivers.p2p.wire import Answer, Execute, Executed, Signed, request_digest

PPM = 1_000_000
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Wrong(Struct, frozen=True):
    """Not accepted. ``code`` is signature | answer | request | token | epoch | shots | rows | fidelity | unverified."""

    code: str
    detail: str
    observed_ppm: int | None = None


def read(signed: Signed, node_id: str, frame: bytes) -> Answer | Wrong:
    """The answer to `frame`, if it is one of this node's."""
    if signed.node_id != node_id:
        return Wrong("signature", "it is signed by another node")
    try:
        verify(signed)
    except IdentityInvalid:
        return Wrong("signature", "the signature is not the node's")
    try:
        answer = _answers.decode(signed.body)
    except (msgspec.DecodeError, RecursionError):
        return Wrong("answer", "it is no answer of this protocol")
    if answer.node_id != node_id:
        return Wrong("answer", "it names another node")
    if answer.request_sha256 != request_digest(frame):
        return Wrong("request", "it answers another request")
    return answer


def accept(executed: Executed, asked: Execute, config: PlanConfig, verified: Mapping[str, int]) -> int | Wrong:
    """The observed fidelity in parts per million, or why the result is refused. ``verified``: by service."""
    if (executed.token, executed.fragment_id) != (asked.token, asked.fragment_id):
        return Wrong("token", "it is a result of something else")
    if executed.epoch != asked.epoch:
        return Wrong("epoch", f"it is of epoch {executed.epoch}, not {asked.epoch}")
    if executed.shots != asked.shots or executed.seed != asked.seed:
        return Wrong("shots", f"it has {executed.shots} shots of {asked.shots}, or another seed")
    if fault := _rows(executed, asked):
        return Wrong("rows", fault)
    return _fidelity(executed, asked, config, verified)


def _rows(executed: Executed, asked: Execute) -> str | None:
    bits = asked.circuit.bits
    try:
        kept = rows.pick(executed.rows, bits, asked.shots, asked.given.bits if asked.given else ())
    except ValueError as error:
        return str(error)
    if asked.given is not None and kept != asked.given.rows:
        return "the bits that it was given are not as they were given"
    return None


def _fidelity(executed: Executed, asked: Execute, config: PlanConfig, verified: Mapping[str, int]) -> int | Wrong:
    observed = PPM
    for service in services_of(asked.circuit.operations):
        reported = executed.fidelities.get(service)
        if reported is None or not 0 <= reported <= 1:
            return Wrong("fidelity", f"it reports no fidelity of {service}")
        if service not in verified:
            return Wrong("unverified", f"the plane has not verified {service} of this node")
        judged = min(int(reported * PPM), verified[service])
        observed = min(observed, judged)
        if judged < (least := config.min_fidelity(service)):
            said = f"{service} has {judged / PPM:.6f} (reported {reported:.6f}), {least / PPM:.6f} is asked"
            return Wrong("fidelity", said, observed)
    return observed
