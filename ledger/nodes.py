# SPDX-License-Identifier: Apache-2.0
"""A network job's evidence judged again: its plan, each node's own signed words, the result joined from them.

Enters: a parsed `Bundle`. Leaves: named checks, each a detail or EvidenceInvalid. The artefact `plan` has the program,
its plan, the registry's snapshot and the configuration, the artefact `network` what each node was sent and said;
docs/evidence-format.md ("Jobs of a network") has their members. Nothing but peer ids is needed to check the nodes'
signatures. What a node *should* have measured nobody can compute again; that these are its rows, and the counts theirs,
anybody can. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, localcontext
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ledger.bundle import Bundle
from ledger.errors import EvidenceInvalid
from ledger.peers import check_signature
from ledger.predicate import Money

METHOD, PLAN, RUN, FEES = "network", "plan", "network", "node_fees"
NOT_CARRIED = "not_carried"
RESTARTED = "restarted"
# No plane takes so many; a file could claim any number.
MOST_BITS, MOST_SHOTS = 1 << 16, 1 << 21
PPM = 1_000_000
Check = tuple[str, Callable[[], str]]
_S = TypeVar("_S", bound=Struct)


class _Fragment(Struct, frozen=True):
    fragment_id: str
    services: tuple[str, ...]
    bits_read: tuple[int, ...]
    bits_written: tuple[int, ...]


class _Assignment(Struct, frozen=True):
    fragment_id: str
    primary: str
    fallbacks: tuple[str, ...]


class _Plan(Struct, frozen=True):
    plan_id: str
    program_sha256: str
    snapshot_sha256: str
    config_sha256: str
    fragments: tuple[_Fragment, ...]
    assignments: tuple[_Assignment, ...]


class _Config(Struct, frozen=True):
    min_fidelity_ppm: dict[str, int]
    default_min_fidelity_ppm: int


class _Offer(Struct, frozen=True):
    service: str
    reported_ppm: int
    verified_ppm: int | None


class _Node(Struct, frozen=True):
    node_id: str
    price_per_fragment: Money
    price_per_shot: Money
    offers: tuple[_Offer, ...]


class _Snapshot(Struct, frozen=True):
    nodes: tuple[_Node, ...]


class _Planned(Struct, frozen=True):
    plan: _Plan
    snapshot: _Snapshot
    config: _Config | None
    allowed: tuple[str, ...] | None


class _Signed(Struct, frozen=True):
    node_id: str
    body: bytes
    signature: bytes


class _Attempt(Struct, frozen=True):
    node_id: str
    epoch: int
    status: str
    code: str | None
    answers: tuple[_Signed, ...]
    requests: tuple[bytes, ...]


class _FragmentRun(Struct, frozen=True):
    fragment_id: str
    status: str
    node_id: str | None
    attempts: tuple[_Attempt, ...]


class _Run(Struct, frozen=True):
    token: str
    fragments: tuple[_FragmentRun, ...]


class _Network(Struct, frozen=True):
    run: _Run
    shots: int
    bits: int
    rows: bytes


class _Words(Struct, frozen=True):
    """What every answer has, and what an accepted one has besides."""

    type: str
    node_id: str
    request_sha256: str
    token: str = ""
    fragment_id: str = ""
    epoch: int = 0
    shots: int = 0
    rows: bytes = b""
    fidelities: dict[str, float] = {}


class _Asked(Struct, frozen=True):
    token: str
    fragment_id: str
    epoch: int


class _Counts(Struct, frozen=True):
    counts: dict[str, int]


def checks(bundle: Bundle) -> Iterator[Check]:
    """Of a job that ran on a network: its plan, a check for each node, its fragments. Of others none."""
    names = {part.name for part in bundle.artefacts}
    if RUN not in names:
        if bundle.execution_metadata.method == METHOD and bundle.output_hash is not None:
            yield "nodes", _nobody
        return
    plan, run = bundle.contents.get(PLAN), bundle.contents.get(RUN)
    if plan is None or run is None:
        yield "nodes", lambda: NOT_CARRIED if PLAN in names else _nobody()
        return
    yield "plan", partial(_check_plan, plan)
    try:
        planned, ran = _read(plan, _Planned, PLAN), _read(run, _Network, RUN)
    except EvidenceInvalid as error:
        yield "nodes", partial(_broken, error)
        return
    yield "nodes", partial(_check_assigned, planned, ran)
    for node, received in sorted(_by_node(ran).items()):
        yield f"node:{node}", partial(_check_node, node, received, ran.run)
    if bundle.output_hash is not None:
        yield "fragments", partial(_check_fragments, planned, ran, bundle.contents.get("result"))
        yield "node_fees", partial(_check_fees, planned, ran, bundle)


def _nobody() -> str:
    raise EvidenceInvalid("a network's result without who ran it")


def _broken(error: EvidenceInvalid) -> str:
    raise error


def _check_plan(content: bytes) -> str:
    """The plan's hashes are those of what it was made from, its id that of itself."""
    planned, value = _read(content, _Planned, PLAN), _object(content)
    fields = dict(value["plan"])
    if _digest({name: fields[name] for name in fields if name != "plan_id"}) != planned.plan.plan_id:
        raise EvidenceInvalid("plan: its id is not its hash")
    for name in ("program", "snapshot", "config"):
        if value.get(name) is None and name == "config":
            continue
        if _digest(value.get(name)) != fields[f"{name}_sha256"]:
            raise EvidenceInvalid(f"plan: made from another {name}")
    return f"{planned.plan.plan_id[:16]}, {len(planned.plan.fragments)} fragments"


