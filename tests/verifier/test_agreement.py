# SPDX-License-Identifier: Apache-2.0
"""Two verifiers, written apart from one page, say the same of every vector and of what is changed (I4, G3)."""

import base64
import copy
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finops.rates import charge, parse_card
from finops.reading import faults
from ledger import billed
from ledger.errors import EvidenceInvalid
from ledger.predicate import CostLine
from tests.finops.test_card_2 import lines, work
from tests.ledger import asking
from tests.ledger.test_billed import executed
from tests.vectors.cards import make
from tests.verifier.agreement import CLI, NODE, VECTORS, differences, samples, statements, vectors
from tests.verifier.mutations import canonical, cases

pytestmark = pytest.mark.skipif(
    NODE is None, reason="no node: the verifier in TypeScript was not run (install Node 20 or newer)"
)
SEED = 20261121


def call(*given: list[Any]) -> list[dict[str, Any]]:
    """What functions of the page's verifier say to these arguments."""
    lines = "".join(json.dumps(one) + "\n" for one in given)
    ran = subprocess.run([str(NODE), str(CLI), "--call"], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def raw(data: bytes) -> dict[str, str]:
    """Bytes as an argument."""
    return {"base64": base64.b64encode(data).decode()}


def test_both_verifiers_agree_on_every_bundle_among_the_vectors() -> None:
    """Good ones of each state, and each named way to be wrong."""
    assert list(differences(vectors(), Counter())) == []


def test_both_verifiers_agree_on_signed_envelopes() -> None:
    """S1: those of a real plane, and each that says something else, well signed all the same."""
    real = [(name, asking.written(asking.bundle(name)), asking.TRUST) for name in asking.NAMES]
    seen: Counter[tuple[object, ...]] = Counter()
    given = [*real, *((name, data, asking.TRUST) for name, _, data in asking.cases())]
    assert list(differences(given, seen)) == []
    assert seen[(0, "valid", None)] >= len(real)


def test_both_verifiers_agree_on_changed_files() -> None:
    """A few of what `make test-agreement` runs by the thousand; unchanged ones of each level are valid."""
    seen: Counter[tuple[object, ...]] = Counter()
    given = samples()
    assert list(differences(cases(given, 40, SEED), seen)) == []
    assert seen[(0, "valid", None)] >= len(given)


def test_both_verifiers_agree_on_cost_statements() -> None:
    """G7: a month of a real plane, and what is changed in it, parts of a job's evidence put in among that."""
    seen: Counter[tuple[object, ...]] = Counter()
    assert list(differences(cases(statements(), 30, SEED), seen)) == []
    assert seen[(0, "valid", None)] >= len(statements())
    assert len(seen) > 5


@st.composite
def bills(draw: st.DrawFn) -> dict[str, Any]:
    """A bill of some card, as it is signed; of three some one number of an item, a line or the card is another."""
    card = copy.deepcopy(make.GOOD) | {"rounding": draw(st.sampled_from(["half_even", "half_up"]))}
    card["units"], card["prices"][0]["lines"] = [{"unit": "OWN"}], draw(lines())
    if faults(json.dumps(card).encode()):  # a minimum above its cap
        for line in card["prices"][0]["lines"]:
            line.pop("cap", None)
    used = draw(work())
    record: Any = charge(parse_card(json.dumps(card).encode()), "example", used.facts, each=used.did).record()
    execution = json.loads(executed(used.facts, used.did))
    del record["rate_card"]
    places = [
        *record["lines"],
        *execution["facts"],
        *(one for item in execution["items"][:-1] for one in item["facts"]),
    ]
    member = draw(st.sampled_from([None, "quantity", "by", "size"]))
    if member == "quantity":
        draw(st.sampled_from(places))["quantity"] = draw(st.sampled_from(["0", "1", "2.5", "100000"]))
    elif member is not None:
        line = draw(st.sampled_from(card["prices"][0]["lines"]))
        changed = {"by": "task"} if member == "by" else {"increment": {"size": "3", "rounding": "up"}}
        line.update(changed)
    return {"cost": record, "provider": "example", "backend": "x", "card": card, "execution": execution}


def sound(bill: dict[str, Any]) -> bool:
    """As the first verifier judges it."""
    told = [CostLine(**line) for line in bill["cost"]["lines"]]
    card, execution = (json.dumps(bill[name]).encode() for name in ("card", "execution"))
    try:
        billed.recomputed(told, bill["cost"]["currency"], ("example", "x"), card, execution)
    except EvidenceInvalid:
        return False
    return True


@settings(max_examples=6, deadline=None)
@given(st.lists(bills(), min_size=4, max_size=12))
def test_both_verifiers_reckon_the_same_bills(drawn: list[dict[str, Any]]) -> None:
    """G6: of the job and of each task, in increments, between limits, by tiers; and find the same ones false."""
    answers = call(*(["checkWrittenBill", raw(json.dumps(bill).encode())] for bill in drawn))
    for bill, answer in zip(drawn, answers, strict=True):
        assert (answer == {"ok": True}) == sound(bill), (answer, bill)


# Byte and bit of the root's certificate in tests/vectors/bundles/trust.json, which nothing signs but itself.
ROOTS = {
    "an extension that no library reads, and that is no DER": (250, 2),
    "a tag that no authority's key identifier has": (305, 0),
    "a name in another case than its issuer's": (86, 5),
    "another algorithm than it was signed by": (332, 5),
    "an algorithm that was not signed": (45, 7),
    "an algorithm of no form": (330, 3),
}


def test_both_verifiers_refuse_a_trust_file_whose_root_isn_t_sound() -> None:
    """I4, G3: `qcos verify` passed over the first, the third and the fourth, the page over the others."""
    folder = VECTORS / "bundles"
    given = []
    for what, (at, bit) in ROOTS.items():
        trust = json.loads((folder / "trust.json").read_bytes())
        root = bytearray(base64.b64decode(trust["tsa"][0]["certificates"][1]))
        root[at] ^= 1 << bit
        trust["tsa"][0]["certificates"][1] = base64.b64encode(root).decode()
        given.append((what, (folder / "good" / "canceled.json").read_bytes(), canonical(trust)))
    seen: Counter[tuple[object, ...]] = Counter()
    assert list(differences(given, seen)) == []
    assert not [outcome for outcome in seen if outcome[0] == 0]


def test_the_second_verifier_takes_the_good_log_leaves_and_refuses_each_bad_one() -> None:
    """`hashedrekord` leaves (section 2); what only the signed bytes show is left to whoever has them."""
    paths = sorted((VECTORS / "ledger" / "hashedrekord").glob("*.json"))
    read = [json.loads(path.read_bytes()) for path in paths]
    answers = call(*(["readHashedRekord", {"base64": one["leaf"]}] for one in read))
    for path, one, answer in zip(paths, read, answers, strict=True):
        malformed = (one["error"] or "").startswith("parse:")
        assert ("error" in answer) == malformed, (path.name, one["error"], answer)


def test_the_second_verifier_takes_the_checkpoint_and_the_cosignature_of_the_vectors() -> None:
    """And refuses them with one character changed."""
    note = json.loads((VECTORS / "ledger" / "checkpoint.json").read_bytes())
    keys = {"ed25519": raw(spki(note, "ed25519")[-32:]), "mldsa65": raw(spki(note, "mldsa65")[-1952:])}
    line = json.loads((VECTORS / "cosigned" / "line.json").read_bytes())
    origin, size, root = line["checkpoint"].split("\n")[:3]
    seen = {"origin": origin, "size": int(size), "root": {"base64": root}}
    key = raw(base64.b64decode(line["vkey"].split("+", 2)[2])[1:])
    good = call(["checkNote", note["note"], keys], ["checkLine", line["line"], seen, key])
    bad = call(
        ["checkNote", note["note"].replace("\n7\n", "\n8\n"), keys],
        ["checkLine", line["line"], {**seen, "size": 12}, key],
    )
    assert good == [{"ok": True}, {"ok": True}]
    assert all("error" in answer for answer in bad)


def spki(note: dict[str, str], which: str) -> bytes:
    """A key of the vector."""
    return base64.b64decode(note[f"{which}_spki"])


def test_the_program_ends_as_qcos_verify_does(tmp_path: Path) -> None:
    """0 valid, 1 not, 2 not to be judged."""
    folder = VECTORS / "verifier"
    changed = tmp_path / "changed.json"
    changed.write_bytes((folder / "full.json").read_bytes().replace(b'"project":"demo"', b'"project":"deno"'))
    broken = tmp_path / "broken.json"
    broken.write_bytes(b'{"a":')
    command = [str(NODE), str(CLI)]
    codes = [
        subprocess.run(
            [*command, str(path), str(folder / "trust.json")], stdout=subprocess.DEVNULL, check=False
        ).returncode
        for path in (folder / "full.json", changed, broken)
    ]
    assert codes == [0, 1, 2]
