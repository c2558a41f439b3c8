# SPDX-License-Identifier: Apache-2.0
"""Costs, where money meets ledger, people and API: one file a verb. The sums themselves are `finops`' own."""
