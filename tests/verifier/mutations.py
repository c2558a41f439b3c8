# SPDX-License-Identifier: Apache-2.0
"""Changes of real bundles and trust files, drawn from a seed: the cases over which two verifiers must agree.

Three depths: bytes of the file (bits, cuts, doubled runs); members of the JSON, written again in canonical form; and
what lies inside base64 (tokens, signatures, leaf, artefacts), an artefact with its hash and size set anew, so that the
checks behind the hashes are reached. Nothing here knows what a verifier should say.
"""

import base64
import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Sample:
    """A bundle, or a cost statement, and its trust file as read; the other files from which parts may be taken."""

    name: str
    bundle: dict[str, Any]
    trust: dict[str, Any]
    others: tuple[dict[str, Any], ...]


def canonical(value: object) -> bytes:
    """The form that the files have: sorted, without spaces, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def paths(value: object, at: Path = ()) -> Iterator[Path]:
    """Every place in a document but its root."""
    if at:
        yield at
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*at, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*at, place))


def at(value: Any, path: Path) -> Any:
    """What stands there."""
    for step in path:
        value = value[step]
    return value


def other(random_: random.Random, value: object) -> object:
    """Something else in its place, near to it or far from it."""
    far: list[object] = [
        None,
        True,
        0,
        1,
        -1,
        "",
        "x",
        [],
        {},
        "2026-11-21T00:00:00.000Z",
        "sha256:" + "0" * 64,
        2**53 - 1,
        2**53,
    ]
    if isinstance(value, bool):
        far.append(not value)
    elif isinstance(value, int):
        far += [value + 1, value - 1, value * 2, value + 0.5]
    elif isinstance(value, str) and value:
        place = random_.randrange(len(value))
        flipped = chr(ord(value[place]) ^ (1 << random_.randrange(7)))
        near = value[:place] + flipped + value[place + 1 :]
        far += [near, near, near, value[:-1], value + "0", value + " ", value.upper(), value[::-1], "é" + value]
    return random_.choice([item for item in far if item != value or type(item) is not type(value)])


def edit(random_: random.Random, document: dict[str, Any], spare: str = "") -> tuple[str, dict[str, Any]]:
    """One member changed, dropped, doubled, moved or added, but none of those under `spare`."""
    document = copy.deepcopy(document)
    path = random_.choice([path for path in paths(document) if spare not in path])
    holder, last = at(document, path[:-1]), path[-1]
    deed = random_.choice(["change", "change", "change", "drop", "add", "swap", "double"])
    if deed == "change":
        holder[last] = other(random_, holder[last])
    elif deed == "drop":
        del holder[last]
    elif deed == "add" and isinstance(holder, dict):
        holder[random_.choice(["x", "zz", "", "v", str(last) + "2", "é"])] = holder[last]
    elif deed == "swap":
        other_key = random_.choice(list(holder) if isinstance(holder, dict) else list(range(len(holder))))
        holder[last], holder[other_key] = holder[other_key], holder[last]
    elif isinstance(holder, list):
        holder.insert(random_.randrange(len(holder) + 1), copy.deepcopy(holder[int(last)]))
    else:
        holder[last] = [holder[last]]
    return f"{deed} {'.'.join(map(str, path))}", document


def flip(random_: random.Random, data: bytes) -> bytes:
    """One bit of it."""
    if not data:
        return b"\0"
    place = random_.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << random_.randrange(8))]) + data[place + 1 :]


def raw(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """The file's bytes: a bit, a cut, a run doubled, a run dropped."""
    data, trust = canonical(sample.bundle), canonical(sample.trust)
    deed = random_.choice(["bit", "bit", "bit", "bit", "cut", "double", "drop", "trust bit"])
    place = random_.randrange(len(data))
    end = place + random_.randrange(1, 40)
    if deed == "trust bit":
        return deed, data, spared(random_, sample, trust)
    changed = {
        "bit": flip(random_, data),
        "cut": data[:place],
        "double": data[:end] + data[place:],
        "drop": data[:place] + data[end:],
    }[deed]
    return f"{deed} at {place}", changed, trust


def spared(random_: random.Random, sample: Sample, trust: bytes) -> bytes:
    """One bit of a trust file, but none of its certificates'."""
    kept = [certificate.encode() for authority in sample.trust["tsa"] for certificate in authority["certificates"]]
    while True:
        changed = flip(random_, trust)
        if all(certificate in changed for certificate in kept):
            return changed


