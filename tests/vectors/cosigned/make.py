# SPDX-License-Identifier: Apache-2.0
"""Makes the bundles of this folder again, with new keys: `python -m tests.vectors.cosigned.make`.

All are one `denied` job's bundle with other `proof.cosignatures`, judged under `trust.json`, which names two witnesses.
`expected.json` names for each file the verdict, the first check that must fail, and the assurance. The private keys are
thrown away. `line.json` has one line with the bytes that it signs, for whoever builds a reader.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import checkpoint, cosignature
from ledger.canonical import dumps
from tests.ledger.plane import T0, Plane, record

HERE = Path(__file__).parent
SEEN = int(T0.timestamp()) + 9


class Cosigner:
    """A witness that signs whatever it is told."""

    def __init__(self, name: str) -> None:
        self.key = MLDSA44PrivateKey.generate()
        self.witness = cosignature.Witness(name, self.key.public_key())

    def over(self, note: str, *, timestamp: int = SEEN) -> str:
        """Its line over a checkpoint."""
        return cosignature.cosign(self.witness, checkpoint.parse(note.encode()), timestamp, self.key.sign)

    def trusted(self, **changes: Any) -> dict[str, Any]:
        """Its member of a trust file."""
        window = {"valid_from": "2025-01-01T00:00:00.000Z", "valid_until": "2025-12-31T00:00:00.000Z"}
        public = base64.b64encode(cosignature.spki(self.witness.public)).decode()
        return (
            {"id": self.witness.name, "name": self.witness.name, "alg": "ml-dsa-44", "public": public}
            | window
            | changes
        )


def trust(plane: Plane, witnesses: list[dict[str, Any]], **changes: Any) -> bytes:
    """The plane's trust file with witnesses: version 3."""
    return plane.trust(type="urn:qcos:trust:v3", witnesses=witnesses, **changes)


def cosigned(bundle: bytes, *lines: str) -> bytes:
    """The bundle with these lines, as they stand."""
    tree = json.loads(bundle)
    return dumps(tree | {"proof": tree["proof"] | {"cosignatures": list(lines)}})


def cases(plane: Plane, one: Cosigner, two: Cosigner) -> Iterator[tuple[str, bytes, str, str, str]]:
    """Name, bundle, verdict, first failed check, assurance."""
    plain = plane.bundle("denied")
    note = json.loads(plain)["proof"]["checkpoint"]
    later = json.loads(plane.seal(*record("failed")))["proof"]["checkpoint"]
    first, second, stranger = one.over(note), two.over(note), Cosigner("witness.example/stranger").over(note)
    yield "none", plain, "valid", "", "external_time"
    yield "one", cosigned(plain, first), "valid", "", "witnessed"
    yield "two", cosigned(plain, *sorted((first, second))), "valid", "", "witnessed"
    wrong = [
        ("out_of_order", sorted((first, second), reverse=True)),
        ("twice", sorted((first, one.over(note, timestamp=SEEN + 1)))),
        ("other_checkpoint", [one.over(later)]),
        ("name_of_another", [first.replace("example/one", "example/two")]),
        ("before_the_entry", [one.over(note, timestamp=SEEN - 3600)]),
        ("time_to_come", [one.over(note, timestamp=SEEN + 40 * 86400)]),
        ("out_of_use", [one.over(note, timestamp=SEEN - 365 * 86400)]),
        ("revoked", [two.over(note, timestamp=SEEN + 7200)]),
        ("no_signature", [first[:60]]),
    ]
    for name, lines in wrong:
        check = "time_order" if name in ("before_the_entry", "time_to_come") else "cosignatures"
        verdict = "unanchored" if name == "name_of_another" else "invalid"
        yield name, cosigned(plain, *lines), verdict, check, "self_issued"
    yield "stranger", cosigned(plain, *sorted((first, stranger))), "unanchored", "cosignatures", "self_issued"
    yield "empty", cosigned(plain), "invalid", "predicate_closed", "self_issued"


def main() -> None:
    """Write the folder."""
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder), external=True)
        one, two = Cosigner("witness.example/one"), Cosigner("witness.example/two")
        revoked = [{"id": "witness.example/two", "at": "2025-01-06T11:00:00.000Z", "reason": "stolen"}]
        (HERE / "trust.json").write_bytes(trust(plane, [one.trusted(), two.trusted()], revoked=revoked))
        expected = {}
        for name, data, verdict, check, assurance in cases(plane, one, two):
            (HERE / f"{name}.json").write_bytes(data)
            expected[f"{name}.json"] = {"verdict": verdict, "check": check, "assurance": assurance}
        (HERE / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
        note = json.loads((HERE / "one.json").read_bytes())["proof"]["checkpoint"]
        head = checkpoint.parse(note.encode())
        told = {
            "vkey": cosignature.vkey(one.witness),
            "checkpoint": note,
            "line": one.over(note),
            "message_hex": cosignature.message(one.witness.name, SEEN, head).hex(),
        }
        (HERE / "line.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
