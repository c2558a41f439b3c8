# SPDX-License-Identifier: Apache-2.0
"""`qcos backup`, `restore`, `migrate`: a plane kept, brought back, and its schema changed."""

from __future__ import annotations

import argparse
from typing import Any


def register(groups: Any) -> None:
    """Add the commands."""
    backup = groups.add_parser("backup", help="write everything that the plane is into one file; it may run meanwhile")
    backup.add_argument("-o", "--output", metavar="FILE|FOLDER", required=True, help="a new file, or a folder for one")
    backup.add_argument("--without-keys", action="store_true", help="leave out keys and settings' file, kept elsewhere")
    backup.add_argument("--json", action="store_true", help="one document")
    backup.set_defaults(run=_backup)
    restore = groups.add_parser("restore", help="judge a backup and put it in place of what is in this home")
    restore.add_argument("file", metavar="FILE", help="what qcos backup wrote")
    restore.add_argument("--new-log", metavar="REASON", help="sealed entries are lost: go on under another origin")
    restore.add_argument(
        "--checkpoint", metavar="NOTE", action="append", default=[], help="a checkpoint kept elsewhere; may be repeated"
    )
    restore.add_argument("--check", action="store_true", help="judge it and change nothing")
    restore.add_argument("--json", action="store_true", help="one document")
    restore.set_defaults(run=_restore)
    migrate = groups.add_parser("migrate", help="bring the schema of a stopped plane to a revision")
    migrate.add_argument("--to", metavar="REVISION", default="head", help="by default the newest, as qcos up does")
    migrate.add_argument("--json", action="store_true", help="one document")
    migrate.set_defaults(run=_migrate)


def _backup(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime
    from pathlib import Path

    from control_plane import tables
    from control_plane.backup.take import backup
    from control_plane.settings import located

    done = backup(located(), Path(arguments.output), with_keys=not arguments.without_keys, now=datetime.now(UTC))
    if arguments.json:
        tables.document(done)
        return 0
    log = done["log"] or {"origin": "none", "size": 0}
    tables.facts(
        [
            ("file", done["file"]),
            ("sha256", done["sha256"]),
            ("log", f"{log['origin']}, {log['size']} entries sealed, {done['waiting']} waiting"),
            ("schema", done["schema_version"]),
            ("keys", "in it: whoever reads the file can sign as this plane" if done["keys"] else "not in it"),
        ]
    )
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime
    from pathlib import Path

    import msgspec

    from control_plane import tables
    from control_plane.backup.restore import Wanted, restore
    from control_plane.errors import Refused
    from control_plane.settings import located

    try:
        notes = tuple(Path(path).read_bytes() for path in arguments.checkpoint)
    except OSError as error:
        raise Refused("unusable_input", f"--checkpoint: {error.filename}: {error.strerror}") from error
    wanted = Wanted(file=Path(arguments.file), new_log=arguments.new_log, checkpoints=notes, check=arguments.check)
    done = restore(located(), wanted, datetime.now(UTC))
    if arguments.json:
        tables.document(msgspec.to_builtins(done))
        return 0
    log = f"{done.log.origin}, {done.log.size} entries" if done.log else "empty"
    lines = [("backup", done.created_at), ("log", log), ("verified", f"{done.entries} entries, {done.jobs} jobs")]
    if done.previous is not None:
        lines.append(("lost", f"entries {done.entries} to {done.previous.size - 1} of {done.previous.origin}"))
    if done.held:
        lines.append(("held", f"{len(done.held)} jobs that may have run since: qcos jobs resume, or cancel"))
    if not done.compared:
        lines.append(("note", "no head outside the backup was there to compare with; see --checkpoint"))
    was = f"yes; what was there before is in {done.replaced}" if done.replaced else "yes"
    lines.append(("restored", was if done.restored else "no, checked"))
    tables.facts(lines)
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    from control_plane import tables, upkeep
    from control_plane.settings import located

    done = upkeep.migrated(located(), arguments.to)
    if arguments.json:
        tables.document({"before": done.before, "after": done.after})
    else:
        tables.facts([("before", done.before or "empty"), ("after", done.after or "empty")])
    return 0
