# SPDX-License-Identifier: Apache-2.0
"""Retention, legal holds and erasure (G5, G12): what of a job may go, when, and how the ledger tells of it.

Erasing takes the keys of a job's blobs: the tree stays, every proof that was handed out still verifies, and a
commitment whose salt is gone says nothing. Each act is an entry of the tenant's, in the transaction of the act.
"""