def _check_assigned(planned: _Planned, ran: _Network) -> str:
    """Each fragment of the plan stands in the run once, with each attempt; whom it names alone was sent any of it.

    And whom the plan names was allowed by policy and, by the plan's snapshot, as good as its configuration asks (I8).
    """
    assigned = {one.fragment_id: {one.primary, *one.fallbacks} for one in planned.plan.assignments}
    if sorted(assigned) != sorted(one.fragment_id for one in planned.plan.fragments):
        raise EvidenceInvalid("plan: a fragment without a node, or twice")
    if sorted(assigned) != sorted(one.fragment_id for one in ran.run.fragments):
        raise EvidenceInvalid("network: not the fragments of the plan")
    for planned_one in planned.plan.fragments:
        for node in sorted(assigned[planned_one.fragment_id]):
            _check_chosen(planned, planned_one, node)
    for fragment in ran.run.fragments:
        # An epoch is an attempt: whoever leaves one out leaves a hole, but for the last of a fragment that failed.
        if [attempt.epoch for attempt in fragment.attempts] != list(range(1, len(fragment.attempts) + 1)):
            raise EvidenceInvalid(f"{fragment.fragment_id}: an attempt is missing")
        for attempt in fragment.attempts:
            if attempt.node_id not in assigned[fragment.fragment_id]:
                raise EvidenceInvalid(f"{fragment.fragment_id} went to {attempt.node_id}, whom the plan doesn't name")
    attempts = [attempt for one in ran.run.fragments for attempt in one.attempts]
    sent = [attempt.node_id for attempt in attempts if attempt.requests]
    unsure = sum(_cut_off(attempt) for attempt in attempts)
    return f"{len(set(sent))} received something, in {len(sent)} attempts" + (f", and perhaps {unsure}" * bool(unsure))


def _check_chosen(planned: _Planned, fragment: _Fragment, node: str) -> None:
    if planned.allowed is not None and node not in planned.allowed:
        raise EvidenceInvalid(f"{fragment.fragment_id} was planned for {node}, whom policy doesn't allow")
    found = next((one for one in planned.snapshot.nodes if one.node_id == node), None)
    if found is None:
        raise EvidenceInvalid(f"{fragment.fragment_id} was planned for {node}, whom the registry doesn't know")
    if planned.config is None:
        return
    judged = {offer.service: min(offer.reported_ppm, offer.verified_ppm or 0) for offer in found.offers}
    for service in fragment.services:
        least = planned.config.min_fidelity_ppm.get(service, planned.config.default_min_fidelity_ppm)
        if judged.get(service, 0) < least:
            raise EvidenceInvalid(
                f"{fragment.fragment_id} was planned for {node}, whose {service} is below {least} ppm"
            )


def _by_node(ran: _Network) -> dict[str, list[tuple[_FragmentRun, _Attempt]]]:
    found = defaultdict(list)
    for fragment in ran.run.fragments:
        for attempt in fragment.attempts:
            found[attempt.node_id].append((fragment, attempt))
    return found


