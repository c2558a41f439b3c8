# SPDX-License-Identifier: Apache-2.0
"""A real OPA with the plane's configuration: it takes what the sealer signed and nothing else, keeps the last good
bundle through faults and restarts, and its log names nobody (G2, I5, I10).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.policy import bundle, push, sidecar
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.opa import OpaEngine
from control_plane.policy.pdp import Pdp
from ledger import policies as rules
from ledger.canonical import dumps
from ledger.policies import MANIFEST
from ledger.signer import Held as Key
from tests.control_plane.policy.opa_server import needs_opa
from tests.control_plane.policy.sample import ALLOWED, DENIED, document, encoded
from tests.control_plane.policy.sidecar_plane import KEY, LIMIT_S, POLICIES, changed, plane, quoted, signature, signed

pytestmark = needs_opa
NOW = datetime(2026, 11, 21, tzinfo=UTC)
NEXT = changed("qcos/access/note.rego", "package qcos.access\n\n# METADATA\n# description: x\nnoted := 1\n")
LOOPING = changed(
    "qcos/main/decision.rego",
    "package qcos.main\n\ndecision := {} if count([1 | some i in numbers.range(1, 99999999); i < 0]) == 1\n",
)
PAGE = Path(__file__).parents[3] / "docs" / "policy-faults.md"
CYCLIC = changed("qcos/access/note.rego", "package qcos.access\n\none := two if two := one\n")
BROKEN = changed("qcos/access/note.rego", "package qcos.access\n\none := \n")
LARGE = changed("qcos/access/note.rego", f"package qcos.access\n\n# {'x' * sidecar.LARGEST_FILE}\n")


def _manifest(**members: object) -> dict[str, bytes]:
    said = {"revision": POLICIES.revision, "rego_version": 1, "roots": [""]} | members
    return {**bundle.contents(POLICIES), MANIFEST: dumps(said)}


def _other_roots() -> bytes:
    """Signed all the same, which the sealer never does."""
    own = rules.manifest(POLICIES.revision)
    other = _manifest(roots=["other"])[MANIFEST]
    said = rules.payload(push.body(POLICIES, 1, None), "entry", "qcos/dev")
    changed = said.replace(hashlib.sha256(own).hexdigest().encode(), hashlib.sha256(other).hexdigest().encode())
    message = rules.to_sign(changed)
    told = json.dumps({"signatures": [rules.jwt(message, Key(KEY).sign(message))]}).encode()
    return bundle.packed({".signatures.json": told, **_manifest(roots=["other"])})


def _tampered(path: str, more: bytes) -> bytes:
    held = bundle.contents(POLICIES)
    return quoted(POLICIES, {**held, path: held[path] + more})


BAD = {
    "unsigned": (bundle.packed(bundle.contents(NEXT)), "policy_bundle_signature"),
    "another key": (signed(NEXT, ec.generate_private_key(ec.SECP256R1())), "policy_bundle_signature"),
    "another revision's signature": (bundle.pack(NEXT, signature(POLICIES)), "policy_bundle_signature"),
    "a changed rule": (_tampered("qcos/budget/budgets.rego", b"\n# x\n"), "policy_bundle_signature"),
    "a changed mask": (_tampered("system/log/mask.rego", b"\n# x\n"), "policy_bundle_signature"),
    "a stated revision": (quoted(POLICIES, _manifest(revision="sha256:x")), "policy_bundle_signature"),
    "cyclic": (signed(CYCLIC), "policy_bundle_rego"),
    "no Rego": (signed(BROKEN), "policy_bundle_rego"),
    "oversized": (signed(LARGE), "policy_bundle_too_large"),
    "other roots": (_other_roots(), "policy_bundle_roots"),
    "garbage": (b"garbage", "policy_bundle_unreadable"),
}


async def test_a_bad_bundle_leaves_the_last_good_one_in_force_and_raises_its_alarm() -> None:
    """I5: each refused by its own code, decisions go on meanwhile, and the next good one is taken."""
    async with plane(signed(POLICIES)) as served:
        await served.deciding_by(POLICIES)
        pdp = Pdp(served.engine, Held(POLICIES))
        rows = []
        for name, (archive, alarm) in BAD.items():
            served.serve(archive)
            found = await served.until(POLICIES.revision, alarm)
            assert found.detail, name
            if name in {"cyclic", "no Rego"}:
                assert re.match(r"qcos/access/note\.rego:[34]: ", found.detail), found.detail
            assert (await pdp.decide(document(), name, NOW)).allow
            served.serve(signed(POLICIES))
            await served.deciding_by(POLICIES)
            rows.append(f"| {name} | `{alarm}` | go on by the last good one | is taken at once |")
        await pdp.close()
    page = PAGE.read_text("utf-8").partition("<!-- bundle-faults -->\n")[2].partition("<!-- /bundle-faults -->")[0]
    assert page.splitlines()[2:] == rows, "\n".join(rows)


async def test_the_last_good_one_decides_until_it_is_too_old() -> None:
    """I5: another was pushed, and OPA can't take it; after `policy_max_age_s` nothing is decided by the old one."""
    now = [0.0]
    held = Held(POLICIES, max_age_s=60.0, clock=lambda: now[0])
    async with plane(signed(POLICIES)) as served:
        await served.deciding_by(POLICIES)
        served.serve(BAD["unsigned"][0])
        held.take(NEXT)
        await served.until(POLICIES.revision, "policy_bundle_signature")
        pdp = Pdp(served.engine, held)
        assert (await pdp.decide(document(), "d", NOW)).policy_revision == POLICIES.revision
        now[0] = 61.0
        with pytest.raises(PolicyUnavailable, match="other policies"):
            await pdp.decide(document(), "d", NOW)
        served.serve(signed(NEXT))
        await served.deciding_by(NEXT)
        assert (await pdp.decide(document(), "d", NOW)).policy_revision == NEXT.revision


