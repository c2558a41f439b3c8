# SPDX-License-Identifier: Apache-2.0
"""`qcos policy explain`: why a recorded decision came out as it did, said a year later.

One sentence, the checks, how the deciding rule came to its answer, and whether its own revision still gives the same
answer. From the plane by the id of a decision or a job, or offline from a job's evidence file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control_plane.commands._plane import plane

if TYPE_CHECKING:
    from control_plane.policy.explain import Told
    from control_plane.policy.revision import PolicySet


def register(actions: Any) -> None:
    """Add the command."""
    explain = actions.add_parser("explain", help="why a decision came out so, decided again by its own revision")
    explain.add_argument("decision", metavar="DECISION|JOB|FILE", help="an id of either, or a job's evidence file")
    explain.add_argument("--policies", metavar="FOLDER", type=Path, help="the revision's files, if no plane has them")
    explain.add_argument("--trace", choices=("rule", "full", "none"), default="rule", help="of the deciding rule; rule")
    explain.add_argument("--json", action="store_true", help="one document")
    explain.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> None:
    import asyncio

    from control_plane import tables
    from control_plane.errors import Refused
    from control_plane.policy import explain
    from control_plane.policy.decision import PolicyUnavailable

    told = _of_file(Path(arguments.decision)) if Path(arguments.decision).is_file() else _of_plane(arguments.decision)
    lines: list[str] = []
    replay: dict[str, Any] | None = None
    fault = None
    try:
        told, lines, replay = asyncio.run(_again(arguments, told))
    except (Refused, PolicyUnavailable) as error:
        fault = error.detail
    said = explain.sentence(told)
    reason = explain.deciding(told)
    if arguments.json:
        document = {
            "decision_id": told.decision_id,
            "job_id": told.job_id,
            "at": told.at,
            "allow": told.allow,
            "sentence": said,
            "rule": f"qcos/{reason['rule']}" if reason else None,
            "checks": told.checks,
            "reasons": told.reasons,
            "policy_revision": told.policy_revision,
            "engine": told.engine,
            "replay": replay,
            "not_replayed": fault,
            "trace": lines,
        }
        tables.document(document)
    else:
        _show(told, said, lines, replay)
    if fault is not None:
        raise Refused("not_replayable", fault)
    if replay is not None and not replay["same"]:
        raise Refused("replay_differs", f"{told.decision_id}: {replay['differences'][0]}")


async def _again(arguments: argparse.Namespace, told: Told) -> tuple[Told, list[str], dict[str, Any]]:
    """The record with what it lacked, the trace, and what the replay says of it."""
    import msgspec

    from control_plane.errors import Refused
    from control_plane.policy import explain
    from control_plane.policy.choice import find_opa
    from control_plane.policy.decision import PolicyUnavailable
    from control_plane.settings import located

    if told.input is None:
        raise Refused("not_replayable", f"{told.decision_id}: the document that was judged is gone: erased")
    policies = _policies(arguments, told.policy_revision)
    opa = find_opa(located().opa_bin)
    decision = await explain.again(told, policies, opa)
    found = explain.differences(told, decision)
    if told.checks is None:
        shown: dict[str, Any] = decision.document()
        told = msgspec.structs.replace(told, checks=tuple(shown["checks"]), reasons=tuple(shown["reasons"]))
    engine = "opa" if opa else "embedded"
    replay = {"same": not found, "revision": policies.revision, "engine": engine, "differences": found}
    reason = explain.deciding(told)
    if opa is None or arguments.trace == "none" or (reason is None and arguments.trace == "rule"):
        return told, [], replay
    rule = str(reason["rule"]) if reason and arguments.trace == "rule" else None
    try:
        lines = await explain.trace(policies, told.input or {}, rule, opa)
    except PolicyUnavailable as error:
        lines = [error.detail]
    if arguments.trace == "rule" and len(lines) > explain.MOST_LINES:
        left = len(lines) - explain.MOST_LINES
        lines = [*lines[: explain.MOST_LINES], f"… {left} more steps: --trace full"]
    return told, lines, replay


def _of_plane(name: str) -> Told:
    from urllib.parse import quote

    from control_plane.policy.explain import Told

    found = plane().ask("GET", f"/api/v1/policy/decisions/{quote(name, safe='')}")
    return Told(
        decision_id=found["decision_id"],
        job_id=found["job_id"],
        at=found["at"],
        allow=found["allow"],
        policy_revision=found["policy_revision"],
        engine=found["engine"],
        input=found["input"],
        checks=tuple(found["checks"]),
        reasons=tuple(found["reasons"]),
    )


def _of_file(path: Path) -> Told:
    """The decision of a job's evidence; what it says is believed here, `qcos verify` judges it."""
    import msgspec

    from control_plane.errors import Refused
    from control_plane.policy.explain import Told
    from ledger.bundle import parse_bundle
    from ledger.errors import LedgerError

    try:
        bundle = parse_bundle(path.read_bytes())
        record = bundle.governance_record
        carried = bundle.contents.get("decision_input")
        document = None if carried is None else msgspec.json.decode(carried, type=dict[str, Any])
    except OSError as error:
        raise Refused("unusable_input", f"{path}: {error.strerror}") from None
    except (LedgerError, ValueError) as error:
        raise Refused("unusable_input", f"{path}: no evidence of a job: {error}") from None
    if document is None:
        raise Refused("not_replayable", f"{path}: carries the judged document by its hash only")
    return Told(
        decision_id=record.decision_id,
        job_id=bundle.job_id,
        at=None,
        allow="deny" not in record.policy_decisions,
        policy_revision=record.policy_revision,
        engine=record.policy_engine,
        input=document,
    )


