# SPDX-License-Identifier: Apache-2.0
"""`qcos`: the frame of the command line. The commands are in `control_plane.commands`, one module a group.

Start time is part of the contract (help under 0.3 s and 60 MB): only argparse is imported here, a group module imports
nothing heavy at its top, and a command's function imports what it needs when it runs. A command is a function
`(arguments) -> int | None`, set as the parser's default `run`. Exit codes: 0 done; 1 refused or failed; 2 usage or
unusable input; 3 plane unreachable or not ready; 4 not signed in. An error is one line that begins with its code, with
`--json` the problem document, both on standard error.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from control_plane import __version__

_UNREACHABLE = frozenset(
    {
        "plane_unreachable",
        "start_failed",
        "already_running",
        "port_in_use",
        "database_unusable",
        "schema_newer",
        "schema_unreleased",
        "migration_failed",
        "ledger_rollback",
        "log_foreign",
        "not_durable",
        "clock_stepped_back",
        "clock_skewed",
        "head_unwritable",
        "storage_full",
    }
)
_SIGNED_OUT = frozenset({"not_signed_in", "password_refused", "token_missing", "token_invalid", "token_expired"})
_USAGE = frozenset(
    {
        "usage",
        "unusable_input",
        "setting_invalid",
        "spec_invalid",
        "malformed_json",
        "request_invalid",
        "body_too_large",
        "amount_invalid",
        "budget_invalid",
        "period_invalid",
        "allocation_invalid",
        "fact_invalid",
        "focus_invalid",
        "invoice_invalid",
        "rate_card_invalid",
    }
)


class Help(argparse.HelpFormatter):
    """Names of commands count with their indent, so that what each does stands beside it."""

    def add_argument(self, action: argparse.Action) -> None:
        """As argparse does, which forgets the indent."""
        super().add_argument(action)
        names = [name for name in action.choices or () if action.nargs == argparse.PARSER]
        self._action_max_length = max([self._action_max_length, *(len(name) + 4 for name in names)])


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # noqa: SLF001 - generic in its stub alone
    """Commands whose own help begins with what the list of them says."""

    def add_parser(self, name: str, **kwargs: Any) -> Any:
        """As argparse does."""
        if told := kwargs.get("help"):
            kwargs.setdefault("description", f"{told[0].upper()}{told[1:]}.")
        return super().add_parser(name, **kwargs)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line with a code, and which guesses what was meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", Help)
        super().__init__(*args, **kwargs)
        self.register("action", "parsers", Commands)

    def error(self, message: str) -> NoReturn:
        """Refuse with exit code 2."""
        from control_plane.errors import Refused

        raise Refused("usage", f"{message}{self._guess()}; {self.prog} --help")

    def _guess(self) -> str:
        known = [name for action in self._actions for name in (*action.option_strings, *(action.choices or ()))]
        for word in sys.argv[1:]:
            if word not in known and (near := difflib.get_close_matches(word, [str(k) for k in known], 1, 0.6)):
                return f"; did you mean {near[0]}?"
        return ""


def build() -> Parser:
    """The whole parser, from the command modules that are there."""
    parser = Parser(prog="qcos", description="Governed, metered and proven quantum execution.")
    parser.add_argument("--version", action="version", version=f"qcos {__version__}")
    groups = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=Parser
    )
    for path in sorted((Path(__file__).parent / "commands").glob("[a-z]*.py")):
        importlib.import_module(f"control_plane.commands.{path.stem}").register(groups)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the console script's entry. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        parsed = build().parse_args(given)
        code = parsed.run(parsed) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left (a pager, head): no traceback at the interpreter's own flush either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("sqlalchemy") is not None:  # a whole install: then it is a fault of ours
            return complain(error, as_json=as_json)
        from control_plane.errors import Refused

        lacking = f"this install has no {error.name}: it verifies evidence; a plane needs the extras [server,aer]"
        return complain(Refused("usage", lacking), as_json=as_json)
    except Exception as error:  # the last resort of the command line: every failure becomes a line and a code
        if os.environ.get("QCOS_TRACEBACK"):
            raise
        return complain(error, as_json=as_json)
    return int(code)


def complain(error: Exception, *, as_json: bool) -> int:
    """Show an error as the contracts say and return its exit code."""
    import json

    from control_plane.errors import code_of, problem

    document = getattr(error, "document", None) or problem(error)[1]
    code = document["code"]
    if code_of(error) == "internal" and "document" not in vars(error):
        document["detail"] = f"{type(error).__name__}; QCOS_TRACEBACK=1 shows where"
    if as_json:
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"{code}: {' '.join(_said(document).split())}\n")
    return 3 if code in _UNREACHABLE else 4 if code in _SIGNED_OUT else 2 if code in _USAGE else 1


def _said(document: Mapping[str, Any]) -> str:
    """The detail; of one field at fault, whose text alone doesn't say which, with its name."""
    detail = str(document["detail"])
    match document.get("errors"):
        case [{"field": str(field), "message": message}] if field and message == detail and field not in detail:
            return f"{field}: {detail}"
        case _:
            return detail


def run() -> NoReturn:
    """`main` as a process; a sign that the locale's encoding lacks is replaced, and stops no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(main())


if __name__ == "__main__":
    run()
