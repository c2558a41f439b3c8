# SPDX-License-Identifier: Apache-2.0
"""The `[[anchor]]` tables: which places outside keep heads of the log, read strictly, and made of what they say.

Nothing is reached here: a store that is away, or a bucket without object lock, shows in `status` once it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from control_plane.errors import SettingInvalid
from control_plane.settings import AnchorFacts

if TYPE_CHECKING:
    from ledger.anchors.base import Anchor

KINDS = {  # kind: what it needs, what it may have
    "worm": (("path",), ("immutable",)),
    "s3": (("bucket",), ("prefix", "retention_days", "endpoint_url", "region")),
    "rfc3161": (("path", "url", "certificates"), ()),
}
MIN_EVERY_S = 1.0


def check(tables: tuple[AnchorFacts, ...]) -> None:
    """SettingInvalid, naming the table and the field."""
    names: set[str] = set()
    plain = AnchorFacts(name="", kind="")
    for number, facts in enumerate(tables):
        where = f"anchor[{number}]"
        if facts.kind not in KINDS:
            raise SettingInvalid(f"{where}.kind", facts.kind, "one of " + ", ".join(KINDS))
        if not facts.name or facts.name in names or not facts.name.isprintable() or len(facts.name) > 100:
            raise SettingInvalid(f"{where}.name", facts.name, "a name of its own, of up to 100 characters")
        names.add(facts.name)
        needs, may = KINDS[facts.kind]
        for field in AnchorFacts.__struct_fields__[3:]:
            value = getattr(facts, field)
            if field in needs and not value:
                raise SettingInvalid(f"{where}.{field}", value, f"what an anchor of kind {facts.kind} needs")
            if field not in (*needs, *may) and value != getattr(plain, field):
                raise SettingInvalid(f"{where}.{field}", value, f"nothing for an anchor of kind {facts.kind}")
        if facts.every_s < MIN_EVERY_S or facts.retention_days < 1:
            raise SettingInvalid(
                where, facts.name, f"every_s of at least {MIN_EVERY_S:g}, retention_days of at least 1"
            )
        if facts.certificates:
            from control_plane.authorities import read_chain

            read_chain(Path(facts.certificates))


def build(facts: AnchorFacts, home: Path) -> Anchor:
    """The anchor of a table; a relative path is below the home."""
    from ledger.anchors.locked_bucket import LockedBucket
    from ledger.anchors.stamped import StampedFolder
    from ledger.anchors.worm import WormFolder

    folder = home / Path(facts.path or ".").expanduser()
    if facts.kind == "worm":
        return WormFolder(folder, immutable=facts.immutable)
    if facts.kind == "rfc3161":
        from control_plane.authorities import read_chain

        return StampedFolder(folder, facts.url or "", read_chain(Path(facts.certificates or "")))
    return LockedBucket(
        facts.bucket or "",
        prefix=facts.prefix,
        retention_days=facts.retention_days,
        endpoint_url=facts.endpoint_url,
        region=facts.region,
    )
