# SPDX-License-Identifier: Apache-2.0
"""Whether a stored push is what the sealer signed: its files give its revision, and each hash that was signed (I5).

Pure. What fails is `PolicyUnavailable`: files that were changed in the database decide nothing.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.policy import push
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.revision import PolicySet
from control_plane.policy.store import Stored
from ledger import policies as rules
from ledger.canonical import dumps
from ledger.errors import PolicyUnsigned


def opened(stored: Stored, public: ec.EllipticCurvePublicKey) -> PolicySet:
    """The policies of a push; raises PolicyUnavailable unless they are exactly what the signature covers."""
    policies = PolicySet.of(stored.files)
    try:
        said = rules.verify(stored.signature, public)
    except PolicyUnsigned as fault:
        raise PolicyUnavailable(f"policies {stored.revision}: {fault}") from fault
    wanted = rules.payload(push.body(policies, stored.number, stored.base), stored.entry_id, str(said.get("iss")))
    if policies.revision != stored.revision or wanted != dumps(said):
        raise PolicyUnavailable(f"policies {stored.revision}: the stored files are not those that were signed")
    return policies
