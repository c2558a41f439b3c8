# SPDX-License-Identifier: Apache-2.0
"""Who manages a tenant's people, roles and projects, and how the first administrator comes to be (G13).

Each act is one transaction with its entry in the ledger: who gave what to whom, and why. Not here: who somebody is
(`auth`), and what the policies make of a role.
"""
