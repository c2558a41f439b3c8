# SPDX-License-Identifier: Apache-2.0
"""Makes the bundles of this folder again, with new keys: `python -m tests.vectors.bundles.make`.

`good/NAME.json` are valid under `trust.json`. `bad/NAME.json` each have one fault; `expected.json` names, for
every file, the verdict and the first check that must fail. The private keys are thrown away.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ledger.canonical import dumps
from ledger.timestamp import P256_ORDER
from tests.ledger.plane import KINDS, Plane, artefact, record

HERE = Path(__file__).parent


def good(plane: Plane) -> Iterator[tuple[str, bytes]]:
    """One honest bundle of each kind, stamped by two authorities."""
    for kind in KINDS:
        yield kind, plane.bundle(kind)


def lies(plane: Plane) -> Iterator[tuple[str, bytes, str]]:
    """Records that are signed, sealed and stamped by the right keys, and yet cannot be true."""
    members, contents = record("completed_full")
    contents["result"] = contents["result"].replace(b'"00":493', b'"00":593')
    artefact(members, "result", contents["result"])
    yield "shots_invented", plane.seal(members, contents), "shots_recomputed"

    members, contents = record("completed_full")
    members["cost"] = members["cost"] | {"amount": "0.39"}
    yield "cost_inflated", plane.seal(members, contents), "cost_recomputed"

    members, contents = record("completed_full")
    lines = [members["cost"]["lines"][0], members["cost"]["lines"][1] | {"rate": "0.0001", "amount": "0.1"}]
    members["cost"] = members["cost"] | {"amount": "0.4", "lines": lines}
    yield "rate_not_on_card", plane.seal(members, contents), "cost_recomputed"

    members, contents = record("completed_full")
    members["governance_record"] |= {"policy_decisions": ["deny"]}
    yield "ran_though_denied", plane.seal(members, contents), "governance"

    members, contents = record("completed_full")
    members["execution_metadata"] |= {"shots_executed": 1000}
    members["submission"] |= {"shots": 2000}
    yield "fewer_shots_unsaid", plane.seal(members, contents), "outcome"

    members, contents = record("completed_full")
    members["governance_record"] |= {"project": "other"}
    yield "project_not_of_spec", plane.seal(members, contents), "spec"

    members, contents = record("completed_full", scope={"profile": "saas", "plane": "plane-1", "tenant": "demo"})
    yield "development_key_in_production", plane.seal(members, contents), "trust_scope"

    yield "entry_of_other_tenant", plane.seal(*record("denied"), tenant="other"), "leaf"
    yield "stamped_before_the_end", plane.seal(*record("completed_full"), stamped_s=-10), "time_order"
    yield "stamped_before_the_key", plane.seal(*record("denied"), stamped_s=-3600), "key_validity"
    other = [token for data in (b"one thing", b"another") for token in plane.stamp(data)]
    yield (
        "tokens_of_something_else",
        plane.seal(*record("completed_full"), stamps=lambda _: other),
        "timestamps",
    )


def tampered(plane: Plane, stranger: Plane) -> Iterator[tuple[str, bytes, str]]:
    """Honest bundles changed afterwards, written again in canonical form unless that is the fault."""
    honest = plane.bundle("completed_full")

    def changed(**members: Any) -> bytes:
        tree = json.loads(honest)
        for name, value in members.items():
            tree[name] = value(tree[name]) if callable(value) else value
        return dumps(tree)

    def signed(**members: Any) -> bytes:
        return changed(signatures=lambda old: old | members)

    def proved(**members: Any) -> bytes:
        return changed(proof=lambda old: old | members)

    tree = json.loads(honest)
    made, proof = tree["signatures"], tree["proof"]
    result = base64.b64decode(tree["contents"]["result"]).replace(b"493", b"494")
    text = base64.b64encode(result).decode()
    yield "result_changed", changed(contents=lambda old: old | {"result": text}), "output_hash"
    yield "content_added", changed(contents=lambda old: old | {"extra": ""}), "contents"
    yield (
        "content_dropped",
        changed(contents=lambda old: {k: v for k, v in old.items() if k != "source"}),
        "contents",
    )
    yield "job_id_changed", changed(job_id="another"), "statement_commitment"
    yield "member_added", changed(note="harmless"), "predicate_closed"
    yield "member_dropped", dumps({k: v for k, v in tree.items() if k != "partial"}), "predicate_closed"
    yield "salt_changed", proved(statement_salt=base64.b64encode(bytes(32)).decode()), "statement_commitment"
    yield "path_too_short", proved(path=proof["path"][:-1]), "inclusion"
    yield "path_too_long", proved(path=[*proof["path"], proof["path"][0]]), "inclusion"
    yield (
        "one_checkpoint_line",
        proved(checkpoint=_without_last_line(proof["checkpoint"])),
        "checkpoint_signatures",
    )
    yield "no_ecdsa", signed(ecdsa_p256_signature=None), "ecdsa_signature"
    yield "no_signature", signed(qcos_signature=None), "qcos_signature"
    yield (
        "ecdsa_high_s",
        signed(ecdsa_p256_signature=_high_s(made["ecdsa_p256_signature"])),
        "ecdsa_signature",
    )
    yield "token_missing", signed(timestamp_authority=made["timestamp_authority"][1:]), "timestamps"
    yield "tokens_reordered", signed(timestamp_authority=made["timestamp_authority"][::-1]), "timestamps"
    yield (
        "self_called_external",
        signed(timestamp_authority=_renamed(made["timestamp_authority"])),
        "timestamps",
    )
    foreign = json.loads(stranger.bundle("completed_full"))["signatures"]
    yield "signed_by_a_stranger", changed(signatures=foreign), "qcos_signature"
    yield "not_canonical", honest.replace(b'{"artefacts"', b'{ "artefacts"', 1), "file_canonical"
    yield "member_twice", honest.replace(b'{"artefacts"', b'{"job_id":"x","artefacts"', 1), "file_canonical"
    yield "base64_spare_bits", _spare_bits(honest, proof["statement_salt"]), "file_canonical"


def _without_last_line(note: str) -> str:
    return "\n".join(note.split("\n")[:-2]) + "\n"


def _high_s(text: str) -> str:
    r, s = decode_dss_signature(base64.b64decode(text))
    return base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()


def _renamed(stamps: list[dict[str, str]]) -> list[dict[str, str]]:
    return [stamp | {"operator": "external"} for stamp in stamps]


def _spare_bits(file: bytes, text: str) -> bytes:
    """32 bytes end in one `=`, and the character before it has two bits that decode to nothing."""
    body = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(body[-1]) ^ 1]
    return file.replace(text.encode(), (body[:-1] + last + text[len(body) :]).encode())


def main() -> None:
    """Write the folder."""
    expected: dict[str, dict[str, str]] = {}
    for folder in ("good", "bad"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).glob("*.json"):
            old.unlink()
    with tempfile.TemporaryDirectory() as room:
        plane = Plane(Path(room, "plane"), external=True)
        single = Plane(Path(room, "single"))
        stranger = Plane(Path(room, "stranger"), external=True)
        files = [(f"good/{name}.json", data, "valid", "") for name, data in good(plane)]
        files += [(f"bad/{name}.json", data, "invalid", check) for name, data, check in lies(plane)]
        files += [(f"bad/{name}.json", data, "invalid", check) for name, data, check in tampered(plane, stranger)]
        foreign = stranger.bundle("completed_full")
        files.append(("bad/of_another_plane.json", foreign, "unanchored", "checkpoint_signatures"))
        for name, data, verdict, check in files:
            (HERE / name).write_bytes(data)
            expected[name] = {"verdict": verdict, "check": check}
        (HERE / "trust.json").write_bytes(plane.trust())
        (HERE / "self_issued.json").write_bytes(single.bundle("completed_full"))
        (HERE / "self_issued_trust.json").write_bytes(single.trust())
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
