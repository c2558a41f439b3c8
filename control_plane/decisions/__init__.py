# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions, read again (G2): what was judged, what was said, and what became of the job.

The record of authority is the entry in the ledger; what is read here is the job's row, which `ledger replay --compare`
holds to it, and the input that the entry commits to. Nothing here decides.
"""