def _check_node(node: str, received: list[tuple[_FragmentRun, _Attempt]], run: _Run) -> str:
    """All that this node said is signed by it, and is said to what it was sent, or was refused for not being so."""
    said = false = 0
    for fragment, attempt in received:
        for frame in attempt.requests:
            asked = _read(frame, _Asked, "a request")
            if (asked.token, asked.fragment_id, asked.epoch) != _place(run, fragment, attempt):
                raise EvidenceInvalid(f"a request of {asked.fragment_id}, epoch {asked.epoch}, in another's place")
        known = {hashlib.sha256(frame).hexdigest() for frame in attempt.requests}
        for answer in attempt.answers:
            try:
                _check_answer(node, answer, known)
            except _Unsaid as error:
                # A node that lies must not spoil the record of its lie: this is why nothing of it was accepted.
                if (attempt.status, attempt.code) != ("refused", error.code):
                    raise EvidenceInvalid(f"{fragment.fragment_id}: {error}") from error
                false += 1
            else:
                said += 1
    told = f"{_told(received)}; " + (f"{said} answers, each signed by it" if said else "no answer")
    return f"{told}; {false} refused that are no answer of it to what it was sent" if false else told


class _Unsaid(Exception):
    """Not this node's answer to what it was sent; ``code`` is the plane's word for why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def _check_answer(node: str, answer: _Signed, known: set[str]) -> None:
    if answer.node_id != node:
        raise _Unsaid("signature", f"an answer of {answer.node_id}")
    try:
        check_signature(node, answer.body, answer.signature)
    except EvidenceInvalid as error:
        raise _Unsaid("signature", str(error)) from error
    try:
        words = _read(answer.body, _Words, "an answer")
    except EvidenceInvalid as error:
        raise _Unsaid("answer", str(error)) from error
    if words.node_id != node:
        raise _Unsaid("answer", "an answer that names another node")
    if words.request_sha256 not in known:
        raise _Unsaid("request", "an answer to what this node was not sent")


def _place(run: _Run, fragment: _FragmentRun, attempt: _Attempt) -> tuple[str, str, int]:
    """How a node knows an attempt: by a token that says nothing of the job."""
    token = hashlib.sha256(b"qcos-run\0" + run.token.encode()).hexdigest()[:32]
    return token, fragment.fragment_id, attempt.epoch


def _told(received: list[tuple[_FragmentRun, _Attempt]]) -> str:
    """What a node ran, what it was sent in vain, what perhaps, and for what it was chosen and then never asked.

    An attempt is on the fabric's disk before anything is sent, what was sent only after: a fabric that was killed in
    between can't say.
    """
    ran = [one.fragment_id for one, attempt in received if attempt.status == "accepted"]
    lost = [(one, attempt) for one, attempt in received if attempt.status != "accepted"]
    vain = [f"{one.fragment_id} ({attempt.code or attempt.status})" for one, attempt in lost if attempt.requests]
    unsure = [f"{one.fragment_id} ({RESTARTED})" for one, attempt in lost if _cut_off(attempt)]
    spared = [one.fragment_id for one, attempt in lost if not (attempt.requests or _cut_off(attempt))]
    told = (("ran", ran), ("received", vain), ("may have received", unsure), ("was sent nothing of", spared))
    return "; ".join(f"{what} {', '.join(which)}" for what, which in told if which)


def _cut_off(attempt: _Attempt) -> bool:
    return attempt.code == RESTARTED and not attempt.requests


def _check_fragments(planned: _Planned, ran: _Network, result: bytes | None) -> str:
    """The counts are those of the rows that nodes signed, joined shot by shot as the plan says."""
    if not (0 <= ran.bits <= MOST_BITS and 0 <= ran.shots <= MOST_SHOTS):
        raise EvidenceInvalid(f"network: {ran.shots} shots of {ran.bits} bits")
    joined = [0] * ran.shots
    by_id = {one.fragment_id: one for one in ran.run.fragments}
    for fragment in planned.plan.fragments:
        if fragment.fragment_id not in by_id:
            raise EvidenceInvalid(f"network: without fragment {fragment.fragment_id}")
        words = _accepted(by_id[fragment.fragment_id], ran, planned.config)
        bits = sorted({*fragment.bits_read, *fragment.bits_written})
        if any(not 0 <= bit < ran.bits for bit in bits):
            raise EvidenceInvalid(f"{fragment.fragment_id}: a bit that the program lacks")
        written = [(bits.index(bit), bit) for bit in fragment.bits_written]
        for shot, row in enumerate(_rows(words.rows, len(bits), len(joined))):
            for local, bit in written:
                joined[shot] |= (row >> local & 1) << bit
    if joined != _rows(ran.rows, ran.bits, ran.shots):
        raise EvidenceInvalid("network: rows that are not those of its fragments")
    if result is None:
        return f"{len(by_id)} joined; result {NOT_CARRIED}"
    counts = Counter(f"{row:0{ran.bits}b}" if ran.bits else "" for row in joined)
    if dict(counts) != _read(result, _Counts, "result").counts:
        raise EvidenceInvalid("the result's counts are not those of the nodes' rows")
    return f"{len(by_id)} joined shot by shot give the counts of {len(joined)} shots"


def _check_fees(planned: _Planned, ran: _Network, bundle: Bundle) -> str:
    """What is passed on is what the accepted nodes ask by the plan's snapshot, or less where the card has a cap."""
    prices = {node.node_id: node for node in planned.snapshot.nodes}
    used = [prices[one.node_id] for one in ran.run.fragments if one.node_id in prices]
    lines = [line for line in bundle.cost.lines if line.meter == FEES] if bundle.cost is not None else []
    with localcontext(Context(prec=80)):
        asked = sum((Decimal(n.price_per_fragment) + ran.shots * Decimal(n.price_per_shot) for n in used), Decimal(0))
        passed_on = sum((Decimal(line.quantity) for line in lines), Decimal(0))
    if passed_on > asked:
        raise EvidenceInvalid(f"{_plain(passed_on)} for nodes that ask for {_plain(asked)}")
    return f"{_plain(passed_on)} of the {_plain(asked)} that the accepted nodes ask for"


