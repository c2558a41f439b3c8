# SPDX-License-Identifier: Apache-2.0
"""`qcos policy impact`: what a candidate would have done to the decisions of the last days, in jobs and in money."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from control_plane.policy.impact import Impact
    from control_plane.policy.recorded import Recorded
    from control_plane.policy.revision import PolicySet

_PAGE = 1000


def register(actions: Any) -> None:
    """Add the command."""
    impact = actions.add_parser("impact", help="what a candidate would have done to recorded decisions")
    impact.add_argument("folder", metavar="FOLDER", type=Path, help="the candidate")
    impact.add_argument("--since", metavar="WHEN", default="30d", help="30d, 12h, 2026-11-01 or a UTC time (30d)")
    impact.add_argument("--until", metavar="WHEN", help="the same; now where it isn't given")
    impact.add_argument("--format", choices=("text", "markdown", "html", "json"), help="by the name of -o, else text")
    impact.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the report there")
    impact.add_argument("--fail-on-allow", action="store_true", help="exit 1 on a DENY → ALLOW not acknowledged")
    impact.add_argument(
        "--acknowledge",
        metavar="PROJECT:CODE",
        action="append",
        default=[],
        help="one that is meant, as the report names it; either part may be *; @FILE has one a line",
    )
    impact.add_argument("--json", action="store_true", help="one document, as --format json")
    impact.set_defaults(run=_impact)


def _impact(arguments: argparse.Namespace) -> int:
    import asyncio
    import sys

    from control_plane.policy import impact as impacts

    words = [word for given in arguments.acknowledge for word in _words(given)]
    report = asyncio.run(_reckoned(arguments))
    text = _shown(report, arguments)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    if not arguments.fail_on_allow:
        return 0
    left = impacts.unacknowledged(report.let_in, words)
    for group in left:
        sys.stderr.write(f"impact_unacknowledged: {group.key}: {group.count:,} would be let in\n")
    if report.unclear.unsound:
        sys.stderr.write(f"impact_unacknowledged: no sound answer to {report.unclear.unsound:,} decisions\n")
    return 1 if left or report.unclear.unsound else 0


async def _reckoned(arguments: argparse.Namespace) -> Impact:
    """Judge the candidate, read what was recorded, replay it."""
    import datetime as dt
    import time

    from control_plane.client import Client
    from control_plane.policy import replay
    from control_plane.policy.choice import find_opa
    from control_plane.policy.impact import Tally
    from control_plane.settings import located

    begun, now = time.monotonic(), dt.datetime.now(dt.UTC)
    since = _moment(arguments.since, now)
    until = now if arguments.until is None else _moment(arguments.until, now)
    settings = located()
    opa = find_opa(settings.opa_bin)
    client = Client(settings.home)
    candidate = await _candidate(arguments.folder, opa)
    tally, revisions = Tally(), _Revisions(client)
    await replay.replay(tally, _pages(client, since, until), candidate, opa, revisions.find)
    return tally.told(
        candidate=candidate.revision,
        in_force=await revisions.in_force(),
        since=_text(since),
        until=_text(until),
        seconds=time.monotonic() - begun,
    )


async def _candidate(folder: Path, opa: Path | None) -> PolicySet:
    from control_plane.errors import Refused
    from control_plane.policy import folder as folders
    from control_plane.policy import trial

    read = folders.read(folder)
    judged = await trial.judge(read.files, opa)
    faults = read.faults + judged.faults
    if faults or judged.policies is None:
        raise Refused("policy_refused", f"{faults[0]}; qcos policy check {folder} has all")
    return judged.policies


async def _pages(client: Any, since: dt.datetime, until: dt.datetime) -> AsyncIterator[list[Recorded]]:
    import asyncio

    import msgspec

    from control_plane.errors import Refused
    from control_plane.policy.recorded import page

    pages = client.pages(f"/api/v1/policy/decisions?limit={_PAGE}&since={_text(since)}&until={_text(until)}")
    while True:
        data = await asyncio.to_thread(next, pages, None)
        if data is None:
            return
        try:
            yield page.decode(data)
        except msgspec.MsgspecError as fault:
            raise Refused("unusable_input", f"the plane's decisions have another form: {fault}") from fault


class _Revisions:
    """The revisions that decided, by the plane that keeps them; the shipped set is here anyway."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def in_force(self) -> str | None:
        """The revision in force; None where the caller may not know."""
        found: str | None = await self._asked("/api/v1/policy", "revision")
        return found

    async def find(self, revision: str) -> PolicySet | None:
        """The set of a revision; None where it isn't kept, or isn't shown to this caller."""
        from control_plane.policy.decision import PolicyUnavailable
        from control_plane.policy.revision import PolicySet, load

        shipped = load()
        if shipped.revision == revision:
            return shipped
        files = await self._asked(f"/api/v1/policy/revisions/{revision}", "files")
        try:
            found = PolicySet.of({path: text.encode() for path, text in files.items()}) if files else None
        except PolicyUnavailable:
            return None  # of a dialect that this version doesn't read any more
        return found if found is not None and found.revision == revision else None

    async def _asked(self, path: str, member: str) -> Any:
        import asyncio

        from control_plane.client import Answered

        try:
            return (await asyncio.to_thread(self._client.ask, "GET", path))[member]
        except Answered as answered:
            if answered.code in {"forbidden", "not_found", "policy_unavailable"}:
                return None
            raise


def _moment(text: str, now: dt.datetime) -> dt.datetime:
    """A time, a day, or so long before now."""
    import datetime as dt

    from control_plane.errors import Refused

    units = {"h": 1, "d": 24, "w": 24 * 7}
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return now - dt.timedelta(hours=int(text[:-1]) * units[text[-1]])
        told = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError) as fault:
        raise Refused("usage", f"{text}: neither like 30d nor a time") from fault
    return told if told.tzinfo is not None else told.replace(tzinfo=dt.UTC)


def _text(at: dt.datetime) -> str:
    import datetime as dt

    return f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _words(given: str) -> list[str]:
    """What one --acknowledge acknowledges."""
    from control_plane.errors import Refused

    if not given.startswith("@"):
        found = [given]
    else:
        try:
            found = [line.partition("#")[0].strip() for line in Path(given[1:]).read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as fault:
            raise Refused("unusable_input", f"{given[1:]}: can't be read") from fault
    if any(word and ":" not in word for word in found):
        raise Refused("usage", f"{given}: acknowledge PROJECT:CODE, as the report names it")
    return [word for word in found if word]


def _shown(report: Impact, arguments: argparse.Namespace) -> str:
    import json

    import msgspec

    from control_plane.policy import impact_html, impact_markdown, impact_text

    name = arguments.folder.resolve().name
    match "json" if arguments.json else arguments.format or _named(arguments.output):
        case "json":
            return json.dumps(msgspec.to_builtins(report), ensure_ascii=False) + "\n"
        case "html":
            return impact_html.html(report, name)
        case "markdown":
            return impact_markdown.markdown(report, name)
        case _:
            return "".join(f"{line}\n" for line in impact_text.lines(report, name))


def _named(output: Path | None) -> str:
    endings = {".html": "html", ".md": "markdown", ".json": "json"}
    return "text" if output is None else endings.get(output.suffix, "text")
