# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what they may do: tokens become a `Principal`, one table says what each role may do (G13, N13, S1).

Enters: a bearer token, the configured issuers, the plane's own role assignments. Leaves: a `Principal`, or a refusal
with a stable code. Imports nothing of `jobs` or `api`. Deliberately not here: what a *job* may do (Rego, `policy`),
and which tenant's rows a transaction sees (row-level security, I7).
"""