def member(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A member of the bundle."""
    what, changed = edit(random_, sample.bundle)
    return what, canonical(changed), canonical(sample.trust)


def trusted(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A member of the trust file."""
    what, changed = edit(random_, sample.trust, spare="certificates")
    return "trust " + what, canonical(sample.bundle), canonical(changed)


def base64_paths(bundle: dict[str, Any]) -> list[Path]:
    """Where bytes lie in a bundle."""
    proof: list[Path] = [("proof", "leaf"), ("proof", "statement_salt")]
    proof += [("proof", "path", place) for place in range(len(bundle["proof"]["path"]))]
    if "fold" in bundle["proof"]:
        proof += [
            ("proof", "fold", "record"),
            *(("proof", "fold", "path", n) for n in range(len(bundle["proof"]["fold"]["path"]))),
        ]
    signed: list[Path] = [
        ("signatures", name) for name in ("qcos_signature", "ecdsa_p256_signature") if bundle["signatures"][name]
    ]
    tokens: list[Path] = [
        ("signatures", "timestamp_authority", n, "token")
        for n in range(len(bundle["signatures"]["timestamp_authority"]))
    ]
    method: list[Path] = [("method",)] if bundle.get("method") else []
    return proof + signed + tokens * 4 + method + [("contents", name) for name in bundle.get("contents", {})]


def inside(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A bit, or a run, of what is base64 in the file."""
    bundle = copy.deepcopy(sample.bundle)
    path = random_.choice(base64_paths(bundle))
    data = base64.b64decode(at(bundle, path))
    place = random_.randrange(len(data) + 1)
    changed = random_.choice(
        [flip(random_, data), flip(random_, data), data[:place], data + data[:place], data[:place] + data[place + 1 :]]
    )
    at(bundle, path[:-1])[path[-1]] = base64.b64encode(changed).decode()
    return f"bytes of {'.'.join(map(str, path))}", canonical(bundle), canonical(sample.trust)


def leafwise(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A member of the leaf, the leaf written again."""
    bundle = copy.deepcopy(sample.bundle)
    what, changed = edit(random_, json.loads(base64.b64decode(bundle["proof"]["leaf"])))
    bundle["proof"]["leaf"] = base64.b64encode(canonical(changed)).decode()
    return "leaf " + what, canonical(bundle), canonical(sample.trust)


def artefact(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A member of an artefact in JSON, its hash and size set anew everywhere; of the file where it carries none."""
    bundle = copy.deepcopy(sample.bundle)
    if "contents" not in bundle:
        return member(random_, sample)
    names = [name for name in ("result", "spec", "rate_card", "plan", "network") if name in bundle["contents"]]
    name = random_.choice(names)
    what, changed = edit(random_, json.loads(base64.b64decode(bundle["contents"][name])))
    carry(bundle, name, canonical(changed))
    if random_.random() < 0.2:
        bundle["partial"] = "a reason"
    return f"{name} {what}", canonical(bundle), canonical(sample.trust)


def carry(bundle: dict[str, Any], name: str, data: bytes) -> None:
    """Puts other bytes in an artefact's place, with the hashes that name it."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    bundle["contents"][name] = base64.b64encode(data).decode()
    for entry in bundle["artefacts"]:
        if entry["name"] == name:
            entry.update(sha256=digest, size=len(data))
    if name == "spec":
        bundle["input_hash"] = digest
    if name == "result":
        bundle["output_hash"] = digest
    if name == "rate_card" and bundle["cost"]:
        bundle["cost"]["rate_card"] = digest


def graft(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A part of another bundle in the place of one's own."""
    bundle, giver = copy.deepcopy(sample.bundle), random_.choice(sample.others)
    common = [path for path in paths(bundle) if len(path) <= 2 and has(giver, path)]
    path = random_.choice(common)
    at(bundle, path[:-1])[path[-1]] = copy.deepcopy(at(giver, path))
    return f"another's {'.'.join(map(str, path))}", canonical(bundle), canonical(sample.trust)


def has(document: object, path: Path) -> bool:
    """Whether something stands there."""
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
            continue
        if not (isinstance(document, list) and isinstance(step, int) and step < len(document)):
            return False
        document = document[step]
    return True


def note(random_: random.Random, sample: Sample) -> tuple[str, bytes, bytes]:
    """A character of the checkpoint, or its lines in another order."""
    bundle = copy.deepcopy(sample.bundle)
    text: str = bundle["proof"]["checkpoint"]
    place = random_.randrange(len(text))
    lines = text.split("\n")
    shuffled = lines[:]
    random_.shuffle(shuffled)
    near = text[:place] + chr(max(32, ord(text[place]) ^ (1 << random_.randrange(6)))) + text[place + 1 :]
    head = random_.randrange(len(text.split("\n\n", 1)[0]) + 4)
    headed = text[:head] + random_.choice("0 \n-+A") + text[head + random_.randrange(2) :]
    bundle["proof"]["checkpoint"] = random_.choice(
        [near, headed, headed, "\n".join(shuffled), "\n".join([*lines[:-1], lines[-2], ""]), text[:place]]
    )
    return "checkpoint", canonical(bundle), canonical(sample.trust)


Change: TypeAlias = Callable[[random.Random, Sample], tuple[str, bytes, bytes]]
CHANGES: tuple[Change, ...] = (
    raw,
    raw,
    member,
    member,
    member,
    trusted,
    inside,
    inside,
    leafwise,
    artefact,
    artefact,
    graft,
    note,
)


def cases(samples: list[Sample], count: int, seed: int) -> Iterator[tuple[str, bytes, bytes]]:
    """`count` changed pairs of files, the same ones for the same seed and samples; the unchanged ones first."""
    random_ = random.Random(seed)
    for sample in samples:
        yield f"{sample.name}: unchanged", canonical(sample.bundle), canonical(sample.trust)
    for _ in range(count):
        sample = random_.choice(samples)
        what, bundle, trust = random_.choice(CHANGES)(random_, sample)
        yield f"{sample.name}: {what}", bundle, trust
