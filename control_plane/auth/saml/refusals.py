# SPDX-License-Identifier: Apache-2.0
"""Why a provider's message is refused: each reason has one name and one sentence, and none holds a word of it (I10).

`SamlRefused` is the only error that reading a message raises, whatever its bytes are.
"""

from __future__ import annotations

from typing import Final

from control_plane.errors import Refused

__all__ = ["REASONS", "SamlRefused"]

REASONS: Final[dict[str, str]] = {
    "algorithm": "it is signed or encrypted with an algorithm that this plane doesn't accept",
    "assertions": "it must hold exactly one assertion",
    "attributes": "its attributes are no short lists of plain text",
    "audience": "it is not for this plane",
    "authentication": "it doesn't say when and how the person signed in, or that sign-in has ended",
    "browser": "the login was not begun in this browser, or it has ended: begin it anew",
    "certificates": "no certificate of the provider is valid now",
    "comment": "it holds a comment, which XML signatures don't cover",
    "conditions": "its conditions are missing, or of a kind that this plane doesn't know",
    "confirmation": "it doesn't confirm its subject as this plane wants it",
    "decryption": "it can't be decrypted with the keys of this plane",
    "destination": "it was meant for another address",
    "dtd": "it holds a document type, an entity or a CDATA section, which no SAML message needs",
    "encrypted_parts": "single names or attributes are encrypted, which this plane doesn't take",
    "expired": "it has expired",
    "identifiers": "its identifiers are missing or not unique",
    "in_response_to": "it doesn't answer the request of this login",
    "issuer": "it is not of the provider that this login is with",
    "metadata_expired": "the provider's metadata has expired: put its new file in place",
    "not_base64": "it is not base64",
    "not_saml": "it is no SAML 2.0 message of the kind that belongs here",
    "not_xml": "it is not well-formed XML in UTF-8",
    "not_yet_valid": "it is not valid yet",
    "processing_instruction": "it holds a processing instruction, which no SAML message needs",
    "replayed": "it has been used before",
    "schema": "it doesn't follow the schema of SAML 2.0",
    "signature": "its signature is not its provider's",
    "signature_form": "its signature is not of the one form that SAML 2.0 allows",
    "stale": "it was made too long ago",
    "status": "the identity provider refused the login",
    "subject": "it doesn't name the person by something that lasts",
    "too_large": "it is larger than this plane reads",
    "unencrypted": "its assertion is not encrypted, and this provider's must be",
    "unsigned": "its assertion is not signed",
    "unsolicited": "nobody here asked for it, and this provider may not send what wasn't asked for",
}


class SamlRefused(Refused):
    """The provider's message proves nobody. `reason` is a key of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__("saml_refused", f"{reason}: {REASONS[reason]}", extras={"reason": reason})
        self.reason = reason
