# SPDX-License-Identifier: Apache-2.0
"""Requests under people's own signatures (S1): the keys that they enrolled, envelopes opened, nonces used once.

Enters who came in by the door, and an envelope's bytes; leaves what is asked, with the signature that asks it. The
envelope's form and what its signature covers are `ledger.envelope`'s, which the offline verifier reads, too. Not here:
what becomes of the request, which is the same as without a signature (`api`, `jobs`).
"""
