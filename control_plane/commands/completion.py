# SPDX-License-Identifier: Apache-2.0
"""`qcos completion bash`: a script that completes commands and options, made from the parser itself."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_SCRIPT = """\
_qcos() {{
  local path="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do [[ $word == -* ]] || path="$path $word"; done
  case "$path" in
{cases}
  *) COMPREPLY=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")) ;;
  esac
}}
complete -o default -F _qcos qcos
"""


def register(groups: Any) -> None:
    """Add `completion`."""
    parser = groups.add_parser("completion", help="print a script for the shell's completion")
    parser.add_argument("shell", choices=["bash"])
    parser.set_defaults(run=_completion)


def _completion(_: argparse.Namespace) -> None:
    from control_plane.cli import build

    cases = [
        f'  "{path}") COMPREPLY=($(compgen -W "{" ".join(words)}" -- "${{COMP_WORDS[COMP_CWORD]}}")) ;;'
        for path, words in _words(build(), "")
    ]
    sys.stdout.write(_SCRIPT.format(cases="\n".join(cases)))


def _words(parser: argparse.ArgumentParser, path: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    words: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to list its options
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            words += list(action.choices)
            for name, child in action.choices.items():
                found += _words(child, f"{path} {name}")
    return [(path, words), *found]