async def test_an_opa_that_was_down_in_a_push_takes_it_up_when_it_is_back() -> None:
    """It begins with the last good one, which may still decide, and has the new one as soon as it asks."""
    held = Held(POLICIES)
    async with plane(signed(POLICIES)) as served:
        await served.deciding_by(POLICIES)
        served.end()
        held.take(NEXT)
        served.serve(signed(NEXT))
        pdp = Pdp(served.engine, held)
        with pytest.raises(PolicyUnavailable):
            await pdp.decide(document(), "d", NOW)
        served.start()
        await served.deciding_by(NEXT)
        assert (await pdp.decide(document(), "d", NOW)).policy_revision == NEXT.revision


async def test_rules_that_never_end_decide_nothing_and_hold_nobody_longer_than_the_limit() -> None:
    """I5: such a set is refused as it is pushed; this is what stands behind that."""
    async with plane(signed(LOOPING)) as served:
        await served.deciding_by(LOOPING)
        engine = OpaEngine(f"unix://{served.folder}/s", limit_s=0.2)
        with pytest.raises(PolicyUnavailable, match="longer than"):
            await Pdp(engine, Held(LOOPING)).decide(document(), "d", NOW)
        await engine.close()
        served.serve(signed(NEXT))
        await served.deciding_by(NEXT)
        assert (await Pdp(served.engine, Held(NEXT)).decide(document(), "d", NOW)).allow


async def test_a_new_revision_is_taken_at_once_by_a_poll_that_waited() -> None:
    """No poll but the one that waits: OPA doesn't ask again and again."""
    async with plane(signed(POLICIES)) as served:
        await served.deciding_by(POLICIES)
        polls = served.polls
        served.serve(signed(NEXT))
        await served.deciding_by(NEXT)
        assert served.polls <= polls + 2
        assert (await Pdp(served.engine, Held(NEXT)).decide(document(), "d", NOW)).policy_revision == NEXT.revision


async def test_opa_starts_with_the_last_good_bundle_and_verifies_it_again() -> None:
    """The plane's API isn't there yet; and what was changed on the disk meanwhile decides nothing."""
    async with plane(signed(POLICIES)) as served:
        await served.deciding_by(POLICIES)
        served.end()
        api, served.api = served.api, "http://127.0.0.1:9"
        served.start()
        found = await served.until(POLICIES.revision, "policy_bundle_unreachable")
        assert found.revision == POLICIES.revision
        await served.engine.ready(POLICIES)
        served.end()
        kept = sidecar.kept_bundle(served.folder / "kept")
        kept.write_bytes(bundle.packed(bundle.contents(NEXT)))
        served.start()
        await served.until(None, "policy_bundle_unreachable")
        with pytest.raises(PolicyUnavailable):
            await served.engine.evaluate(POLICIES, encoded(document()))
        served.end()
        served.api = api
        served.start()
        await served.deciding_by(POLICIES)


async def test_the_log_carries_which_rules_spoke_and_nobody() -> None:
    """I10: no name, subject, purpose or justification, whether allowed, denied or failed on."""
    failing = changed("qcos/access/roles.rego", POLICIES.modules["qcos/access/roles.rego"] + LEAKING)
    async with plane(signed(failing)) as served:
        await served.deciding_by(failing)
        documents = [*ALLOWED.values(), *DENIED.values()]
        for told in documents:
            await served.engine.evaluate(failing, encoded(told))
        with pytest.raises(PolicyUnavailable, match="500"):
            await served.engine.value(failing, "qcos/access/leaking", encoded(document()))
        await served.engine.ready(failing)
        until = time.monotonic() + LIMIT_S
        while len(served.log) < len(documents):
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        logged = json.dumps(served.log)
        assert len(served.log) == len(documents)  # neither the error nor what was read back
        assert {code for event in served.log for code in event["result"]} == {"checks", "reasons"}
        for text in _texts(document()):
            assert text not in logged, text


LEAKING = "\nleaking := to_number(input.principal.name)\n"


def _texts(told: object) -> set[str]:
    doc = json.loads(encoded(told))
    person = doc["principal"]
    found = {person["subject"], person["name"], person["domain"], person["team"], person["department"]}
    found |= {doc["job"][name] for name in ("purpose", "justification", "cost_center")}
    return {text for text in found if text and len(text) > 3}


async def test_a_token_that_the_plane_refuses_is_an_alarm() -> None:
    async with plane(signed(POLICIES), start=False) as served:
        served.token, told = "another", served.token
        served.start()
        served.token = told
        found = await served.until(None, "policy_bundle_unreachable")
        assert "401" in found.detail
        assert served.refused


def test_the_configuration_holds_no_secret_and_asks_for_a_signature() -> None:
    told = sidecar.Sidecar(
        api="http://h:1/", token=Path("/t"), kept=Path("/k"), key="-----PEM", key_id="policy", log_per_s=0.0
    )
    found = json.loads(sidecar.configuration(told))
    assert found["bundles"]["qcos"]["signing"] == {"keyid": "policy"}
    assert found["services"]["qcos"]["url"] == "http://h:1/api/v1"
    assert "decision_logs" not in found


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("http://0.0.0.0:8470", "http://127.0.0.1:8470"),
        ("http://[::]:8470", "http://[::1]:8470"),
        ("http://10.0.0.7:80", "http://10.0.0.7:80"),
    ],
)
def test_opa_asks_the_plane_where_it_listens(listens: str, asked: str) -> None:
    assert sidecar.reached(listens) == asked
