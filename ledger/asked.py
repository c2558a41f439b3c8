# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of the signed envelope that asked for its job, computed again: key, signature, purpose, spec.

Enters: a parsed `Bundle` whose record has `envelope`. Leaves: a detail for the report, or an error saying what does not
agree. The key is named by its own hash, so none of it needs trust; that the asker had enrolled it is shown by an entry
of the log (`ledger.anchor`). The job spec as accepted (artefact `spec`) holds what was asked for, defaults filled in:
`agree` compares them member by member, so that nothing was added for the asker. Pure.
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from ledger import asker, canonical, chain, envelope
from ledger.bundle import Bundle
from ledger.errors import EvidenceInvalid
from ledger.predicate import Envelope

NOT_CARRIED = "not_carried"
ARTEFACT: Final = "envelope"
SLACK_S: Final = 300  # the most that a plane lets the asker's clock differ from its own
MAX_DEPTH: Final = 32
# What the plane fills in where a spec says nothing, by member: an accepted spec has no other that wasn't asked for.
DEFAULTS: Final[dict[str, Any]] = {
    "backend_constraints": {},
    "evidence_requirements": {"level": "full", "retention_days": 365},
    "level": "full",
    "observables": [],
    "parameters": [],
    "retention_days": 365,
}
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.ASCII)


class Submission(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an envelope of kind `submit`."""

    spec: Raw
    idempotency_key: str | None = None
    dry_run: bool = False


_submission = msgspec.json.Decoder(Submission)


def submission(body: Raw) -> Submission:
    """The body of a `submit`; EvidenceInvalid where it is of another form."""
    try:
        return _submission.decode(body)
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid(f"body: {error}"[:300]) from error


def concerned(bundle: Bundle) -> bool:
    """Whether the file says anything of an envelope."""
    named = any(part.name == ARTEFACT for part in bundle.artefacts)
    return named or bundle.envelope is not UNSET or bundle.proof.enrolment is not UNSET


def signed(bundle: Bundle) -> str:
    """The carried envelope is signed by the record's key, and asks this plane for this job's spec at this time."""
    said = bundle.envelope
    part = next((one for one in bundle.artefacts if one.name == ARTEFACT), None)
    if said is UNSET or part is None:
        raise EvidenceInvalid("record and artefact go together")
    key = _key(bundle, said)
    content = bundle.contents.get(ARTEFACT)
    if content is None:
        return f"{said.alg} {said.key_id}; {NOT_CARRIED}"
    found = envelope.parse(said.form, content)
    if (found.alg, found.key_id) != (said.alg, said.key_id):
        raise EvidenceInvalid("the envelope names another algorithm or key")
    asker.verify(key, found.covered, found.signature)
    asked = envelope.claims(found.payload)
    if asked.kind != "submit":
        raise EvidenceInvalid(f"an envelope of kind {asked.kind}")
    at = canonical.parse_time(bundle.submission.submitted_at).timestamp()
    aud = envelope.audience(bundle.scope.plane, bundle.scope.tenant)
    envelope.judge(asked, aud=aud, now_s=at, leeway_s=SLACK_S)
    body = submission(asked.body)
    if body.dry_run:
        raise EvidenceInvalid("it asked for advice, not for a job")
    return f"{said.alg} {said.key_id}, {_spec(bundle, msgspec.json.decode(body.spec))}"


def _key(bundle: Bundle, said: Envelope) -> asker.AskerKey:
    """The key that the enrolment shows; its name is its hash, so that there is nothing to be believed."""
    if bundle.proof.enrolment is UNSET:
        raise EvidenceInvalid("nothing shows the key")
    public = chain.parse_leaf(bundle.proof.enrolment.leaf).body.get("public")
    if not isinstance(public, str):
        raise EvidenceInvalid("the enrolment shows no key")
    data = base64.b64decode(public, validate=True)
    key = asker.asker_key(said.alg, data)
    if key.id != said.key_id or base64.b64encode(data).decode() != public:
        raise EvidenceInvalid("key_id is not the thumbprint of the key that was enrolled")
    return key


def _spec(bundle: Bundle, asked: object) -> str:
    content = bundle.contents.get("spec")
    if content is None:
        return f"spec {NOT_CARRIED}"
    held = msgspec.json.decode(content)
    if not isinstance(asked, dict) or not isinstance(held, dict):
        raise EvidenceInvalid("a spec is an object")
    if not isinstance(asked.get("job_id"), str) and isinstance(held.get("job_id"), str):
        held = {name: value for name, value in held.items() if name != "job_id"}  # the plane's to make
    agree(asked, held, "spec", 0)
    return "the spec is the job's"


def agree(asked: Any, held: Any, path: str, depth: int) -> None:
    """Raise EvidenceInvalid unless `held`, as accepted, is what was `asked` for, with defaults filled in."""
    if depth > MAX_DEPTH:
        raise EvidenceInvalid(f"{path}: nested deeper than {MAX_DEPTH}")
    if isinstance(asked, dict) and isinstance(held, dict):
        _members(asked, held, path, depth)
    elif isinstance(asked, list) and isinstance(held, list) and len(asked) == len(held):
        for place, (one, other) in enumerate(zip(asked, held, strict=True)):
            agree(one, other, f"{path}[{place}]", depth + 1)
    elif isinstance(asked, bool | str):
        if type(held) is not type(asked) or held != asked:
            raise _unlike(path)
    elif not isinstance(asked, int | float) or _number(asked, path) != _number(held, path):
        raise _unlike(path)


def _members(asked: dict[str, Any], held: dict[str, Any], path: str, depth: int) -> None:
    wanted = {name: value for name, value in asked.items() if value is not None}
    for name, value in wanted.items():
        if name not in held:
            raise _unlike(f"{path}.{name}")
        compare = _parameters if name == "parameters" else agree
        compare(value, held[name], f"{path}.{name}", depth + 1)
    for name in sorted(held.keys() - wanted.keys()):
        if name not in DEFAULTS or canonical.dumps(held[name]) != canonical.dumps(DEFAULTS[name]):
            raise EvidenceInvalid(f"{path}.{name}: nobody asked for it")


def _parameters(asked: Any, held: Any, path: str, depth: int) -> None:
    """A set {name: number} is held as a list of {name, value}; of a program there are several."""
    if not isinstance(held, list) or not isinstance(asked, dict | list) or len(held) != len(asked):
        raise _unlike(path)
    if isinstance(asked, list):
        for one, other in zip(asked, held, strict=True):
            if not isinstance(one, dict):
                raise _unlike(path)
            _parameters(one, other, path, depth + 1)
        return
    found: dict[str, Any] = {}
    for pair in held:
        if not isinstance(pair, dict) or pair.keys() != {"name", "value"} or not isinstance(pair["name"], str):
            raise _unlike(path)
        found[pair["name"]] = pair["value"]
    if found.keys() != asked.keys():
        raise _unlike(path)
    for name, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unlike(path)
        agree(value, found[name], path, depth + 1)


def _number(value: Any, path: str) -> float:
    """The double that a number, or a decimal that stands for one, means."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        found = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            raise _unlike(path) from None
    else:
        raise _unlike(path)
    if not math.isfinite(found):
        raise _unlike(path)
    return found


def _unlike(path: str) -> EvidenceInvalid:
    return EvidenceInvalid(f"{path[:200]}: not what was asked for")