def _plain(amount: Decimal) -> str:
    """Without zeros that say nothing."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _accepted(fragment: _FragmentRun, ran: _Network, config: _Config | None) -> _Words:
    """The answer that counts: the first `executed` of the one attempt that was accepted."""
    accepted = [attempt for attempt in fragment.attempts if attempt.status == "accepted"]
    if len(accepted) != 1 or accepted[0].node_id != fragment.node_id or fragment.status != "completed":
        raise EvidenceInvalid(f"{fragment.fragment_id}: not exactly one accepted attempt")
    place = _place(ran.run, fragment, accepted[0])
    for answer in accepted[0].answers:
        words = _read(answer.body, _Words, "an answer")
        if words.type != "executed":
            continue
        if (words.token, words.fragment_id, words.epoch) != place or words.shots != ran.shots:
            raise EvidenceInvalid(f"{fragment.fragment_id}: the accepted answer is of something else")
        _check_fidelity(fragment, words, config)
        return words
    raise EvidenceInvalid(f"{fragment.fragment_id}: accepted without an answer")


def _check_fidelity(fragment: _FragmentRun, words: _Words, config: _Config | None) -> None:
    """By the node's own word; what the plane had verified of it stands in the plan's snapshot."""
    for service, fidelity in words.fidelities.items() if config is not None else ():
        least = config.min_fidelity_ppm.get(service, config.default_min_fidelity_ppm) if config is not None else 0
        if not least <= fidelity * PPM <= PPM:
            raise EvidenceInvalid(f"{fragment.fragment_id}: accepted with {service} at {fidelity}")


def _rows(data: bytes, bits: int, shots: int) -> list[int]:
    size = (bits + 7) // 8
    if len(data) != size * shots:
        raise EvidenceInvalid(f"{shots} shots of {bits} bits are {size * shots} bytes, not {len(data)}")
    found = [int.from_bytes(data[at * size : (at + 1) * size], "little") for at in range(shots)]
    if any(row >> bits for row in found):
        raise EvidenceInvalid(f"a row of more than {bits} bits")
    return found


def _read(content: bytes, kind: type[_S], what: str) -> _S:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceInvalid(f"{what}: {error}") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(content)  # texts that no struct asks for are looked into here first
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid("not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise EvidenceInvalid("not an object")
    return value


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
