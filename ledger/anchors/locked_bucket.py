# SPDX-License-Identifier: Apache-2.0
"""S3 with object lock in compliance mode: nobody, the account's owner included, deletes a note before its time is over.

One object a head, `PREFIX/ORIGIN-HASH/SIZE.note`, with a retention of its own. The bucket MUST have object lock on,
which is asked before anything is put; after each put the retention that the store states is read back. Writing under a
name again makes a newer version and leaves the old one: the first version of a name is what counts, so that whoever has
the plane's credentials can add and not take away. Credentials are boto3's own (environment, file, instance role).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import checkpoint
from ledger.anchors.base import MAX_READ, file_name
from ledger.errors import AnchorAway

MODE = "COMPLIANCE"


class LockedBucket:
    """Notes in a bucket."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str,
        retention_days: int,
        endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:
        """Nothing is asked of the store yet."""
        self._bucket, self._prefix, self._keep = bucket, prefix.strip("/"), timedelta(days=retention_days)
        self._endpoint, self._region = endpoint_url, region
        self._made: Any = None

    def put(self, note: bytes) -> str:
        """Put an object under lock, unless one of that name is there."""
        head = checkpoint.parse(note)
        name = f"{self._prefix}/{hashlib.sha256(head.origin.encode()).hexdigest()[:16]}/{file_name(head)}"

        def asked(store: Any) -> str:
            _demand_lock(store, self._bucket)
            if not _is_there(store, self._bucket, name):
                store.put_object(
                    Bucket=self._bucket,
                    Key=name,
                    Body=note,
                    ContentType="text/plain; charset=utf-8",
                    ObjectLockMode=MODE,
                    ObjectLockRetainUntilDate=datetime.now(UTC) + self._keep,
                    ChecksumAlgorithm="SHA256",
                )
            kept = store.head_object(Bucket=self._bucket, Key=name)
            if kept.get("ObjectLockMode") != MODE:
                raise AnchorAway(f"{self._bucket}/{name} lies there without a lock")
            return f"s3://{self._bucket}/{name}"

        return str(self._ask(asked))

    def heads(self) -> list[bytes]:
        """The first version of each name, largest first; delete markers hide nothing."""

        def asked(store: Any) -> list[bytes]:
            first: dict[str, tuple[Any, str]] = {}
            for page in store.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix):
                for version in page.get("Versions", ()):
                    known = first.get(version["Key"])
                    if known is None or version["LastModified"] <= known[0]:  # listed newest first, times are cut
                        first[version["Key"]] = (version["LastModified"], version["VersionId"])
            names = sorted(first, key=lambda name: name.rpartition("/")[2], reverse=True)[:MAX_READ]
            return [
                store.get_object(Bucket=self._bucket, Key=name, VersionId=first[name][1])["Body"].read(
                    checkpoint.MAX_NOTE_BYTES
                )
                for name in names
            ]

        return list(self._ask(asked))

    def _ask(self, what: Any) -> Any:
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._made is None:
                limits = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2})
                session = Session(region_name=self._region)
                self._made = session.client("s3", endpoint_url=self._endpoint, config=limits)
            return what(self._made)
        except (BotoCoreError, ClientError) as error:
            raise AnchorAway(f"{self._bucket}: {error}") from error


def _demand_lock(store: Any, bucket: str) -> None:
    found = store.get_object_lock_configuration(Bucket=bucket)
    if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
        raise AnchorAway(f"{bucket} has no object lock: what lies there can be deleted")


def _is_there(store: Any, bucket: str, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        store.head_object(Bucket=bucket, Key=name)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
            return False
        raise
    return True
