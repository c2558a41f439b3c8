# SPDX-License-Identifier: Apache-2.0
"""The sealer's side of a policy push: looks up what it replaces, judges it, signs, refuses.

Enters: the entries of a batch, in the sealer's transaction. Leaves: the same entries, a refusal right after each that
is refused, and a row for each signature, stored in the batch's own commit. SQL of the sealer's own; the rules are in
`policies`.
"""

from __future__ import annotations

from typing import TypeAlias

from ledger import policies
from ledger.batch import Alarms, Item
from ledger.chain import Draft
from ledger.errors import LedgerError, PolicyUnsigned
from ledger.keys import ECDSA_P256, spki
from ledger.pipe import Pipe, byteas, int64s, texts, uuids
from ledger.policies import Signed
from ledger.policy_key import load_policy_key
from ledger.sealer_config import SealerConfig
from ledger.sealer_keys import Published
from ledger.signer import Signer
from ledger.tables import number, text

POLICY = "policy"  # `purpose` of the published key

SignedPolicy: TypeAlias = tuple[str, Signed]
"""Entry id and what was signed."""


class PolicySigner:
    """Holds the policy key; without one it refuses everything."""

    def __init__(self, key: Signer | None, origin: str) -> None:
        self._key = key
        self._origin = origin

    @classmethod
    def of(cls, config: SealerConfig) -> PolicySigner:
        """The key of the sealer's folder."""
        return cls(load_policy_key(config.keys, config.custody), config.origin)

    def published(self) -> tuple[Published, ...]:
        """The public half, if there is one."""
        return (Published(POLICY, ECDSA_P256, spki(self._key.public)),) if self._key is not None else ()

    async def judge(self, pipe: Pipe, items: list[Item], alarms: Alarms) -> tuple[list[Item], list[SignedPolicy]]:
        """The batch with its refusals, and what was signed of it; nothing is read where nothing is asked."""
        if not any(item.draft.kind == policies.PUSHED for item in items):
            return items, []
        last = await _last(pipe)
        judged: list[Item] = []
        signed: list[SignedPolicy] = []
        for item in items:
            judged.append(item)
            if item.draft.kind == policies.PUSHED:
                try:
                    last = self._sign(item.draft, last)
                    signed.append((item.draft.entry_id, last))
                except LedgerError as error:
                    judged.append(alarms.policy_refused(item.draft, error))
        return judged, signed

    def _sign(self, draft: Draft, last: Signed | None) -> Signed:
        if self._key is None:
            raise PolicyUnsigned("this plane has no policy key")
        pushed = policies.read(draft)
        policies.check(pushed, last)
        message = policies.to_sign(policies.payload(pushed, draft.entry_id, self._origin))
        return Signed(pushed.number, pushed.revision, policies.jwt(message, self._key.sign(message)))

    def keep(self, pipe: Pipe, signed: list[SignedPolicy]) -> None:
        """Send the signatures, in the batch's transaction, after the entries that told of the pushes."""
        if signed:
            entries = uuids(entry_id for entry_id, _ in signed)
            numbers = int64s(one.number for _, one in signed)
            revisions = texts(one.revision for _, one in signed)
            pipe.send(_KEEP, entries, numbers, revisions, byteas(one.signature.encode() for _, one in signed))
            pipe.push()


async def _last(pipe: Pipe) -> Signed | None:
    rows = await pipe.answer(pipe.send(_LAST))
    return Signed(number(rows[0][0]), text(rows[0][1]), "") if rows else None


_LAST = "SELECT number, revision FROM ledger.policy_signature ORDER BY number DESC LIMIT 1"
_KEEP = """
    INSERT INTO ledger.policy_signature (entry_id, number, revision, signature)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bytea[])"""