def _policies(arguments: argparse.Namespace, wanted: str) -> PolicySet:
    """The set of a revision: a folder's, the shipped one, or the plane's copy."""
    from urllib.parse import quote

    from control_plane.client import Answered
    from control_plane.errors import NotSignedIn, Refused, Unreachable
    from control_plane.policy import folder, revision

    if arguments.policies is not None:
        read = folder.read(arguments.policies)
        if read.faults:
            raise Refused("not_replayable", str(read.faults[0]))
        found = revision.PolicySet.of(read.files)
        if found.revision != wanted:
            raise Refused("not_replayable", f"{arguments.policies} is revision {found.revision}, wanted is {wanted}")
        return found
    shipped = revision.load()
    if shipped.revision == wanted:
        return shipped
    try:
        told = plane().ask("GET", f"/api/v1/policy/revisions/{quote(wanted, safe=':')}")
    except (Answered, NotSignedIn, Unreachable) as error:
        why = f"revision {wanted} is gone here ({error.detail}); --policies FOLDER names a copy of it"
        raise Refused("not_replayable", why) from None
    return revision.PolicySet.of({path: text.encode() for path, text in told["files"].items()})


def _show(told: Told, said: str, lines: list[str], replay: dict[str, Any] | None) -> None:
    import sys

    from control_plane import tables

    sys.stdout.write(said + "\n\n")
    rows = [(one["name"], one["result"], one["because"], f"qcos/{one['rule']}") for one in told.checks or ()]
    tables.table(("check", "result", "because", "rule"), rows)
    others = [(one["code"], one["level"], one["message"], one.get("fix")) for one in told.reasons or ()]
    if len(others) > 1:
        sys.stdout.write("\n")
        tables.table(("reason", "level", "message", "would pass"), others)
    if lines:
        sys.stdout.write("\n" + "".join(f"{line}\n" for line in lines))
    if replay is not None:
        same = "the same answer" if replay["same"] else "ANOTHER ANSWER"
        sys.stdout.write("\n")
        tables.facts([("replayed", f"{same} by {replay['revision']} on {replay['engine']}")])
        tables.facts([("recorded", f"by {told.policy_revision} on {told.engine}")])
        for line in replay["differences"]:
            tables.facts([("difference", line)])
